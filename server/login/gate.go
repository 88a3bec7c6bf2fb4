package login

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// gate bounds how many hashes are computed at a time, and how many more wait, so that logins cannot take all memory and all
// cores. Waiting attempts enter in the order in which they came.
type gate struct {
	slots   chan struct{}
	queue   int64
	waiting atomic.Int64 // written by enter
}

// maxWait is how long an attempt waits for its turn. A person would wait longer, but the attempts behind this one cannot.
const maxWait = time.Second

func newGate(slots, queue int) *gate {
	return &gate{slots: make(chan struct{}, slots), queue: int64(queue)}
}

// enter returns nil when it is the caller's turn, and the caller must call leave; it returns ErrBusy if the queue is full
// or the turn did not come in time.
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
