package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

const patience = 30 * time.Second

// site is the old and the new application on one Redis.
type site struct {
	*testing.T
	old, now string        // URLs
	reading  chan struct{} // a slow request of the old application has read its session
	write    func()        // lets it write it
	written  chan struct{} // closed by write
	redis    *redis.Client
	hook     *hook // into the client of the new application
	oldHook  *hook // into that of the old one
}

func open(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, reading: make(chan struct{}), written: make(chan struct{})}
	s.write = sync.OnceFunc(func() { close(s.written) })
	address := redistest.Start(t).URL()
	options, err := redis.ParseURL(address)
	require.NoError(t, err)
	s.redis, s.hook, s.oldHook = redis.NewClient(options), &hook{}, &hook{}
	s.redis.AddHook(s.oldHook)
	hooked := redis.NewClient(options)
	hooked.AddHook(s.hook)
	t.Cleanup(func() { assert.NoError(t, errors.Join(s.redis.Close(), hooked.Close())) })
	var app http.Handler
	require.Eventually(t, func() bool { // Redis may need longer than half a second, the default, for its greeting on a busy machine
		app, err = newApp(t.Context(), address, hooked)
		return !errors.Is(err, coatcheck.ErrUnavailable)
	}, patience, 50*time.Millisecond)
	require.NoError(t, err)
	s.now = s.serve(app)
	old := http.NewServeMux()
	old.Handle("POST /logout", app)
	old.Handle("/", s.before(s.redis))
	s.old = s.serve(old)
	t.Cleanup(s.write) // a test that failed leaves no request behind
	return s
}

func (s *site) serve(app http.Handler) (address string) {
	server := httptest.NewServer(app)
	s.Cleanup(server.Close)
	return server.URL
}

// before is the application before the change, which runs on.
func (s *site) before(client *redis.Client) http.Handler {
	sessions := scs.New()
	sessions.Store = forgetful{goredisstore.New(client), client}
	sessions.IdleTimeout = time.Hour // so that each request writes its session
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login/{user...}", func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(s, sessions.RenewToken(r.Context()))
		sessions.Put(r.Context(), "user", r.PathValue("user"))
		sessions.Put(r.Context(), "visits", 7)
	})
	mux.HandleFunc("POST /rename", func(_ http.ResponseWriter, r *http.Request) {
		_ = sessions.RenewToken(r.Context()) // an application that does not care
		sessions.Put(r.Context(), "admin", true)
	})
	show := func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"user": sessions.GetString(r.Context(), "user"), "visits": sessions.GetInt(r.Context(), "visits")})
	}
	mux.HandleFunc("GET /", show)
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		close(s.reading)
		<-s.written
		sessions.Put(r.Context(), "visits", 8)
		show(w, r)
	})
	return sessions.LoadAndSave(mux)
}

// seen is what an application shows.
type seen struct {
	User   string
	Visits int
}

func (s *site) ask(client *http.Client, method, address string) (status int, shown seen) {
	req, err := http.NewRequestWithContext(s.Context(), method, address, http.NoBody)
	require.NoError(s, err)
	resp, err := client.Do(req)
	require.NoError(s, err)
	defer resp.Body.Close() //nolint:errcheck // all that matters was read
	if resp.Header.Get("Content-Type") == "text/plain; charset=utf-8" && resp.StatusCode == http.StatusOK {
		require.NoError(s, json.NewDecoder(resp.Body).Decode(&shown))
	}
	return resp.StatusCode, shown
}

// browser returns one that a user has logged in with at the old application, and a maker of copies of its cookies.
func (s *site) browser(user string) (client *http.Client, copied func() *http.Client) {
	s.Helper()
	at, err := url.Parse(s.old)
	require.NoError(s, err)
	fresh := func(cookies ...*http.Cookie) *http.Client {
		jar, err := cookiejar.New(nil)
		require.NoError(s, err)
		jar.SetCookies(at, cookies)
		return &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	}
	client = fresh()
	status, _ := s.ask(client, "POST", s.old+"/login/"+user)
	require.Equal(s, 200, status)
	cookies := client.Jar.Cookies(at)
	require.Len(s, cookies, 1)
	return client, func() *http.Client { return fresh(cookies...) }
}

