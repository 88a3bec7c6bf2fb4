package httpsession_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
)

func TestMistakes(t *testing.T) {
	_, err := httpsession.New(nil, httpsession.Config{})
	require.ErrorContains(t, err, "store")
	_, err = httpsession.New(newStore(t), httpsession.Config{Cookie: httpsession.Cookie{Name: "a b"}, Policy: coatcheck.Policy{TTL: -1}})
	require.ErrorContains(t, err, "cookie-name")
	require.ErrorContains(t, err, "ttl", "all mistakes at once")
	manager, err := coatcheck.NewManager(newStore(t), coatcheck.Policy{})
	require.NoError(t, err)
	_, err = httpsession.NewFor(manager, httpsession.Config{Policy: coatcheck.Policy{TTL: 1}})
	require.ErrorContains(t, err, "policy")
}

func TestSessions(t *testing.T) {
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) { httpsession.Get(r).Destroy() }, nil)
	assert.Empty(t, s.get("/show", "").header.Values("Set-Cookie"), "who only looks gets no cookie")
	first := s.get("/value?1", "").token()
	s.shows(first, " 1")
	cookie := s.get("/login?user=u", first).token()
	s.shows(cookie, "u 1", "the values come along")
	s.shows(first, " ")
	ended := s.get("/logout", cookie)
	require.Len(t, ended.header.Values("Set-Cookie"), 1)
	assert.Contains(t, ended.header.Get("Set-Cookie"), "Max-Age=0")
	s.shows(cookie, " ")

	cookie = s.login("v")
	n, err := s.manager.EndUser(t.Context(), "v")
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	s.shows(cookie, " ", "the manager ends sessions of the middleware")
}

// A response that carries the session cookie stays out of caches, whatever the handler said; one that carries none is the
// handler's business.
func TestCookiesAreKeptPrivate(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public")
		w.Header().Set("Vary", "Accept")
		if r.URL.RawQuery != "" {
			assert.NoError(t, httpsession.Get(r).Insert("v", "1"))
		}
	}, nil)
	with, without := s.get("/?set", ""), s.get("/", "")
	assert.Equal(t, []string{"no-store"}, with.header["Cache-Control"])
	assert.Equal(t, []string{"Accept", "Cookie"}, with.header["Vary"])
	assert.Equal(t, []string{"public"}, without.header["Cache-Control"])
	assert.Equal(t, []string{"Accept"}, without.header["Vary"])
}

func TestPanicPersistsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		value any
		early bool // the header has left
	}{
		"before the header":                 {"handler", false},
		"after it":                          {"handler", true},
		"the connection is to be aborted":   {http.ErrAbortHandler, false},
		"the same, in the middle of a body": {http.ErrAbortHandler, true},
	} {
		t.Run(name, func(t *testing.T) {
			var recovered any
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				if c.early {
					_, _ = io.WriteString(w, "begin")
				}
				assert.NoError(t, httpsession.Get(r).Insert("v", "panic"))
				panic(c.value)
			}, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() { recovered = recover() }()
					next.ServeHTTP(w, r)
				})
			})
			cookie := s.login("u")
			for range 20 { // what comes from the pool is clean after a panic
				answer := s.get("/", cookie)
				assert.Equal(t, c.value, recovered, "it is passed on as it is")
				assert.Empty(t, answer.header.Values("Set-Cookie"))
				s.shows(cookie, "u ")
			}
			assert.Zero(t, s.store.called("Swap"))
		})
	}
}

