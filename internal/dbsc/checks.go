package dbsc

import (
	"net/netip"
	"runtime"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/clientnet"
	"github.com/coatcheck/coatcheck/internal/perminute"
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
	slots    chan struct{}
	failures *perminute.Counts[proving]
}

// proving is a client that proves the key of a session.
type proving struct {
	session coatcheck.Key
	client  netip.Addr // the first of its network
}

// NewChecks returns Checks that use at most half of the processors, and at least one.
func NewChecks() *Checks {
	return &Checks{
		slots:    make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		failures: perminute.New[proving](FailuresPerMinute, failuresKept),
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
	return c.failures.Wait(proving{session, clientnet.Of(client)}, now) > 0
}

// Failed counts a proof that failed.
func (c *Checks) Failed(session coatcheck.Key, client netip.Addr, now time.Time) {
	c.failures.Add(proving{session, clientnet.Of(client)}, now)
}
