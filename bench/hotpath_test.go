package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// BenchmarkMe is GET /auth/me with a live session: of 64 in turn, and of all that the store holds ("spread"), where each
// request is also parsed, the twin's too. On Redis, warm is a hit in the node's cache, and cold is a request without a cache; a bare
// GET over the same kind of connection is measured for comparison with cold.
func BenchmarkMe(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		r := million(b)
		b.Run("64", r.inTurn)
		b.Run("spread", r.spread)
	})
	b.Run("redis", func(b *testing.B) {
		redis := redistest.Start(b)
		store := newRedis(b, redis, 12*time.Hour)
		r := &resident{store: store, n: number(inRedis), server: newServer(b, store)}
		require.NoError(b, r.fill(inTurn))
		r.warm(b, store)
		b.Run("warm/64", onlyHits(store, r.inTurn))
		b.Run("warm/spread", onlyHits(store, r.spread))

		r.store = newRedis(b, redis, -1)
		r.server = newServer(b, r.store)
		b.Run("cold/64", r.inTurn)
		b.Run("cold/spread", r.spread)
		b.Run("cold/bare-GET", func(b *testing.B) { bareGet(b, redis) })
	})
}

// inTurn is me by 64 clients whose requests were parsed before.
func (r *resident) inTurn(b *testing.B) {
	clients := make([]*client, inTurn)
	for i := range clients {
		clients[i] = newClient(b, r.server.Handler())
		clients[i].me(r.cookie(r.any(i)))
	}
	twin := newTwin(b, &clients[0].ctx.Response)
	run := func(handler fasthttp.RequestHandler) func(*testing.B) {
		return func(b *testing.B) {
			for _, c := range clients {
				c.tb, c.handler = b, handler
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				clients[i%inTurn].do(fasthttp.StatusOK)
			}
		}
	}
	b.Run("coatcheck", run(r.server.Handler()))
	b.Run("twin", run(twin))
}

// spread is me with all sessions that the store holds.
func (r *resident) spread(b *testing.B) {
	withTwin(b, r.server.Handler(), fasthttp.StatusOK, func(c *client, i int) {
		c.prepare(fasthttp.MethodGet, "/auth/me", r.cookie(r.any(i)), "")
	})
}

// onlyHits fails a benchmark in which the cache did not answer every request.
func onlyHits(store *redisstore.Store, f func(*testing.B)) func(*testing.B) {
	return func(b *testing.B) {
		before := store.Stats()
		f(b)
		after := store.Stats()
		if after.Hits == before.Hits || after.Misses != before.Misses {
			b.Errorf("%d hits and %d misses of a warm cache", after.Hits-before.Hits, after.Misses-before.Misses)
		}
	}
}

// bareGet is the least that a round trip costs: a GET of as many bytes, and nothing else.
func bareGet(b *testing.B, redis *redistest.Server) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{redis.Addr()}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1,
	})
	require.NoError(b, err)
	defer client.Close()
	ctx := context.Background()
	require.NoError(b, client.Do(ctx, client.B().Set().Key("bare").Value(strings.Repeat("x", 128)).Build()).Error())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Do(ctx, client.B().Get().Key("bare").Build()).AsBytes(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMeAnonymous is GET /auth/me without a cookie.
func BenchmarkMeAnonymous(b *testing.B) {
	s := newServer(b, newStore(b))
	prepared := map[*client]bool{}
	withTwin(b, s.Handler(), fasthttp.StatusOK, func(c *client, _ int) {
		if !prepared[c] {
			c.prepare(fasthttp.MethodGet, "/auth/me", nil, "")
			prepared[c] = true
		}
	})
}

// BenchmarkLogin is POST /auth/login without a cookie, of 10,000 users in turn.
func BenchmarkLogin(b *testing.B) {
	bodies := make([]string, 10_000)
	for i := range bodies {
		bodies[i] = fmt.Sprintf(`{"user_id":"user-%d"}`, i)
	}
	onBoth(b, func(b *testing.B, store coatcheck.Store) {
		withTwin(b, newServer(b, store).Handler(), fasthttp.StatusOK, func(c *client, i int) {
			c.prepare(fasthttp.MethodPost, "/auth/login", nil, bodies[i%len(bodies)])
		})
	})
}

// BenchmarkRefresh is POST /auth/refresh, each with the token that the one before it set.
func BenchmarkRefresh(b *testing.B) {
	onBoth(b, func(b *testing.B, store coatcheck.Store) {
		s := newServer(b, store)
		withTwin(b, s.Handler(), fasthttp.StatusOK, func(c *client, i int) {
			var token []byte
			if i == 0 {
				token = newClient(b, s.Handler()).login("user")
			} else {
				token = c.token()
			}
			c.prepare(fasthttp.MethodPost, "/auth/refresh", token, "")
		})
	})
}

// BenchmarkLogout is POST /auth/logout of a live session, with the login that it takes, the twin's too.
func BenchmarkLogout(b *testing.B) {
	onBoth(b, func(b *testing.B, store coatcheck.Store) {
		s := newServer(b, store)
		logins := newClient(b, s.Handler())
		withTwin(b, s.Handler(), fasthttp.StatusNoContent, func(c *client, _ int) {
			token := logins.login("user")
			c.prepare(fasthttp.MethodPost, "/auth/logout", token, "")
		})
	})
}

// BenchmarkSession is the session work alone, without Fiber: open, read the user, finish; 64 sessions in turn of a million.
// bench/jwt has it beside the check of a JWT.
func BenchmarkSession(b *testing.B) {
	r := million(b)
	m, err := coatcheck.NewManager(r.store, policy)
	require.NoError(b, err)
	var s coatcheck.Request
	var p coatcheck.Presented
	ctx, now := context.Background(), time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p = coatcheck.Presented{}
		p.Add(r.cookie(r.any(i % inTurn))[len(cookieName)+1:])
		if err := m.Open(ctx, &s, &p, coatcheck.Client{}, now); err != nil {
			b.Fatal(err)
		}
		if len(s.RawUserID()) == 0 {
			b.Fatal("anonymous")
		}
		if err := s.Finish(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
