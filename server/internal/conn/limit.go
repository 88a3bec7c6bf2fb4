package conn

import (
	"net/netip"
	"sync"
	"time"
)

// ConnLimit counts the connections of each client address. The zero value lets everybody in.
type ConnLimit struct {
	Max     int           // 0: no bound
	Refusal func() []byte // what is said over plain http to one too many

	mu     sync.Mutex
	n      map[netip.Addr]int // guarded by mu; no zeros
	warned time.Time          // guarded by mu
}

// acquire counts one more connection of the address, unless it has as many as it may; and reports then whether that is worth a
// line in the log, which it is once a minute. What is no IP address, as over a Unix socket, is not counted.
func (g *ConnLimit) acquire(addr netip.Addr, now time.Time) (ok, tell bool) {
	if g.Max == 0 || !addr.IsValid() {
		return true, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n[addr] >= g.Max {
		tell = now.Sub(g.warned) >= time.Minute
		if tell {
			g.warned = now
		}
		return false, tell
	}
	if g.n == nil {
		g.n = make(map[netip.Addr]int)
	}
	g.n[addr]++
	return true, false
}

func (g *ConnLimit) release(addr netip.Addr) {
	if g.Max == 0 || !addr.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n[addr]--; g.n[addr] == 0 {
		delete(g.n, addr)
	}
}
