package bench

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// liveTokens logs inTurn users in.
func liveTokens(tb testing.TB, s *server.Server) [][]byte {
	tb.Helper()
	c := newClient(tb, s.Handler())
	tokens := make([][]byte, inTurn)
	for i := range tokens {
		tokens[i] = c.login(fmt.Sprintf("user-%d", i))
	}
	c.prepare(fasthttp.MethodGet, "/auth/me", tokens[0], "")
	c.do(fasthttp.StatusOK)
	require.True(tb, decode(tb, c.ctx.Response.Body()).Authenticated)
	return tokens
}

// BenchmarkMe is GET /auth/me with a live session: 64 sessions in turn, of a million in the store.
func BenchmarkMe(b *testing.B) {
	store := newStore(b)
	fill(b, store, resident)
	s := newServer(b, store)
	tokens := liveTokens(b, s)
	clients := make([]*client, inTurn)
	for i := range clients {
		clients[i] = newClient(b, s.Handler())
		clients[i].prepare(fasthttp.MethodGet, "/auth/me", tokens[i], "")
	}
	clients[0].do(fasthttp.StatusOK)
	twin := newTwin(b, &clients[0].ctx.Response)
	for _, v := range [...]struct {
		name    string
		handler fasthttp.RequestHandler
	}{{"coatcheck", s.Handler()}, {"twin", twin}} {
		b.Run(v.name, func(b *testing.B) {
			for _, c := range clients {
				c.tb, c.handler = b, v.handler
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				clients[i%inTurn].do(fasthttp.StatusOK)
			}
		})
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
	s := newServer(b, newStore(b))
	bodies := make([]string, 10_000)
	for i := range bodies {
		bodies[i] = fmt.Sprintf(`{"user_id":"user-%d"}`, i)
	}
	withTwin(b, s.Handler(), fasthttp.StatusOK, func(c *client, i int) {
		c.prepare(fasthttp.MethodPost, "/auth/login", nil, bodies[i%len(bodies)])
	})
}

// BenchmarkRefresh is POST /auth/refresh, each with the token that the one before it set.
func BenchmarkRefresh(b *testing.B) {
	s := newServer(b, newStore(b))
	withTwin(b, s.Handler(), fasthttp.StatusOK, func(c *client, i int) {
		var token []byte
		if i == 0 {
			token = newClient(b, s.Handler()).login("user")
		} else {
			token = c.token()
		}
		c.prepare(fasthttp.MethodPost, "/auth/refresh", token, "")
	})
}

// BenchmarkLogout is POST /auth/logout of a live session, with the login that it takes.
func BenchmarkLogout(b *testing.B) {
	s := newServer(b, newStore(b))
	logins := newClient(b, s.Handler())
	withTwin(b, s.Handler(), fasthttp.StatusNoContent, func(c *client, _ int) {
		token := logins.login("user")
		c.prepare(fasthttp.MethodPost, "/auth/logout", token, "")
	})
}

// BenchmarkSession is the session work alone, without Fiber: open, read one value, finish.
func BenchmarkSession(b *testing.B) {
	store := newStore(b)
	fill(b, store, resident)
	tokens := liveTokens(b, newServer(b, store))
	m, err := coatcheck.NewManager(store, coatcheck.Policy{})
	require.NoError(b, err)
	var s coatcheck.Session
	var p coatcheck.Presented
	ctx, now := context.Background(), time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p = coatcheck.Presented{}
		p.Add(tokens[i%inTurn][len(cookieName)+1:])
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