func (s *site) shows(client *http.Client, of string) seen {
	s.Helper()
	status, shown := s.ask(client, "GET", of+"/")
	require.Equal(s, 200, status)
	return shown
}

func (s *site) logOut(client *http.Client) {
	s.Helper()
	status, _ := s.ask(client, "POST", s.now+"/logout")
	require.Equal(s, 204, status)
	assert.Empty(s, s.shows(client, s.now))
}

// isDead waits until an old cookie gets the page without a user, and requires that no answer before it shows a user.
func (s *site) isDead(client *http.Client) {
	s.Helper()
	require.Eventually(s, func() bool {
		status, shown := s.ask(client, "GET", s.now+"/")
		require.Empty(s, shown, "the old cookie opens a session")
		return status == 200
	}, patience, 500*time.Millisecond)
	at, err := url.Parse(s.now)
	require.NoError(s, err)
	assert.Empty(s, client.Jar.Cookies(at), "and is cleared")
}

// A session is carried over with its values, and lives here from then on; its logout is final for every copy of the old cookie.
func TestCarriedOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("ann")
	assert.Empty(t, s.shows(http.DefaultClient, s.now))
	assert.Equal(t, seen{"ann", 8}, s.shows(browser, s.now))
	assert.Equal(t, seen{"ann", 9}, s.shows(browser, s.now))
	at, err := url.Parse(s.now)
	require.NoError(t, err)
	require.Len(t, browser.Jar.Cookies(at), 1, "the old cookie has gone")
	status, _ := s.ask(copied(), "GET", s.now+"/")
	assert.Equal(t, 503, status, "while the answer with the new cookie may be on its way")
	s.logOut(browser)
	s.isDead(copied())
}

// Of parallel requests one carries the session over. After the logout none of them has left a session behind.
func TestParallelRequests(t *testing.T) {
	t.Parallel()
	s := open(t)
	for range 10 {
		_, copied := s.browser("bob")
		clients := make([]*http.Client, 16)
		var mu sync.Mutex
		var carried *http.Client // guarded by mu
		var asking sync.WaitGroup
		for i := range clients {
			clients[i] = copied()
			asking.Go(func() {
				status, shown := s.ask(clients[i], "GET", s.now+"/")
				if status == 503 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				assert.Equal(s, seen{"bob", 8}, shown)
				assert.Nil(s, carried, "two have carried it over")
				carried = clients[i]
			})
		}
		asking.Wait()
		require.NotNil(t, carried)
		s.logOut(carried)
		for _, client := range clients {
			_, shown := s.ask(client, "GET", s.now+"/")
			assert.Empty(t, shown)
		}
	}
}

// The old store is still in use: a request of the old application writes the session again after it was carried over and logged out.
func TestOldStoreIsLive(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("eve")
	slow := make(chan seen)
	client := copied()
	go func() {
		_, shown := s.ask(client, "GET", s.old+"/slow")
		slow <- shown
	}()
	<-s.reading
	assert.Equal(t, seen{"eve", 8}, s.shows(browser, s.now))
	s.logOut(browser)
	s.write()
	require.Equal(t, seen{"eve", 8}, <-slow, "it wrote the session again")
	assert.Empty(t, s.shows(copied(), s.old))
	s.isDead(copied())
}

// A user who logs out with the old cookie alone is logged out, and so is a user who has a session here and an old one beside it.
func TestLogoutWithTheOldCookie(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("joe")
	s.logOut(browser)
	s.isDead(copied())

	browser, _ = s.browser("joe")
	assert.Equal(t, seen{"joe", 8}, s.shows(browser, s.now))
	_, copied = s.browser("joe")
	at, err := url.Parse(s.now)
	require.NoError(t, err)
	both := copied()
	both.Jar.SetCookies(at, browser.Jar.Cookies(at))
	require.Len(t, both.Jar.Cookies(at), 2)
	s.logOut(both)
	s.isDead(copied())
}
