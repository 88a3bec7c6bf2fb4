package redisstore

import (
	"context"
	"errors"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// fillsAtOnce bounds how many reads for the cache are under way.
const fillsAtOnce = 64

// tryOut does one read and one script, so that New, not the first login, finds out if the store's Redis user may not read
// its keys or run scripts.
func (s *Store) tryOut(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	op := operation{name: "trying out a script", script: confirmScript, keys: []string{s.receiptKey(coatcheck.TagOf(""))}, touches: none}
	_, err := s.run(ctx, op)
	return err
}

// connect makes the client, without a cache where the server cannot keep one up to date.
func (s *Store) connect(ctx context.Context, opt Options, conn rueidis.ClientOption) error {
	s.dialer = newDialer(conn.DialCtxFn, opt.Timeout/10, func() {
		// A new connection stands for one that was lost: what was cached over the lost one is not kept up to date any more.
		if s.cache != nil {
			s.cache.flush()
		}
	})
	conn.DialCtxFn = s.dialer.dial
	if !conn.DisableCache {
		s.cache, s.cacheTTL = newCache(opt.Prefix, opt.CacheSize), opt.CacheTTL
		s.fills = make(chan struct{}, fillsAtOnce)
		conn.NewCacheStoreFn = s.cache.newStore
	}
	err := s.open(ctx, conn)
	if errors.Is(err, rueidis.ErrNoCache) {
		s.noCache = err
		s.cache, conn.DisableCache, conn.NewCacheStoreFn = nil, true, nil
		if conn.ClientName == defaultClientName { // without RESP3 it takes CLIENT SETNAME
			conn.ClientName, conn.Sentinel.ClientName = "", ""
		}
		err = s.open(ctx, conn)
	}
	if err != nil {
		s.dialer.close()
	}
	return err
}

// open is rueidis.NewClient with a context.
func (s *Store) open(ctx context.Context, conn rueidis.ClientOption) error {
	type opened struct {
		client rueidis.Client
		err    error
	}
	ch := make(chan opened, 1)
	go func() {
		client, err := rueidis.NewClient(conn)
		ch <- opened{client, err}
	}()
	select {
	case r := <-ch:
		s.client = r.client
		return quoted(r.err)
	case <-ctx.Done():
		go func() {
			if r := <-ch; r.client != nil {
				r.client.Close()
			}
		}()
		return ctx.Err()
	}
}
