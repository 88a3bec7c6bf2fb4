package server

import (
	"bytes"
	"net/netip"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// guests counts the connections of each client address. The zero value lets everybody in.
type guests struct {
	max    int           // 0: no bound
	refuse func() []byte // what is said over plain http to one too many

	mu     sync.Mutex
	n      map[netip.Addr]int // guarded by mu; no zeros
	warned time.Time          // guarded by mu
}

// enter counts one more connection of the address, unless it has as many as it may; and reports then whether that is worth a
// line in the log, which it is once a minute. What is no IP address, as over a Unix socket, is not counted.
func (g *guests) enter(addr netip.Addr, now time.Time) (ok, tell bool) {
	if g.max == 0 || !addr.IsValid() {
		return true, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n[addr] >= g.max {
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

func (g *guests) leave(addr netip.Addr) {
	if g.max == 0 || !addr.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n[addr]--; g.n[addr] == 0 {
		delete(g.n, addr)
	}
}

// refusal is a whole response for a connection that is closed before it has asked for anything.
func (s *Server) refusal(p *problem) []byte {
	var ctx fasthttp.RequestCtx
	s.base.begin(&ctx)
	writeProblem(&ctx, p)
	ctx.SetConnectionClose()
	var b bytes.Buffer
	_, _ = ctx.Response.WriteTo(&b) // a buffer takes all
	return b.Bytes()
}
