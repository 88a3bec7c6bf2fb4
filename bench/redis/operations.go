package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

const (
	recordBytes = 128
	callers     = 256 // as many as the load of bench/peers has connections
	limit       = 100 // --max-sessions-per-user
	perUser     = 10  // logins of each user below the limit in a round
	perFullUser = 100 // logins of each user at the limit
)

// operation is something that the server asks of its store. do is called with the numbers from 0 to n-1, by callers at a time.
type operation struct {
	name   string
	budget float64 // at most this many times the cost of a SET; 0: no budget
	// prepare puts into Redis what the operation needs; it is not measured. Nil: the operation needs nothing.
	prepare func() error
	do      func(i int) error
}

// cost is what one operation costs Redis.
type cost struct {
	cpu      float64 // microseconds of the process
	commands map[string]command
}

// round is the costs by operation.
type round map[string]cost

type bench struct {
	server *redistest.Server
	store  *redisstore.Store
	n      int
	recs   []*coatcheck.Record // of the operations that go on with a session
	tokens []coatcheck.Token
	list   []operation
}

// The first two operations are plain commands, not the store's. They are so quick that each is done this many times as often.
const plainTimes = 10

const (
	set = "SET, 128 bytes, pipelined by 16"
	get = "GET, the same"
)

func newBench(tb *process, n int) (*bench, error) {
	b := &bench{server: redistest.Start(tb), n: n}
	opt := redisstore.Options{URL: b.server.URL(), Timeout: 3 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	users, fullUsers := max(1, n/perUser), max(1, n/perFullUser)
	var err error
	if b.store, err = redisstore.New(context.Background(), opt); err != nil {
		return nil, err
	}
	b.list = []operation{
		{name: set},
		{name: get, prepare: func() error { return plain(b.server, plainKeys, plainSet) }},
		{"login below the limit", 8, func() error { return b.logins(users*5, users) }, func(i int) error { return b.login(i%users, true) }},
		{"the same without a mark", 8, func() error { return b.logins(users*5, users) }, func(i int) error { return b.login(i%users, false) }},
		{"login at the limit of 100", 16, func() error { return b.logins(fullUsers*(limit+1), fullUsers) }, func(i int) error { return b.login(i%fullUsers, true) }},
		{"refresh", 5, b.sessions, func(i int) error { return b.swap(i, rotated) }},
		{"renewal", 0, b.sessions, func(i int) error { return b.swap(i, renewed) }},
		{"logout", 0, b.sessions, b.logout},
		{"miss", 0, b.sessions, b.miss},
		{"miss of a made-up token", 0, nil, b.madeUp},
	}
	return b, nil
}

func (b *bench) close() { _ = b.store.Close() } // the process ends

// round does each operation n times.
func (b *bench) round() (round, error) {
	r := round{}
	for _, op := range b.list {
		b.server.Must("FLUSHALL")
		if op.prepare != nil {
			if err := op.prepare(); err != nil {
				return nil, fmt.Errorf("%s, prepared: %w", op.name, err)
			}
		}
		before := readSpent(b.server)
		n, err := b.measure(op)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op.name, err)
		}
		r[op.name] = readSpent(b.server).per(n, before)
	}
	return r, nil
}

// measure does an operation, and returns how often.
func (b *bench) measure(op operation) (n int, err error) {
	switch op.name {
	case set:
		return plainTimes * b.n, plain(b.server, plainTimes*b.n, plainSet)
	case get:
		return plainTimes * b.n, plain(b.server, plainTimes*b.n, plainGet)
	default:
		return b.n, parallel(b.n, op.do)
	}
}

