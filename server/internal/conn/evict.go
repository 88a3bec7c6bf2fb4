package conn

import (
	"slices"
	"time"
)

const (
	// evictCheck is how often, at most, a listener looks for room while no connection is idle.
	evictCheck = 2 * time.Millisecond
	// evictShare bounds the time that looking takes to one part in so many: a pass over tens of thousands of connections that are all
	// in the middle of a request takes milliseconds, and clients can keep them there.
	evictShare = 20
	// headStart is how much later a new connection counts as idle. Its client may not have had the time for its first request yet, and
	// some proxies (nginx, all with Go's client) repeat a request only if the connection had been used before. One whose input is
	// discarded has it too: a client that is reset may not see its answer.
	headStart = time.Second
)

// makeRoom is called after the connection next was accepted. While more are open than may be, it closes those that have been idle
// longest, new ones that have sent nothing and those whose input is discarded included (see headStart), and waits for one to become
// idle, and for those that are being closed if they are many. The next connections wait in the kernel's backlog meanwhile.
func (l *listener) makeRoom(next *trackedConn) {
	for !l.closed.Load() {
		began := time.Now()
		if l.server.evict(next) {
			return
		}
		time.Sleep(max(evictCheck, evictShare*time.Since(began)))
	}
}

// closingAtOnce is how many connections may be open beside those that may be, because they are being closed: each has its descriptor
// until then.
const closingAtOnce = 16

// evict begins to close as many idle connections, other than next, as there are too many, and reports whether there is room
// then. Looking for the longest idle ones takes a pass over all, so it closes one in a hundred at once.
func (s *Server) evict(next *trackedConn) (room bool) {
	most := s.opts.MaxConns
	s.mu.Lock()
	defer s.mu.Unlock()
	if most == 0 || len(s.open) <= most {
		return true
	}
	type idle struct {
		conn *trackedConn
		from int64
	}
	var all []idle
	staying := 0
	for c := range s.open {
		state := c.state.Load()
		unused := state == stateNew || state == stateIdle || state == stateDiscarding
		if unused && c.wire.interrupted.Load() {
			continue // it is being closed
		}
		staying++
		if c != next && unused {
			from := c.wire.reads.from.Load()
			if state != stateIdle {
				from += int64(headStart)
			}
			all = append(all, idle{c, from})
		}
	}
	bounded := len(s.open) <= most+closingAtOnce // if not, connections come faster than others are closed
	excess := staying - most
	if excess <= 0 {
		return bounded
	}
	slices.SortFunc(all, func(a, b idle) int { return int(a.from - b.from) })
	for _, i := range all[:min(len(all), excess+most/100)] {
		if i.conn.closeIfIdle(0); i.conn.wire.interrupted.Load() {
			excess--
		}
	}
	return bounded && excess <= 0
}
