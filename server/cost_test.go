package server_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func itoa(n int) string { return strconv.Itoa(n) }

func frozenConfig() server.Config { return server.Config{Policy: coatcheck.Policy{Now: frozen()}} }

// quickly is a tenth of n under the race detector, which looks for something else; the run without it does them all.
func quickly(n int) int {
	if raceDetector {
		return n / 10
	}
	return n
}

func madeUp() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// A login keeps copies of what it is given, and allocates little else.
func TestAllocationsOfALogin(t *testing.T) {
	cfg := frozenConfig()
	cfg.Logger = slog.New(slog.DiscardHandler)
	c := newClient(t, newStore(t), cfg)
	require.True(t, c.parse(requestText("POST", "/auth/login", `{"user_id":"user-42"}`, "Content-Type: application/json")))
	allocs := testing.AllocsPerRun(1000, func() {
		if c.handle().StatusCode() != 200 {
			panic("not the answer that is measured")
		}
	})
	if !raceDetector {
		assert.LessOrEqual(t, allocs, 5.0)
	}
}

// The hot path allocates nothing, from the router to the response; nor does reading a header full of cookies (CKP-05).
func TestNoAllocations(t *testing.T) {
	cfg := frozenConfig()
	cfg.Login = sayingGroups{}
	c := newClient(t, newStore(t), cfg)
	token, inGroups := c.login("user-42"), c.login("groups")
	for name, req := range map[string]struct {
		path, cookie string
		status       int
	}{
		"me":                          {"/auth/me", cookieLine(token), 200},
		"me, anonymous":               {"/auth/me", "X-None: 1", 200},
		"verify":                      {"/auth/verify", cookieLine(token), 200},
		"verify, eight groups":        {"/auth/verify", cookieLine(inGroups), 200},
		"verify, a rule":              {"/auth/verify?group=admins,g%31,g7", cookieLine(inGroups), 200},
		"me, after 8 KiB of cookies":  {"/auth/me", "Cookie: " + strings.Repeat("a=;", 2600) + cookieName + "=" + token, 200},
		"me, among 8 KiB of quotes":   {"/auth/me", "Cookie: " + strings.Repeat(`"=;`, 2600) + cookieName + "=" + token, 200},
		"me, after 160 malformed":     {"/auth/me", "Cookie: " + strings.Repeat(cookieName+"=x; ", 160) + cookieName + "=" + token, 200},
		"me, the same token 30 times": {"/auth/me", "Cookie: " + strings.Repeat(cookieName+"="+token+"; ", 30), 200},
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, c.parse(requestText("GET", req.path, "", req.cookie)))
			allocs := testing.AllocsPerRun(1000, func() {
				if c.handle().StatusCode() != req.status {
					panic("not the answer that is measured")
				}
			})
			if !raceDetector {
				assert.Zero(t, allocs)
			}
		})
	}
}

// Nor does verify allocate where Remote-User shows a claim.
func TestNoAllocationsForAClaim(t *testing.T) {
	p := oidctest.New(t)
	for _, claim := range []string{"email", "sid"} {
		cfg := frozenConfig()
		provider, err := oidc.New(oidc.Options{
			Issuer: p.URL, ClientID: oidctest.ClientID, Secret: func() string { return oidctest.Secret }, ExternalURL: "http://localhost:4000",
			StateKeys: oidc.RandomStateKey(), Timeout: time.Minute, Now: cfg.Policy.Now, RemoteUser: claim,
		})
		require.NoError(t, err)
		t.Cleanup(provider.Close)
		cfg.Login, cfg.OIDC = login.Provider{}, provider
		c := newClient(t, newStore(t), cfg)
		begun := c.do("GET", "/auth/oidc/login", "")
		attempt, _, _ := strings.Cut(string(begun.Header.Peek("Set-Cookie")), ";")
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequestWithContext(t.Context(), "GET", string(begun.Header.Peek("Location")), http.NoBody))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		back, err := resp.Location()
		require.NoError(t, err)
		line := string(c.do("GET", back.RequestURI(), "", "Cookie: "+attempt).Header.PeekCookie(cookieName))
		line, _, _ = strings.Cut(line, ";")
		require.Equal(t, 200, c.do("GET", "/auth/verify", "", "Cookie: "+line).StatusCode(), claim)
		require.True(t, c.parse(requestText("GET", "/auth/verify", "", "Cookie: "+line)))
		allocs := testing.AllocsPerRun(1000, func() {
			if c.handle().StatusCode() != 200 {
				panic("not the answer that is measured")
			}
		})
		if !raceDetector {
			assert.Zero(t, allocs, claim)
		}
	}
}

