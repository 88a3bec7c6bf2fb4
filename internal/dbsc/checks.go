package dbsc

import (
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/clientnet"
)

const (
	// FailuresPerMinute is how many proofs of one client for one session may fail in a minute before no other is checked.
	FailuresPerMinute = 30
	// failuresKept bounds the memory of failures. Each is of a session that lives.
	failuresKept = 10_000
	// slotTimeout is how long a proof waits for the checks of others.
	slotTimeout = time.Second
)

// Checks bounds the work of checking signatures: so many at a time in all, and FailuresPerMinute failures of one client for
// one session. Failures of other clients, and of other sessions, never refuse a proof. Safe for concurrent use.
type Checks struct {
	slots chan struct{}

	mu       sync.Mutex
	failures map[proving]minute // guarded by mu
}

// proving is a client that proves the key of a session.
type proving struct {
	session coatcheck.Key
	client  netip.Addr // the first of its network
}

// minute is how many proofs have failed in the minute that began then.
type minute struct {
	began time.Time
	n     int
}

// NewChecks returns Checks that use at most half of the processors, and at least one.
func NewChecks() *Checks {
	return &Checks{
		slots:    make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		failures: make(map[proving]minute),
	}
}

// Begin waits for a free slot and reports whether there was one. End gives it back.
func (c *Checks) Begin() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
	}
	wait := time.NewTimer(slotTimeout)
	defer wait.Stop()
	select {
	case c.slots <- struct{}{}:
		return true
	case <-wait.C:
		return false
	}
}

// End ends what Begin began.
func (c *Checks) End() { <-c.slots }

// Throttled reports whether too many proofs of this client have failed for this session.
func (c *Checks) Throttled(session coatcheck.Key, client netip.Addr, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.failures[proving{session, clientnet.Of(client)}]
	return m.n >= FailuresPerMinute && m.within(now)
}

// Failed counts a proof that failed.
func (c *Checks) Failed(session coatcheck.Key, client netip.Addr, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who := proving{session, clientnet.Of(client)}
	m, known := c.failures[who]
	if !m.within(now) {
		m = minute{began: now}
	}
	if !known && len(c.failures) >= failuresKept {
		for other := range c.failures { // a full map must not free this client from its limit
			delete(c.failures, other)
			break
		}
	}
	m.n++
	c.failures[who] = m
}

func (m minute) within(now time.Time) bool {
	passed := now.Sub(m.began)
	return 0 <= passed && passed < time.Minute
}
