//go:build !linux

package server

import "net"

// drain does nothing where accept cannot be asked not to wait.
func drain(net.Listener) []net.Conn { return nil }
