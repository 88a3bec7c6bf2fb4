package login

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// gate lets a few hashes be computed at a time, and a few more wait for it: so that logins cannot take all memory and all
// cores. Those that wait are let in in the order in which they came.
type gate struct {
	slots   chan struct{}
	queue   int64
	waiting atomic.Int64 // by whoever enters
}

// maxWait is how long an attempt waits for its turn. A person would wait longer, but those behind cannot.
const maxWait = time.Second

func newGate(slots, queue int) *gate {
	return &gate{slots: make(chan struct{}, slots), queue: int64(queue)}
}

// enter returns nil when it is the caller's turn, who must leave; ErrBusy when the queue is full, or the turn did not come
// in time.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > g.queue {
		return ErrBusy
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrBusy
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

func (g *gate) leave() { <-g.slots }
