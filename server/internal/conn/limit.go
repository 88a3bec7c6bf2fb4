package conn

import (
	"net/netip"
	"sync"
	"time"
)

// connLimit counts the open connections of each client. Addresses that are not IP, as of a Unix socket, are not counted.
type connLimit struct {
	max int // of one client; 0: no limit, and nothing is counted

	mu     sync.Mutex
	open   map[netip.Addr]int // guarded by mu; by client; entries are never zero
	warned time.Time          // guarded by mu
}

// acquire counts a connection from addr unless its client has reached the limit. warn tells a refusal that is to be logged: the
// first one in a minute.
func (l *connLimit) acquire(addr netip.Addr, now time.Time) (ok, warn bool) {
	if l.max == 0 || !addr.IsValid() {
		return true, false
	}
	client := clientOf(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client] >= l.max {
		warn = now.Sub(l.warned) >= time.Minute
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

// release takes back an acquire that was ok.
func (l *connLimit) release(addr netip.Addr) {
	if l.max == 0 || !addr.IsValid() {
		return
	}
	client := clientOf(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client]--; l.open[client] == 0 {
		delete(l.open, client)
	}
}

// clientOf returns what stands for the client at addr. For an IPv6 address that is its /64, the least that one client has.
func clientOf(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return addr
	}
	network, _ := addr.Prefix(64) // fails only for an address that is not valid
	return network.Addr()
}
