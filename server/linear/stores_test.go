package linear

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/coatcheck/coatcheck"
)

// around is a store with something done around each operation.
type around struct {
	coatcheck.Store
	do func(op func() error) error
}

// shaky delays some operations, before and after, so that requests meet each other at every point.
func shaky(store coatcheck.Store) coatcheck.Store {
	pause := func() {
		if rand.IntN(4) == 0 {
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		}
	}
	return around{store, func(op func() error) error {
		pause()
		defer pause()
		return op()
	}}
}

// losing lets some operations fail: some were not done, and of others only the answer is lost.
func losing(store coatcheck.Store) coatcheck.Store {
	return around{store, func(op func() error) error {
		switch rand.IntN(80) {
		case 0:
			return coatcheck.ErrUnavailable
		case 1:
			_ = op()
			return coatcheck.ErrUnavailable
		}
		return op()
	}}
}

func (a around) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	return a.do(func() error { return a.Store.Load(ctx, key, id, now, rec) })
}

func (a around) Mark(ctx context.Context, user string, now time.Time) (mark coatcheck.Mark, err error) {
	err = a.do(func() error { mark, err = a.Store.Mark(ctx, user, now); return err })
	return mark, err
}

func (a around) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (n int, err error) {
	err = a.do(func() error { n, err = a.Store.Create(ctx, rec, opt, now); return err })
	return n, err
}

func (a around) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	return a.do(func() error { return a.Store.Swap(ctx, rec, old, now, cur) })
}

func (a around) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	return a.do(func() error { return a.Store.End(ctx, key, user, now, until, last) })
}

func (a around) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	return a.do(func() error { return a.Store.List(ctx, user, now, yield) })
}

func (a around) EndUser(ctx context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (n int, err error) {
	err = a.do(func() error { n, err = a.Store.EndUser(ctx, user, keep, mark, now, until); return err })
	return n, err
}
