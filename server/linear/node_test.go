package linear

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// node is one running server with its two listeners, and beside it an application of its own behind the session middleware
// over the same store, as a library user has it: for the values of sessions.
type node struct {
	public, admin, app string
	desk               *desk
}

// desk lets everybody in, takes its time over it, and notes when it was asked: a login whose user's sessions are all ended from
// then on must fail, and from outside nobody could tell that it had come so far.
type desk struct{ asked sync.Map } // by the attempt's password: time.Time

func (*desk) UserOf(a *login.Attempt) string { return a.UserID }
func (*desk) Traits() login.Traits           { return login.Traits{Guesses: login.GuessesNothing} }

func (d *desk) Check(_ context.Context, a *login.Attempt) (string, error) {
	d.asked.Store(string(a.Password), time.Now())
	if rand.IntN(2) == 0 {
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
	}
	return a.UserID, nil
}

// when an attempt was checked, zero if it was not.
func (d *desk) when(password string) time.Time {
	at, _ := d.asked.LoadAndDelete(password)
	t, _ := at.(time.Time)
	return t
}

const grace = 20 * time.Millisecond

// serve starts a node over the store. Every request renews, so that reads write, too.
func serve(t *testing.T, store coatcheck.Store, limit int) node {
	t.Helper()
	desk := new(desk)
	cfg := server.Config{
		Login: desk, DBSC: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Policy: coatcheck.Policy{RotationGrace: grace, RenewEvery: -1, MaxPerUser: limit, RetryFor: time.Minute},
		// A machine with better things to do must not make a client look slow.
		ReadTimeout: time.Minute,
	}
	srv, err := server.New(store, cfg)
	require.NoError(t, err)
	app := fiber.New(fiber.Config{DisableStartupMessage: true, CaseSensitive: true})
	sessions, err := fibersession.New(store, fibersession.Config{Policy: cfg.Policy, Cookie: cfg.Cookie, Logger: cfg.Logger})
	require.NoError(t, err)
	app.Use(sessions)
	app.Get("/values", func(c *fiber.Ctx) error { return answer(c, fibersession.Get(c), false) })
	app.Post("/set", func(c *fiber.Ctx) error {
		sess := fibersession.Get(c)
		return write(c, sess.Insert(c.Query("name"), c.Query("value")))
	})
	app.Post("/count", func(c *fiber.Ctx) error {
		return write(c, coatcheck.Update(fibersession.Get(c), c.Query("name"), func(n int) int { return n + 1 }))
	})

	var served sync.WaitGroup
	listeners := [3]net.Listener{listen(t), listen(t), listen(t)}
	served.Go(func() { assert.NoError(t, srv.Serve(listeners[0])) })
	served.Go(func() { assert.NoError(t, srv.ServeAdmin(listeners[1])) })
	served.Go(func() { assert.NoError(t, app.Listener(listeners[2])) })
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx) // nobody is left to drain for
		_ = app.ShutdownWithTimeout(time.Millisecond)
		_ = listeners[2].Close() // Fiber forgets a Shutdown that comes before its server serves, and would serve from then on
		done := make(chan struct{})
		go func() { served.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute): // make verify has no timeout that would end it
			t.Error("the node still serves")
		}
	})
	at := func(i int) string { return "http://" + listeners[i].Addr().String() }
	return node{at(0), at(1), at(2), desk}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// write commits what a handler has set, so that its answer can tell what became of it.
func write(c *fiber.Ctx, err error) error {
	if err != nil {
		return err
	}
	sess := fibersession.Get(c)
	if err := sess.Commit(c.UserContext()); err != nil {
		return c.SendStatus(http.StatusServiceUnavailable)
	}
	return answer(c, sess, sess.ID() == coatcheck.ID{}) // what was set has begun a session, or was dropped
}

// valuesAnswer is what the application answers.
type valuesAnswer struct {
	User    string            `json:"user"`
	ID      string            `json:"id"`
	Values  map[string]string `json:"values"`
	Dropped bool              `json:"dropped"`
}

func answer(c *fiber.Ctx, sess *coatcheck.Session, dropped bool) error {
	a := valuesAnswer{User: sess.UserID(), Dropped: dropped}
	if sess.ID() != (coatcheck.ID{}) {
		a.ID = sess.ID().String()
	}
	a.Values = maps.Collect(func(yield func(string, string) bool) {
		for name, raw := range sess.Entries() {
			if !yield(name, string(raw)) {
				return
			}
		}
	})
	return c.JSON(a)
}
