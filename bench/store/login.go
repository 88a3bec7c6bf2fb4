package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/valyala/fasthttp"
	"go.etcd.io/bbolt"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/bench/internal/report"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// logins is how many POST /auth/login a second 16 connections get through, the median of the rounds, and how that compares
// with the store that keeps nothing on disk, the median of the ratios within each round.
type logins struct {
	What      string
	PerSecond float64
	Ratio     float64
}

const (
	loginRounds  = 5
	loginsEach   = 20_000
	loginClients = 16
)

// kept is a store whose new sessions are also written to a database. A journal would write more than that: these figures are the
// least that a database could cost.
type kept struct {
	coatcheck.Store
	put  func(key, record []byte) error
	sync func() error
	done chan struct{}
	stop chan struct{}
}

func newKept(s coatcheck.Store, put func(key, record []byte) error, sync func() error) *kept {
	k := &kept{s, put, sync, make(chan struct{}), make(chan struct{})}
	go func() { // every second, as coatcheck does
		defer close(k.done)
		for {
			select {
			case <-k.stop:
				return
			case <-time.After(time.Second):
				_ = k.sync()
			}
		}
	}()
	return k
}

func (k *kept) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	if err := k.put(rec.Key[:], rec.Bytes()); err != nil {
		return 0, err
	}
	return k.Store.Create(ctx, rec, opt, now)
}

func measureLogins(int) ([]logins, error) {
	dir, err := os.MkdirTemp("", "bench-store")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	kinds := []struct {
		name string
		make func(dir string) (s coatcheck.Store, end func() error, err error)
	}{
		{"memory only", func(string) (coatcheck.Store, func() error, error) { return memoryStore("", 0) }},
		{"journal, fsync every second", func(dir string) (coatcheck.Store, func() error, error) { return memoryStore(dir, 0) }},
		{"journal, fsync before each answer", func(dir string) (coatcheck.Store, func() error, error) { return memoryStore(dir, -1) }},
		{"bbolt, fsync every second", boltStore},
		{"Pebble, fsync every second", pebbleStore},
	}
	rates := make([][]float64, len(kinds))
	for round := range loginRounds {
		for i, kind := range kinds {
			s, end, err := kind.make(filepath.Join(dir, fmt.Sprintf("%d-%d", round, i)))
			if err != nil {
				return nil, err
			}
			count := loginsEach
			if i == 2 {
				count /= 20
			}
			if i == 3 {
				count /= 4
			}
			rate, err := loginRate(s, count)
			if err := errors.Join(err, end()); err != nil {
				return nil, fmt.Errorf("%s: %w", kind.name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	var all []logins
	for i, kind := range kinds {
		var ratios []float64
		for round := range rates[i] {
			ratios = append(ratios, rates[i][round]/rates[0][round])
		}
		all = append(all, logins{kind.name, report.Median(rates[i]), report.Median(ratios)})
	}
	return all, nil
}

func memoryStore(dir string, every time.Duration) (coatcheck.Store, func() error, error) {
	s, err := shardstore.New(shardstore.Options{Dir: dir, FsyncEvery: every})
	if err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}

func boltStore(dir string) (coatcheck.Store, func() error, error) {
	db, err := bbolt.Open(dir+".bolt", 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		return nil, nil, err
	}
	bucket := []byte("sessions")
	if err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	}); err != nil {
		return nil, nil, err
	}
	return withDatabase(func(key, record []byte) error {
		return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(slices.Clone(key), slices.Clone(record)) })
	}, db.Sync, db.Close)
}

func pebbleStore(dir string) (coatcheck.Store, func() error, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return nil, nil, err
	}
	return withDatabase(func(key, record []byte) error { return db.Set(key, record, pebble.NoSync) },
		func() error { return db.LogData(nil, pebble.Sync) }, db.Close)
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func withDatabase(put func(key, record []byte) error, sync, shut func() error) (coatcheck.Store, func() error, error) {
	s, end, err := memoryStore("", 0)
	if err != nil {
		return nil, nil, err
	}
	k := newKept(s, put, sync)
	return k, func() error {
		close(k.stop)
		<-k.done
		return errors.Join(end(), shut())
	}, nil
}

// loginRate serves logins over TCP on the loopback, from this process to itself.
func loginRate(s coatcheck.Store, count int) (perSecond float64, err error) {
	app, err := server.New(s, server.Config{
		Cookie: server.Cookie{Name: "coatcheck", Insecure: true},
		Login:  login.Open{},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	web := &fasthttp.Server{Handler: app.Handler()}
	go func() { _ = web.Serve(ln) }()
	defer func() { _ = web.Shutdown() }()
	client := &fasthttp.HostClient{Addr: ln.Addr().String(), MaxConns: loginClients}

	var next atomic.Int64
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	began := time.Now()
	for range loginClients {
		running.Go(func() {
			var req fasthttp.Request
			var resp fasthttp.Response
			req.SetRequestURI("http://coatcheck/auth/login")
			req.Header.SetMethod(fasthttp.MethodPost)
			req.Header.SetContentType("application/json")
			for i := next.Add(1); i <= int64(count); i = next.Add(1) {
				req.SetBodyString(fmt.Sprintf(`{"user_id":"user-%d"}`, i))
				err := client.Do(&req, &resp)
				if err == nil && resp.StatusCode() != fasthttp.StatusOK {
					err = fmt.Errorf("status %d: %s", resp.StatusCode(), resp.Body())
				}
				if err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	running.Wait()
	perSecond = float64(count) / time.Since(began).Seconds()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return perSecond, nil
}
