package fiber3session_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/gofiber/fiber/v3/middleware/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fiber3session"
	"github.com/coatcheck/coatcheck/shardstore"
)

// blockingStore lets one Create wait.
type blockingStore struct {
	coatcheck.Store
	reached, goOn chan struct{}
	once          sync.Once
}

func (s *blockingStore) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	if rec.UserID() == "alice" {
		s.once.Do(func() { close(s.reached); <-s.goOn })
	}
	return s.Store.Create(ctx, rec, opt, now)
}

// A handler goes on behind Fiber's timeout when its request was answered with a 408. Nobody else gets what it does with its session, nor
// may it end what the client has: no cookie would tell the client.
func TestHandlerBehindATimeout(t *testing.T) {
	memory, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, memory.Close()) })
	store := &blockingStore{Store: memory, reached: make(chan struct{}), goOn: make(chan struct{})}
	sessions, err := fiber3session.New(store, fiber3session.Config{Cookie: fiber3session.Cookie{Name: "sid", Insecure: true}})
	require.NoError(t, err)
	app := fiber.New()
	app.Use(sessions)
	late := make(chan error, 2)
	cycling := make(chan struct{})
	app.Get("/login/:user", func(c fiber.Ctx) error { return fiber3session.Get(c).Authenticate(strings.Clone(c.Params("user"))) })
	app.Get("/slow/:user", until(store.reached), timeout.New(func(c fiber.Ctx) error {
		s := fiber3session.Get(c)
		if err := s.Authenticate(strings.Clone(c.Params("user"))); err != nil {
			return err
		}
		late <- s.Commit(context.Background())
		return nil
	}, timeout.Config{Timeout: time.Minute}))
	app.Get("/cycle", until(cycling), timeout.New(func(c fiber.Ctx) error {
		s := fiber3session.Get(c)
		s.CycleID()
		close(cycling)
		<-store.goOn
		late <- s.Commit(context.Background())
		return nil
	}, timeout.Config{Timeout: time.Minute}))
	app.Get("/me", func(c fiber.Ctx) error { return c.SendString(fiber3session.Get(c).UserID()) })
	address := serveApp(t, app)

	status, _, bob := get(t, address+"/login/bob", "")
	require.Equal(t, 200, status)
	status, _, cookie := get(t, address+"/slow/alice", "")
	assert.Equal(t, 408, status)
	assert.Empty(t, cookie)
	status, _, cookie = get(t, address+"/cycle", bob)
	assert.Equal(t, 408, status)
	assert.Empty(t, cookie)
	me := func() {
		status, user, cookie := get(t, address+"/me", bob)
		assert.Equal(t, 200, status)
		assert.Equal(t, "bob", user)
		assert.Empty(t, cookie)
	}
	for range 10 {
		me()
	}
	close(store.goOn)
	outcomes := []error{<-late, <-late}
	assert.Contains(t, outcomes, error(nil), "the commit that had begun")
	assert.Contains(t, outcomes, coatcheck.ErrDetached, "the one that had not")
	for range 10 {
		me()
	}
}

// until makes the handlers behind it run out of time when they have come as far as they should.
func until(reached <-chan struct{}) fiber.Handler {
	return func(c fiber.Ctx) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { <-reached; cancel() }()
		c.SetContext(ctx)
		return c.Next()
	}
}

// So it is if the application's own answer to a timeout panics: fasthttp then takes the context back while the handler goes on.
func TestAnswerToATimeoutPanics(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	sessions, err := fiber3session.New(store, fiber3session.Config{Cookie: fiber3session.Cookie{Name: "sid", Insecure: true}})
	require.NoError(t, err)
	app := fiber.New()
	app.Use(recover.New(), sessions)
	reached, goOn, late := make(chan struct{}), make(chan struct{}), make(chan error)
	app.Get("/", until(reached), timeout.New(func(c fiber.Ctx) error {
		s := fiber3session.Get(c)
		assert.NoError(t, s.Insert("a", 1))
		close(reached)
		<-goOn
		assert.True(t, s.Contains("a"), "it stays the handler's")
		late <- s.Insert("a", 2)
		return nil
	}, timeout.Config{Timeout: time.Minute, OnTimeout: func(fiber.Ctx) error { panic("test") }}))
	status, _, _ := get(t, serveApp(t, app)+"/", "")
	assert.Equal(t, 500, status)
	close(goOn)
	assert.Equal(t, coatcheck.ErrDetached, <-late)
}

// Whoever else asks for the session of a request that has timed out gets a detached one: the handler still uses its own, in a goroutine
// that nobody waits for.
func TestSessionOfATimedOutRequest(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	sessions, err := fiber3session.New(store, fiber3session.Config{Cookie: fiber3session.Cookie{Name: "sid", Insecure: true}})
	require.NoError(t, err)
	for name, want := range map[string]int{"by default": 408, "OnTimeout": 504} {
		for when, before := range map[string]bool{"which the handler has": true, "which the handler asks for meanwhile": false} {
			t.Run(name+", "+when, func(t *testing.T) {
				asked := make(chan error, 10)
				ask := func(c fiber.Ctx) {
					for _, s := range []*coatcheck.Session{fiber3session.Get(c), fiber3session.Named(c, "sid")} {
						assert.False(t, s.Contains("a"))
						asked <- s.Insert("b", 1)
					}
				}
				app := fiber.New(fiber.Config{ErrorHandler: func(c fiber.Ctx, err error) error { ask(c); return fiber.DefaultErrorHandler(c, err) }})
				app.Use(func(c fiber.Ctx) error { defer ask(c); return c.Next() }, sessions, func(c fiber.Ctx) error { defer ask(c); return c.Next() })
				cfg := timeout.Config{Timeout: time.Minute}
				if want == 504 {
					cfg.OnTimeout = func(c fiber.Ctx) error { ask(c); return c.SendStatus(want) }
				}
				reached, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
				app.Get("/", until(reached), timeout.New(func(c fiber.Ctx) error {
					defer close(ended)
					if before {
						s := fiber3session.Get(c)
						assert.NoError(t, s.Insert("a", 1))
						defer func() { assert.True(t, s.Contains("a"), "it stays the handler's") }()
					}
					close(reached)
					_ = fiber3session.Get(c).UserID() // the race detector tells whether it meets the others
					<-goOn
					assert.ErrorIs(t, fiber3session.Get(c).Insert("a", 2), coatcheck.ErrDetached)
					return nil
				}, cfg))
				status, _, cookie := get(t, serveApp(t, app)+"/", "")
				close(goOn)
				<-ended
				assert.Equal(t, want, status)
				assert.Empty(t, cookie)
				require.Len(t, asked, 6)
				for range 6 {
					assert.Equal(t, coatcheck.ErrDetached, <-asked)
				}
			})
		}
	}
}

func serveApp(t *testing.T, app *fiber.App) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	require.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(t, app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true})) })
	t.Cleanup(func() {
		_ = app.ShutdownWithTimeout(time.Millisecond)
		served.Wait()
	})
	return "http://" + ln.Addr().String()
}

// get returns the answer's status, its body, and the session cookie that it sets.
func get(t *testing.T, url, cookie string) (status int, body, set string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	if cookie != "" {
		req.AddCookie(&http.Cookie{Name: "sid", Value: cookie})
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { assert.NoError(t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for _, c := range resp.Cookies() {
		if c.Name == "sid" {
			set = c.Value
		}
	}
	return resp.StatusCode, string(text), set
}
