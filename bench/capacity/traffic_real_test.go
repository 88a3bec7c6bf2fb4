//go:build real

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func dial(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// browser is a client with one session.
type browser struct {
	mu     sync.Mutex
	user   string
	cookie string // guarded by mu
}

// traffic is browsers that send requests at random times, each to a random node.
type traffic struct {
	nodes    []*node
	browsers []*browser

	requests, refreshes, logouts float64 // wanted, a second

	made, refreshed, loggedOut atomic.Int64 // done
}

func newTraffic(tb testing.TB, nodes []*node, sessions int, requests, refreshes, logouts float64) *traffic {
	t := &traffic{nodes: nodes, browsers: make([]*browser, sessions), requests: requests, refreshes: refreshes, logouts: logouts}
	each(tb, make([]string, sessions), func(i int, _ string) error {
		b := &browser{user: fmt.Sprintf("user-%d", i)}
		var err error
		b.cookie, err = nodes[i%len(nodes)].login(b.user)
		t.browsers[i] = b
		return err
	})
	return t
}

// run makes traffic until the context ends, and returns what went wrong.
func (t *traffic) run(ctx context.Context) error {
	const workers = 64
	work := make(chan float64, 4096)
	errs := make([]error, workers)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for kind := range work {
				if err := t.one(kind); err != nil && errs[w] == nil {
					errs[w] = err
				}
			}
		})
	}
	all := t.requests + t.refreshes + t.logouts
	next := time.Now()
	for ctx.Err() == nil {
		next = next.Add(time.Duration(rand.ExpFloat64() / all * 1e9))
		if wait := time.Until(next); wait > time.Millisecond {
			time.Sleep(wait)
		}
		work <- rand.Float64() * all
	}
	close(work)
	running.Wait()
	return errors.Join(errs...)
}

// one sends one request, or a logout and the login after it.
func (t *traffic) one(kind float64) (err error) {
	b, at := t.browsers[rand.IntN(len(t.browsers))], t.nodes[rand.IntN(len(t.nodes))]
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case kind < t.requests:
		t.made.Add(1)
		return at.me(b.cookie)
	case kind < t.requests+t.refreshes:
		t.refreshed.Add(1)
		b.cookie, err = at.refresh(b.cookie)
		return err
	}
	t.loggedOut.Add(1)
	if err := at.logout(b.cookie); err != nil {
		return err
	}
	b.cookie, err = at.login(b.user)
	return err
}
