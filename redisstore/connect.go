package redisstore

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// fillsAtOnce bounds how many reads for the cache are under way.
const fillsAtOnce = 64

// tryOut does one of each: it finds out now, and not at the first login, that the user whom Redis knows this store as may not
// read its keys or run scripts.
func (s *Store) tryOut(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	op := operation{name: "trying out a script", script: confirmScript, keys: []string{s.receiptKey(coatcheck.TagOf(""))}}
	_, err := s.run(ctx, op)
	return err
}

// connect makes the client, without a cache where the server cannot keep one up to date.
func (s *Store) connect(ctx context.Context, opt Options, conn rueidis.ClientOption) error {
	s.dialer = newDialer(conn.DialCtxFn, opt.Timeout/10, func() {
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
	ctx, cancel := context.WithTimeout(ctx, maxTimeout)
	defer cancel()
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
		s.inspectNode(ctx, addr, node)
	}
}

// inspectNode asks by INFO, because CONFIG is a command that no application should be allowed.
func (s *Store) inspectNode(ctx context.Context, addr string, node rueidis.Client) {
	memory, err := info(ctx, node, "memory")
	switch policy := memory["maxmemory_policy"]; {
	case err != nil:
		s.log.Warn("redisstore: cannot find out whether Redis may evict sessions; INFO memory was refused", "addr", addr, "err", err)
	case policy != "noeviction":
		s.log.Warn("redisstore: Redis may evict sessions when its memory is full, which logs people out; set maxmemory-policy noeviction",
			"addr", addr, "maxmemory-policy", policy)
	}
	if s.wait == 0 {
		return
	}
	replication, err := info(ctx, node, "replication")
	have, _ := strconv.Atoi(replication["connected_slaves"])
	if err == nil && replication["role"] == "master" && have < s.wait {
		s.log.Warn("redisstore: Redis has fewer replicas than are to be waited for: logouts, revocations and refreshes will fail",
			"addr", addr, "replicas", have, "wait", s.wait)
	}
}

func info(ctx context.Context, node rueidis.Client, section string) (map[string]string, error) {
	text, err := node.Do(ctx, node.B().Info().Section(section).Build().Pin()).ToString()
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
