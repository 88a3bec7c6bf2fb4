package servertest

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Names of the store's operations, as a double's hook sees them.
const (
	opLoad    = "load"
	opMark    = "mark"
	opCreate  = "create"
	opSwap    = "swap"
	opEnd     = "end"
	opList    = "list"
	opEndUser = "enduser"
	opPing    = "ping"
)

// double is the store under the server: it counts the operations, and lets a test delay or fail them.
type double struct {
	coatcheck.Store

	mu     sync.Mutex
	before func(op string) error // guarded by mu: an error means that the operation does not happen
	after  func(op string) error // guarded by mu: an error means that it happened and the answer was lost
	counts map[string]int        // guarded by mu
	kept   []keptRecord          // guarded by mu: what Create and Swap were given
}

// keptRecord is a copy of what a store was given to keep.
type keptRecord struct {
	key   coatcheck.Key
	bytes []byte
}

// records returns everything that the store was given to keep so far.
func (d *double) records() []keptRecord {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept
}

func (d *double) keep(rec *coatcheck.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.kept) < maxKept {
		d.kept = append(d.kept, keptRecord{rec.Key, bytes.Clone(rec.Bytes())})
	}
}

// maxKept is more than any check looks at.
const maxKept = 1000

// on makes f run before every operation from now on; nil: nothing.
func (d *double) on(f func(op string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before = f
}

// afterwards makes f run after every operation from now on.
func (d *double) afterwards(f func(op string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after = f
}

// once makes f run before the next operation of that name, and only that one; f may use the store.
func (d *double) once(op string, f func()) {
	var did sync.Once
	d.on(func(got string) error {
		if got == op {
			did.Do(func() {
				d.on(nil)
				f()
			})
		}
		return nil
	})
}

// failing makes the named operations fail with err, all of them if none is named.
func (d *double) failing(err error, ops ...string) {
	d.on(func(op string) error {
		if len(ops) == 0 {
			return err
		}
		for _, o := range ops {
			if o == op {
				return err
			}
		}
		return nil
	})
}

// calls returns how often an operation was called, all of them for "".
func (d *double) calls(op string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if op != "" {
		return d.counts[op]
	}
	n := 0
	for _, c := range d.counts {
		n += c
	}
	return n
}

func (d *double) run(op string, f func() error) error {
	d.mu.Lock()
	if d.counts == nil {
		d.counts = make(map[string]int)
	}
	d.counts[op]++
	before, after := d.before, d.after
	d.mu.Unlock()
	if before != nil {
		if err := before(op); err != nil {
			return err
		}
	}
	err := f()
	if after != nil {
		if lost := after(op); lost != nil {
			return lost
		}
	}
	return err
}

func (d *double) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	return d.run(opLoad, func() error { return d.Store.Load(ctx, key, id, now, rec) })
}

func (d *double) Mark(ctx context.Context, user string, now time.Time) (mark coatcheck.Mark, err error) {
	err = d.run(opMark, func() error { mark, err = d.Store.Mark(ctx, user, now); return err })
	return mark, err
}

func (d *double) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (n int, err error) {
	d.keep(rec)
	err = d.run(opCreate, func() error { n, err = d.Store.Create(ctx, rec, opt, now); return err })
	return n, err
}

func (d *double) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	d.keep(rec)
	return d.run(opSwap, func() error { return d.Store.Swap(ctx, rec, old, now, cur) })
}

func (d *double) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	return d.run(opEnd, func() error { return d.Store.End(ctx, key, user, now, until, last) })
}

func (d *double) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	return d.run(opList, func() error { return d.Store.List(ctx, user, now, yield) })
}

func (d *double) EndUser(ctx context.Context, user string, keep coatcheck.Key, now, until time.Time) (n int, err error) {
	err = d.run(opEndUser, func() error { n, err = d.Store.EndUser(ctx, user, keep, now, until); return err })
	return n, err
}

func (d *double) Ping(ctx context.Context) error {
	return d.run(opPing, func() error { return d.Store.Ping(ctx) })
}