// What the client's going away cancels is not what the handler did, and the store finds the values of the request's context.
func TestClientHasGone(t *testing.T) {
	type key struct{}
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) { assert.NoError(t, httpsession.Get(r).Insert("v", "1")) },
		func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, "trace"))
				if r.URL.Path == "/gone" {
					cancel()
				}
				defer cancel()
				next.ServeHTTP(w, r.WithContext(ctx))
			})
		})
	cookie := s.login("u")
	assert.Equal(t, 200, s.get("/gone", cookie).status)
	ctx := s.store.context()
	assert.NoError(t, ctx.Err())
	assert.Nil(t, ctx.Done())
	_, bounded := ctx.Deadline()
	assert.False(t, bounded)
	assert.Equal(t, "trace", ctx.Value(key{}))
	s.shows(cookie, "u 1")
}

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for name, c := range map[string]struct{ remote, forwarded, want string }{
		"IPv4":                             {"192.0.2.1:4711", "", "192.0.2.1"},
		"IPv6":                             {"[2001:db8::1]:4711", "", "2001:db8::1"},
		"IPv6 with a zone":                 {"[fe80::1%eth0]:4711", "", "fe80::1"},
		"IPv4 mapped to IPv6":              {"[::ffff:192.0.2.1]:4711", "", "192.0.2.1"},
		"without a port":                   {"192.0.2.1", "", "192.0.2.1"},
		"IPv6 without a port":              {"2001:db8::1", "", "2001:db8::1"},
		"IPv6 in brackets without a port":  {"[2001:db8::1]", "", "2001:db8::1"},
		"a Unix socket":                    {"@", "", ""},
		"nothing":                          {"", "", ""},
		"a claim by whoever is no proxy":   {"192.0.2.1:4711", "203.0.113.9", "192.0.2.1"},
		"by a proxy":                       {"10.0.0.1:4711", "203.0.113.9", "203.0.113.9"},
		"by a proxy at a mapped address":   {"[::ffff:10.0.0.1]:4711", "203.0.113.9", "203.0.113.9"},
		"by a proxy at a link-local one":   {"[fe80::1%eth0]:4711", "203.0.113.9", "203.0.113.9"},
		"by a proxy, with a claim before":  {"10.0.0.1:4711", "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"},
		"by a proxy that forwards nothing": {"10.0.0.1:4711", "", "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			manager, err := coatcheck.NewManager(newStore(t), coatcheck.Policy{})
			require.NoError(t, err)
			wrap, err := httpsession.NewFor(manager, httpsession.Config{TrustedProxies: proxies})
			require.NoError(t, err)
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/", http.NoBody)
			r.RemoteAddr = c.remote
			r.Header.Set("User-Agent", "agent 7")
			if c.forwarded != "" {
				r.Header.Set("X-Forwarded-For", c.forwarded)
			}
			wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				assert.NoError(t, httpsession.Get(r).Authenticate("u"))
			})).ServeHTTP(httptest.NewRecorder(), r)
			sessions, err := manager.List(t.Context(), "u")
			require.NoError(t, err)
			require.Len(t, sessions, 1)
			want, _ := netip.ParseAddr(c.want)
			assert.Equal(t, want, sessions[0].CreatedIP)
			assert.Equal(t, "agent 7", sessions[0].UserAgent)
		})
	}
}

// CASES.md, B12.
func TestTwoMiddlewares(t *testing.T) {
	userStore, adminStore := newStore(t), newStore(t)
	users, err := httpsession.New(userStore, httpsession.Config{})
	require.NoError(t, err)
	admins, err := httpsession.New(adminStore, httpsession.Config{Cookie: httpsession.Cookie{Name: "__Host-admin"}})
	require.NoError(t, err)
	log := new(testoutput.Buffer)
	clash, err := httpsession.New(adminStore, httpsession.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	inner := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, errors.Join(httpsession.Get(r).Authenticate("root"), httpsession.Named(r, cookieName).Authenticate("u")))
		assert.Same(t, httpsession.Get(r), httpsession.Named(r, "__Host-admin"))
		assert.ErrorIs(t, httpsession.Named(r, "another").Insert("a", 1), coatcheck.ErrDetached)
	})
	send := func(h http.Handler) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", http.NoBody))
		return w
	}
	w := send(users(admins(inner)))
	assert.Len(t, w.Header()["Set-Cookie"], 2)
	assert.Equal(t, 1, userStore.called("Create"))
	assert.Equal(t, 1, adminStore.called("Create"))
	userStore.fail("Create")
	w = send(users(admins(inner)))
	assert.Equal(t, 503, w.Code)
	assert.Empty(t, w.Header()["Set-Cookie"], "the outer one's 503 is in place of all that came through it")

	userStore.fail()
	again, err := httpsession.New(userStore, httpsession.Config{})
	require.NoError(t, err)
	w = send(users(again(users(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Authenticate("u"))
	})))))
	assert.Len(t, w.Header()["Set-Cookie"], 1, "one session a request")

	w = send(users(clash(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))))
	assert.Equal(t, 500, w.Code)
	assert.Contains(t, log.String(), "two session middlewares", "never silently another's")
}

