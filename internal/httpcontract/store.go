package httpcontract

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
)

// These are the names of the store's operations, as a Double's hook gets them.
const (
	OpLoad    = "load"
	OpMark    = "mark"
	OpCreate  = "create"
	OpSwap    = "swap"
	OpEnd     = "end"
	OpList    = "list"
	OpScan    = "scan"
	OpEndUser = "enduser"
	OpPing    = "ping"
)

// ErrLost is an error that wraps no sentinel, like one of a database driver.
var ErrLost = errors.New("i/o timeout: no answer from 10.0.0.1:6379")

// Double is the store under the application: it counts the operations, and lets a test delay or fail them.
type Double struct {
	coatcheck.Store

	mu     sync.Mutex
	before func(op string) error // guarded by mu: an error means that the operation does not happen
	after  func(op string) error // guarded by mu: an error means that it happened and the answer was lost
	counts map[string]int        // guarded by mu
	kept   []Kept                // guarded by mu: what Create and Swap were given
}

// Kept is a copy of what a store was given to keep.
type Kept struct {
	Key   coatcheck.Key
	Bytes []byte
}

// Records returns everything that the store was given to keep so far.
func (d *Double) Records() []Kept {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept
}

func (d *Double) keep(rec *coatcheck.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.kept) < maxKept {
		d.kept = append(d.kept, Kept{rec.Key, bytes.Clone(rec.Bytes())})
	}
}

// maxKept bounds the kept records: it is more than any check looks at.
const maxKept = 1000

// On makes f run before every operation from now on; a nil f ends that.
func (d *Double) On(f func(op string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before = f
}

// Afterwards makes f run after every operation from now on.
func (d *Double) Afterwards(f func(op string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after = f
}

// Once makes f run before the next operation of that name, and only that one; f may use the store.
func (d *Double) Once(op string, f func()) {
	var did sync.Once
	d.On(func(got string) error {
		if got == op {
			did.Do(func() {
				d.On(nil)
				f()
			})
		}
		return nil
	})
}

// Failing makes the named operations fail with err, or all operations if none is named.
func (d *Double) Failing(err error, ops ...string) {
	d.On(func(op string) error {
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

// Calls returns how often an operation was called; "" counts all operations.
func (d *Double) Calls(op string) int {
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

func (d *Double) run(op string, f func() error) error {
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

// Load implements coatcheck.Store.
func (d *Double) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	return d.run(OpLoad, func() error { return d.Store.Load(ctx, key, id, now, rec) })
}

// Mark implements coatcheck.Store.
func (d *Double) Mark(ctx context.Context, user string, now time.Time) (mark coatcheck.Mark, err error) {
	err = d.run(OpMark, func() error { mark, err = d.Store.Mark(ctx, user, now); return err })
	return mark, err
}

// Create implements coatcheck.Store.
func (d *Double) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (n int, err error) {
	d.keep(rec)
	err = d.run(OpCreate, func() error { n, err = d.Store.Create(ctx, rec, opt, now); return err })
	return n, err
}

// Swap implements coatcheck.Store.
func (d *Double) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	d.keep(rec)
	return d.run(OpSwap, func() error { return d.Store.Swap(ctx, rec, old, now, cur) })
}

// End implements coatcheck.Store.
func (d *Double) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	return d.run(OpEnd, func() error { return d.Store.End(ctx, key, user, now, until, last) })
}

// List implements coatcheck.Store.
func (d *Double) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	return d.run(OpList, func() error { return d.Store.List(ctx, user, now, yield) })
}

// Scan implements coatcheck.Store.
func (d *Double) Scan(ctx context.Context, cursor string, limit int, now time.Time, yield func(*coatcheck.Record)) (next string, err error) {
	err = d.run(OpScan, func() error { next, err = d.Store.Scan(ctx, cursor, limit, now, yield); return err })
	return next, err
}

// EndUser implements coatcheck.Store.
func (d *Double) EndUser(ctx context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (n int, err error) {
	err = d.run(OpEndUser, func() error { n, err = d.Store.EndUser(ctx, user, keep, mark, now, until); return err })
	return n, err
}

// Ping implements coatcheck.Store.
func (d *Double) Ping(ctx context.Context) error {
	return d.run(OpPing, func() error { return d.Store.Ping(ctx) })
}
