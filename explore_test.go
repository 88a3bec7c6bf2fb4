package coatcheck_test

import (
	"context"
	"strings"
	"testing"
)

// actor is a piece of a test that runs beside others. Each store operation that it makes with its context, and each pause,
// is a point at which another actor may go first.
type actor func(ctx context.Context)

// explore runs the actors that setup returns in every order in which their store operations can happen, and check after
// each. Only one actor runs at a time, so every run is deterministic, and a failure names its order.
func explore(t *testing.T, setup func(t *testing.T) (w *world, actors []actor, check func(t *testing.T))) {
	t.Helper()
	plan := new(plan)
	runs := 0
	for more := true; more && !t.Failed(); more = plan.next() {
		runs++
		w, actors, check := setup(t)
		trace := strings.Join(run(w, plan.pick, actors), " ")
		t.Run(trace, check)
	}
	t.Logf("%d orders", runs)
}

// plan enumerates choices: each run repeats a prefix of the run before, changes one choice, and takes the first alternative
// after that.
type plan struct {
	choice, options []int
	at              int
}

func (p *plan) pick(n int) int {
	if p.at == len(p.choice) {
		p.choice, p.options = append(p.choice, 0), append(p.options, n)
	}
	p.at++
	return p.choice[p.at-1]
}

func (p *plan) next() bool {
	p.at = 0
	for last := len(p.choice) - 1; last >= 0; last-- {
		if p.choice[last]+1 < p.options[last] {
			p.choice[last]++
			p.choice, p.options = p.choice[:last+1], p.options[:last+1]
			return true
		}
	}
	return false
}

type turn struct {
	name string
	goOn chan struct{}
	at   chan string // the operation that the actor waits before; closed when the actor is done
}

type turnKey struct{}

// pause is a point at which another actor may go first.
func pause(ctx context.Context, what string) {
	if t, ok := ctx.Value(turnKey{}).(*turn); ok {
		t.at <- what
		<-t.goOn
	}
}

func run(w *world, pick func(int) int, actors []actor) (trace []string) {
	w.store.before = func(ctx context.Context, op string) error {
		pause(ctx, op)
		return nil
	}
	defer func() { w.store.before = nil }()
	type runner struct {
		*turn
		next string
	}
	var running []runner
	for i, act := range actors {
		t := &turn{name: string(rune('A' + i)), goOn: make(chan struct{}), at: make(chan string)}
		go func() {
			defer close(t.at)
			act(context.WithValue(context.Background(), turnKey{}, t))
		}()
		if op, more := <-t.at; more {
			running = append(running, runner{t, op})
		}
	}
	for len(running) > 0 {
		i := pick(len(running))
		trace = append(trace, running[i].name+":"+running[i].next)
		running[i].goOn <- struct{}{}
		op, more := <-running[i].at
		if !more {
			running = append(running[:i], running[i+1:]...)
			continue
		}
		running[i].next = op
	}
	return trace
}