// CASES.md, B13.
func TestOutsideOfItsTime(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody)
	for _, s := range []*coatcheck.Session{httpsession.Get(r), httpsession.Named(r, cookieName)} {
		assert.Empty(t, s.UserID())
		assert.ErrorIs(t, s.Insert("a", 1), coatcheck.ErrDetached)
	}

	// What a handler has kept is used while the pooled parts serve another request.
	store := newStore(t)
	wrap, err := httpsession.New(store, httpsession.Config{})
	require.NoError(t, err)
	send := func(handler http.HandlerFunc) {
		wrap(handler).ServeHTTP(httptest.NewRecorder(), r)
	}
	for _, answered := range []bool{true, false} {
		var keptRequest *http.Request
		var keptSession *coatcheck.Session
		var keptWriter http.ResponseWriter
		func() {
			defer func() { _ = recover() }()
			send(func(w http.ResponseWriter, r *http.Request) {
				keptRequest, keptSession, keptWriter = r, httpsession.Get(r), w
				assert.NoError(t, keptSession.Insert("a", "mine"))
				if !answered {
					panic("before the first byte")
				}
			})
		}()
		for range 100 { // the pool may hand out another one
			send(func(_ http.ResponseWriter, r *http.Request) {
				assert.NoError(t, httpsession.Get(r).Insert("a", "another's"))
				created := store.called("Create")
				for _, s := range []*coatcheck.Session{keptSession, httpsession.Get(keptRequest), httpsession.Named(keptRequest, cookieName)} {
					assert.ErrorIs(t, s.Insert("a", 1), coatcheck.ErrDetached)
					assert.False(t, s.Contains("a"))
				}
				_, err := keptWriter.Write([]byte("late"))
				assert.NoError(t, err, "the writer below decides")
				assert.Equal(t, created, store.called("Create"), "it persists nobody's session")
				httpsession.Get(r).Clear()
			})
		}
	}
}

// What middlewares around this one, and the server, find in the request that they know.
func TestRequestOutside(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var route string
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, r.ParseMultipartForm(1))
		files, err := os.ReadDir(dir)
		assert.NoError(t, err)
		assert.Len(t, files, 1, "the form's file is on disk")
		if r.URL.RawQuery != "" {
			panic(http.ErrAbortHandler)
		}
	}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { _ = recover() }()
			defer func() { route = r.Pattern }()
			next.ServeHTTP(w, r)
		})
	})
	for _, path := range []string{"/form", "/form?panic"} {
		var form strings.Builder
		parts := multipart.NewWriter(&form)
		file, err := parts.CreateFormFile("file", "name")
		require.NoError(t, err)
		_, err = file.Write(make([]byte, 11<<20))
		require.NoError(t, err)
		require.NoError(t, parts.Close())
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+path, strings.NewReader(form.String()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", parts.FormDataContentType())
		resp, err := s.client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, "/", route)
		require.Eventually(t, func() bool {
			files, err := os.ReadDir(dir)
			return err == nil && len(files) == 0
		}, 10*time.Second, time.Millisecond, "the server has removed it")
	}
}