// parallel calls f with the numbers from 0 to n-1.
func parallel(n int, f func(i int) error) error {
	var next atomic.Int64
	var running sync.WaitGroup
	errs := make([]error, callers)
	for c := range callers {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[c] == nil; i = int(next.Add(1)) - 1 {
				errs[c] = f(i)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

func user(i int) string { return fmt.Sprintf("user-%05d", i) }

// record returns the first record of a session, of recordBytes.
func record(user string, token coatcheck.Token) (*coatcheck.Record, error) {
	now := time.Now()
	h := coatcheck.Header{
		Version: 1, ID: token.ID(), RotatedAt: now.UnixMilli(), CreatedAt: now.UnixMilli(), LastSeen: now.UnixMilli(),
		IdleExpiry: now.Add(30 * time.Minute).UnixMilli(), AbsoluteExpiry: now.Add(12 * time.Hour).UnixMilli(),
	}
	rec := new(coatcheck.Record)
	agent := make([]byte, recordBytes-89-2-len(user)-1-4-2)
	return rec, rec.Write(token.Key(), h, []byte(user), []byte{192, 0, 2, 7}, agent, nil)
}

// login is what the server asks for a login: the mark, before credentials are checked that take time, and the session.
func (b *bench) login(i int, marked bool) error {
	ctx, name := context.Background(), user(i)
	opt := coatcheck.CreateOptions{Mark: coatcheck.AnyMark}
	if marked {
		var err error
		if opt.Mark, err = b.store.Mark(ctx, name, time.Now()); err != nil {
			return err
		}
	}
	opt.Limit, opt.Until = limit, time.Now().Add(10*time.Second)
	rec, err := record(name, coatcheck.NewToken(coatcheck.TagOf(name)))
	if err != nil {
		return err
	}
	_, err = b.store.Create(ctx, rec, opt, time.Now())
	return err
}

// logins lets n sessions of so many users begin.
func (b *bench) logins(n, of int) error {
	return parallel(n, func(i int) error { return b.login(i%of, false) })
}

// sessions begins a session for each operation of a round, of a user of its own.
func (b *bench) sessions() error {
	b.recs, b.tokens = make([]*coatcheck.Record, b.n), make([]coatcheck.Token, b.n)
	return parallel(b.n, func(i int) (err error) {
		name := user(i)
		b.tokens[i] = coatcheck.NewToken(coatcheck.TagOf(name))
		if b.recs[i], err = record(name, b.tokens[i]); err != nil {
			return err
		}
		_, err = b.store.Create(context.Background(), b.recs[i], coatcheck.CreateOptions{}, time.Now())
		return err
	})
}

func rotated(h *coatcheck.Header, token coatcheck.Token) {
	h.PrevID, h.PrevUntil, h.ID, h.RotatedAt = h.ID, coatcheck.PrevOpen, token.Rotated().ID(), time.Now().UnixMilli()
}

func renewed(h *coatcheck.Header, _ coatcheck.Token) {
	h.LastSeen = time.Now().UnixMilli()
	h.IdleExpiry += 60_000
}

func (b *bench) swap(i int, change func(*coatcheck.Header, coatcheck.Token)) error {
	var next, cur coatcheck.Record
	rec := b.recs[i]
	h := rec.Header
	h.Version++
	change(&h, b.tokens[i])
	if err := next.Rewrite(rec, h, nil); err != nil {
		return err
	}
	return b.store.Swap(context.Background(), &next, rec.Version, time.Now(), &cur)
}

func (b *bench) logout(i int) error {
	var last coatcheck.Record
	now := time.Now()
	return b.store.End(context.Background(), b.recs[i].Key, b.recs[i].UserID(), now, now.Add(10*time.Second), &last)
}

func (b *bench) miss(i int) error {
	var got coatcheck.Record
	return b.store.Load(context.Background(), b.recs[i].Key, b.recs[i].ID, time.Now(), &got)
}

func (b *bench) madeUp(int) error {
	var got coatcheck.Record
	token := coatcheck.NewToken(coatcheck.TagOf(""))
	if err := b.store.Load(context.Background(), token.Key(), token.ID(), time.Now(), &got); !errors.Is(err, coatcheck.ErrNotFound) {
		return fmt.Errorf("a made-up token: %w", err)
	}
	return nil
}
