package httpcontract

import (
	"crypto/rand"
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// Harness is an application under test, behind a session middleware, and the helpers of the rules. A suite makes it with
// New, sets the fields that describe the application, and starts it.
type Harness struct {
	*testing.T
	Store *Double
	Clock *Clock
	Logs  *LogBuffer
	Wire  *Wire // the application's listener; Start sets it

	CookieName  string
	CookieAttrs string   // the attributes that every Set-Cookie has after the Max-Age, sorted
	Canaries    []string // texts that must not be in the log
	// RetryFor is set long, because a busy machine is slow: the policy only bounds how long a client waits, and what is
	// lost does not depend on it.
	RetryFor time.Duration

	// Start starts the application with a configuration that was changed by edit; nil: with the defaults.
	Start func(edit func(*middleware.Config))
	// Check checks what holds for every answer of the application beyond what the harness checks itself; nil: nothing.
	Check func(req Request, r Response)
	// Readers are the application's routes that show whose session a request's cookies open, and change nothing. The recipe
	// has only Me.
	Readers []Reader
	// Probe is the reader that Alive asks.
	Probe Reader
	// PendingRoutes are the routes that tell a browser which could not renew its token to wait.
	PendingRoutes []Reader
	// Pages are the paths beside /auth/me to which people navigate and which look at the session.
	Pages []string
	// Routes are all of the application's routes that look at sessions, as "METHOD path".
	Routes []string
	// Beside reports whether a cookie of this name is one that the application sets beside the session's; nil: it sets none.
	Beside func(name string) bool
	// Repeats says that handlers change values, so that an answer may send the client's current token again.
	Repeats bool

	mu     sync.Mutex
	issued map[string]bool // guarded by mu: every token that a Set-Cookie carried
}

// New returns a harness for an application on a store, which the caller closes. When the test is over it checks the log.
func New(t *testing.T, store coatcheck.Store) *Harness {
	h := &Harness{
		T: t, Store: &Double{Store: store}, Clock: NewClock(), Logs: new(LogBuffer),
		CookieName: "__Host-coatcheck", CookieAttrs: "httponly; path=/; samesite=Lax; secure",
		RetryFor: 2 * Patience,
		Readers:  []Reader{Me}, Probe: Me, PendingRoutes: []Reader{Me, refreshing, {Method: "POST", Path: "/auth/logout"}}, Routes: RecipeRoutes,
		issued: make(map[string]bool),
	}
	t.Cleanup(func() {
		h.checkLogs()
		keepLog(t, h.Logs.Text())
	})
	return h
}

// Config returns the configuration of a middleware that goes by the harness' clock and logs to it, changed by edit.
func (h *Harness) Config(edit func(*middleware.Config)) middleware.Config {
	cfg := middleware.Config{Logger: h.Logger()}
	cfg.Policy.Now, cfg.Policy.RetryFor = h.Clock.Now, h.RetryFor
	if edit != nil {
		edit(&cfg)
	}
	return cfg
}

// Listen returns a listener on a free port of the loopback interface.
func Listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// User returns a user ID that was never used before.
func (h *Harness) User() string { return "user-" + rand.Text() }

// Cookie returns a Cookie line that carries the session cookie with these values.
func (h *Harness) Cookie(values ...string) string {
	pairs := make([]string, len(values))
	for i, v := range values {
		pairs[i] = h.CookieName + "=" + v
	}
	return "Cookie: " + strings.Join(pairs, "; ")
}

// Do sends a Request without a body and checks what must hold for every answer.
func (h *Harness) Do(method, path string, head ...string) Response {
	h.Helper()
	return h.Send(Request{Method: method, Path: path, Head: head})
}

// Send sends a Request and checks what must hold for every answer.
func (h *Harness) Send(req Request) Response {
	h.Helper()
	resp, err := h.Wire.Send(req)
	require.NoError(h, err, "%s %s", req.Method, req.Path)
	h.CheckAnswer(req, resp)
	if h.Check != nil {
		h.Check(req, resp)
	}
	return resp
}

// Get is Do for GET.
func (h *Harness) Get(path string, head ...string) Response {
	h.Helper()
	return h.Do("GET", path, head...)
}

// Post is Do for POST.
func (h *Harness) Post(path string, head ...string) Response {
	h.Helper()
	return h.Do("POST", path, head...)
}

// AsJSON says that a request's body is JSON.
const AsJSON = "Content-Type: application/json"

// TryLogin sends a login, whatever its answer is.
func (h *Harness) TryLogin(user string, head ...string) Response {
	h.Helper()
	body, err := json.Marshal(map[string]string{"user_id": user})
	require.NoError(h, err)
	return h.LoginBody(string(body), append(head, AsJSON)...)
}

// LoginBody sends a login with the given body.
func (h *Harness) LoginBody(body string, head ...string) Response {
	h.Helper()
	return h.Send(Request{Method: "POST", Path: "/auth/login", Head: head, Body: body})
}

// Login logs a user in and returns the token.
func (h *Harness) Login(user string, head ...string) string {
	h.Helper()
	resp := h.TryLogin(user, head...)
	require.Equal(h, 200, resp.Status, resp.Body)
	require.NotEmpty(h, h.Token(resp), "a login sets the cookie")
	return h.Token(resp)
}

// Refresh rotates a token and returns its successor.
func (h *Harness) Refresh(token string) string {
	h.Helper()
	resp := h.Post("/auth/refresh", h.Cookie(token))
	require.Equal(h, 200, resp.Status, resp.Body)
	require.NotEmpty(h, h.Token(resp), "a refresh sets the cookie")
	return h.Token(resp)
}

// Me returns the user whose session the tokens open, "" for none.
func (h *Harness) Me(tokens ...string) string {
	h.Helper()
	resp := h.Get("/auth/me", h.Cookie(tokens...))
	require.Equal(h, 200, resp.Status, resp.Body)
	return resp.View(h.T).User()
}

// Alive reports whether a token opens a session.
func (h *Harness) Alive(token string) bool {
	h.Helper()
	return h.Shows(h.Probe, h.Cookie(token)) != ""
}

// AtOnce runs f(0) to f(n-1) at once.
func (*Harness) AtOnce(n int, f func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}
