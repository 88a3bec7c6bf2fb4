package conn

import (
	"net/netip"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/internal/clientnet"
)

// connLimit counts the open connections of each client. Addresses that are not IP addresses, as of a Unix socket, are not
// counted.
type connLimit struct {
	max int // of one client; 0: no limit, and nothing is counted

	mu     sync.Mutex
	open   map[netip.Addr]int // guarded by mu; by client; entries are never zero
	warned time.Time          // guarded by mu
}

// acquire counts a connection from addr unless its client has reached the limit. warn says that a refusal is to be logged: it
// is the first one in a minute.
func (l *connLimit) acquire(addr netip.Addr, now time.Time) (ok, warn bool) {
	if l.max == 0 || !addr.IsValid() {
		return true, false
	}
	client := clientnet.Of(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client] >= l.max {
		since := now.Sub(l.warned)
		warn = since >= time.Minute || since < 0 // a clock that was set back must not silence warnings until it has caught up
		if warn {
			l.warned = now
		}
		return false, warn
	}
	if l.open == nil {
		l.open = make(map[netip.Addr]int)
	}
	l.open[client]++
	return true, false
}

// release undoes an acquire that returned ok.
func (l *connLimit) release(addr netip.Addr) {
	if l.max == 0 || !addr.IsValid() {
		return
	}
	client := clientnet.Of(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client]--; l.open[client] == 0 {
		delete(l.open, client)
	}
}
