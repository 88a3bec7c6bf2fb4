package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/rueidis"
)

// fillsAtOnce bounds how many reads for the cache are under way.
const fillsAtOnce = 64

// connect makes the client, without a cache where the server cannot keep one up to date.
func (s *Store) connect(ctx context.Context, opt Options, conn rueidis.ClientOption) error {
	s.dialer = newDialer(conn.DialCtxFn, opt.Timeout/5, func() {
		// A new connection stands for one that was lost: what was cached over that one is not kept up to date any more.
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
		s.log.Warn("redisstore: this Redis offers no client-side caching (RESP3 and CLIENT TRACKING): each request will ask it", "err", err)
		s.cache, conn.DisableCache, conn.NewCacheStoreFn = nil, true, nil
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
		return r.err
	case <-ctx.Done():
		go func() {
			if r := <-ch; r.client != nil {
				r.client.Close()
			}
		}()
		return ctx.Err()
	}
}

// inspect warns of a set-up that will lose sessions or show them to others. It is no reason not to start.
func (s *Store) inspect(ctx context.Context, conn rueidis.ClientOption) {
	far := ""
	for _, addr := range conn.InitAddress {
		if host, _, err := net.SplitHostPort(addr); err == nil && !isLoopback(host) {
			far = addr
		}
	}
	if far != "" && conn.TLSConfig == nil {
		s.log.Warn("redisstore: the way to Redis is not encrypted; use rediss://", "addr", far)
	}
	if far != "" && conn.Password == "" && (conn.TLSConfig == nil || len(conn.TLSConfig.Certificates) == 0) {
		s.log.Warn("redisstore: Redis is used without a password", "addr", far)
	}
	for addr, node := range s.client.Nodes() {
		policy, err := evictionPolicy(ctx, node)
		switch {
		case err != nil:
			s.log.Warn("redisstore: cannot find out whether Redis may evict sessions; INFO memory was refused", "addr", addr, "err", err)
		case policy != "noeviction":
			s.log.Warn("redisstore: Redis may evict sessions when its memory is full, which logs people out; set maxmemory-policy noeviction",
				"addr", addr, "maxmemory-policy", policy)
		}
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// evictionPolicy asks by INFO, because CONFIG is a command that no application should be allowed.
func evictionPolicy(ctx context.Context, node rueidis.Client) (string, error) {
	info, err := node.Do(ctx, node.B().Info().Section("memory").Build()).ToString()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			return strings.TrimSpace(policy), nil
		}
	}
	return "", fmt.Errorf("INFO memory names no maxmemory_policy")
}