// sayingGroups is login mode open that knows eight groups of one user.
type sayingGroups struct{ login.Open }

func (sayingGroups) Check(_ context.Context, a *login.Attempt) (string, error) {
	if a.UserID != "groups" {
		return a.UserID, nil
	}
	var err error
	a.Claims, err = coatcheck.ParseClaims([]byte(`{"name":"Ann","email":"ann@example.com","groups":["g0","g1","g2","g3","g4","g5","g6","g7"]}`))
	return a.UserID, err
}

func BenchmarkVerify(b *testing.B) {
	cfg := frozenConfig()
	cfg.Login = sayingGroups{}
	c := newClient(b, newStore(b), cfg)
	for _, user := range []string{"plain", "groups"} {
		line := cookieLine(c.login(user))
		b.Run(user, func(b *testing.B) {
			require.True(b, c.parse(requestText("GET", "/auth/verify", "", line)))
			b.ReportAllocs()
			for b.Loop() {
				c.handle()
			}
		})
	}
}

// SES-03: ten thousand requests of each kind that begins nothing, and the store holds nothing.
func TestAnonymousRequestsStoreNothing(t *testing.T) {
	store := newStore(t)
	c := newClient(t, store, server.Config{})
	for name, r := range map[string]struct {
		status int
		do     func() *fasthttp.Response
	}{
		"anonymous":       {200, func() *fasthttp.Response { return c.do("GET", "/auth/me", "") }},
		"made-up token":   {200, func() *fasthttp.Response { return c.do("GET", "/auth/me", "", cookieLine(madeUp())) }},
		"malformed token": {200, func() *fasthttp.Response { return c.do("GET", "/auth/me", "", cookieLine("x")) }},
		"failed login": {422, func() *fasthttp.Response {
			return c.do("POST", "/auth/login", `{"user_id":""}`, "Content-Type: application/json")
		}},
		"unreadable login":  {400, func() *fasthttp.Response { return c.do("POST", "/auth/login", `{`, "Content-Type: application/json") }},
		"refresh":           {200, func() *fasthttp.Response { return c.do("POST", "/auth/refresh", "") }},
		"refresh, made up":  {200, func() *fasthttp.Response { return c.do("POST", "/auth/refresh", "", cookieLine(madeUp())) }},
		"logout":            {204, func() *fasthttp.Response { return c.do("POST", "/auth/logout", "") }},
		"logout, made up":   {204, func() *fasthttp.Response { return c.do("POST", "/auth/logout", "", cookieLine(madeUp())) }},
		"verify":            {401, func() *fasthttp.Response { return c.do("GET", "/auth/verify", "", cookieLine(madeUp())) }},
		"sessions, made up": {401, func() *fasthttp.Response { return c.do("DELETE", "/auth/sessions", "", cookieLine(madeUp())) }},
	} {
		for range quickly(10_000) {
			require.Equal(t, r.status, r.do().StatusCode(), name)
			if value := cookieValue(&c.ctx.Response); value != "" {
				require.Fail(t, "a session cookie", name)
			}
		}
		require.Zero(t, store.Len(), name)
	}
}

// DOS-05: a million tokens that nobody issued leave nothing behind, and no live session goes for them.
func TestMadeUpTokensCostNoMemory(t *testing.T) {
	store := newStore(t)
	c := newClient(t, store, frozenConfig())
	const live, tokens = 200, 1_000_000
	sessions := make([]string, live)
	for i := range sessions {
		sessions[i] = c.login("user-" + itoa(i))
	}
	n := quickly(tokens)
	text := requestText("GET", "/auth/me", "", cookieLine(madeUp()))
	require.True(t, c.parse(text))
	line := c.ctx.Request.Header.PeekAll("Cookie")[0]
	value := line[len(cookieName)+1:]
	var raw [32]byte
	before := heap()
	for range n {
		_, _ = rand.Read(raw[:])
		base64.RawURLEncoding.Encode(value, raw[:]) // in place: the request is the same but for its token
		if resp := c.handle(); resp.StatusCode() != 200 || len(resp.Header.Peek("Set-Cookie")) == 0 {
			require.Fail(t, "not cleared")
		}
	}
	assert.Less(t, heap()-before, int64(1<<20), "bytes that stay after %d tokens", n)
	assert.Equal(t, live, store.Len())
	for _, token := range sessions {
		require.Equal(t, 200, c.do("GET", "/auth/verify", "", cookieLine(token)).StatusCode())
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
