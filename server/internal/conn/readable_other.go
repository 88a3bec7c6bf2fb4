//go:build !linux || !gc || !go1.26 || go1.27

package conn

import (
	"net"
	"time"
)

type readable struct{}

const endSeenWithin = time.Second

func newReadable(net.Conn) *readable { return nil }

func (*readable) await() {}
