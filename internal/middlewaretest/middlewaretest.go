// Package middlewaretest is the HTTP contract of a session middleware: the rules that fibersession, httpsession and fiber3session
// keep alike, whatever the framework. Each adapter runs it through a Driver of its own, which stands in the adapter's test files.
//
//   - driver.go: what a driver does, and the words in which the rules' handlers are written
//   - recipe.go: the recipe's application, for the rules of internal/httpcontract about login, me, refresh and logout
//   - persist.go, failed.go, session.go, races.go: what becomes of a request's session, depending on its handler and on concurrent
//     requests
//   - around.go: other middlewares around it, several session middlewares, and use of a session outside its request
//   - stream.go: handlers that send the header before they return
//   - csrf.go: the tokens of forms
package middlewaretest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// These are shorter names for what the rules of all suites share.
type (
	request  = httpcontract.Request
	response = httpcontract.Response
	answer   = httpcontract.Answer
)

// group is a topic of the contract.
type group struct {
	name  string
	rules []rule
}

// rule is one sentence of the contract.
type rule struct {
	name  string
	check func(h *harness)
}

// Run checks a middleware on the stores that newStore returns, in a subtest per rule. Each rule gets a store, which Run closes, and
// a server of its own, and runs in parallel to others. Each store must be empty.
func Run(t *testing.T, newStore func(t *testing.T) coatcheck.Store, driver Driver) {
	groups := []group{
		{"middleware", slices.Concat(persistRules, sessionRules)},
		{"middleware_races", raceRules},
		{"around", aroundRules},
		{"csrf", csrfRules},
	}
	if driver.Streams {
		groups = append(groups, group{"stream", streamRules})
	}
	for _, shared := range httpcontract.Recipe {
		g := group{name: shared.Name}
		for _, r := range shared.Rules {
			g.rules = append(g.rules, rule{r.Name, func(h *harness) { h.checkRecipe(r) }})
		}
		groups = append(groups, g)
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, r := range g.rules {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					h := &harness{driver: driver, newStore: func() coatcheck.Store {
						store := newStore(t)
						t.Cleanup(func() { assert.NoError(t, store.Close()) })
						return store
					}}
					h.Harness = httpcontract.New(t, h.newStore())
					h.Repeats = true
					r.check(h)
				})
			}
		})
	}
}

// harness is an application behind the middleware under test, and what the rules do with it.
type harness struct {
	*httpcontract.Harness
	driver   Driver
	newStore func() coatcheck.Store // returns a further store, which is closed when the rule is over

	entered, release chan struct{} // used by the handlers of holding
}

// serve serves an application.
func (h *harness) serve(app App) {
	h.Helper()
	ln := httpcontract.Listen(h.T)
	h.Wire = httpcontract.NewWire(ln.Addr())
	h.driver.Serve(h.T, ln, app)
	h.Cleanup(h.Wire.Close) // runs before the driver stops, which waits for connections
}

// sessions returns the middleware on the harness' store.
func (h *harness) sessions(edit func(*middleware.Config)) Layer {
	return Layer{Sessions: &Sessions{Store: h.Store, Config: h.Config(edit)}}
}

// app serves handlers behind the middleware, and beside them /get, which answers the JSON of a value, and /who, which answers whose
// session it is.
func (h *harness) app(handlers map[string]Handler) {
	h.Helper()
	h.serve(App{Layers: []Layer{h.sessions(nil)}, Handlers: with(handlers, map[string]Handler{
		"/get": func(c Context) error {
			raw, _ := c.Session().Raw(c.Query("name"))
			c.Write(string(raw))
			return nil
		},
		"/who": func(c Context) error {
			c.Write(c.Session().UserID())
			return nil
		},
	})})
}

func with(all ...map[string]Handler) map[string]Handler {
	sum := make(map[string]Handler)
	for _, handlers := range all {
		for path, f := range handlers {
			sum[path] = f
		}
	}
	return sum
}

// basics are handlers that most rules need.
var basics = map[string]Handler{
	"/login": func(c Context) error { return c.Session().Authenticate(c.Query("user")) },
	"/set":   func(c Context) error { return c.Session().Insert(c.Query("name"), c.Query("value")) },
	"/logout": func(c Context) error {
		c.Session().Destroy()
		return nil
	},
	"/rotate": func(c Context) error {
		c.Session().Rotate()
		return nil
	},
	"/cycle": func(c Context) error {
		c.Session().CycleID()
		return nil
	},
}

// value returns the JSON of a session's value, "" for none.
func (h *harness) value(name, token string) string {
	h.Helper()
	return h.Get("/get?name="+name, h.Cookie(token)).Body
}

// who returns the user whose session a token opens.
func (h *harness) who(token string) string {
	h.Helper()
	return h.Get("/who", h.Cookie(token)).Body
}

// begin logs a user in through the application and returns the token.
func (h *harness) begin(user string, head ...string) string {
	h.Helper()
	resp := h.Post("/login?user="+user, head...)
	require.Equal(h, "set", h.CookieOf(resp))
	return h.Token(resp)
}

// sessionsOf lists the handles of a user's sessions through the store.
func (h *harness) sessionsOf(user string) []string {
	h.Helper()
	var handles []string
	sessions, err := h.manager().List(h.Context(), user)
	require.NoError(h, err)
	for _, s := range sessions {
		handles = append(handles, s.Handle.String())
	}
	return handles
}

func (h *harness) manager() *coatcheck.Manager {
	h.Helper()
	m, err := coatcheck.NewManager(h.Store, coatcheck.Policy{Now: h.Clock.Now})
	require.NoError(h, err)
	return m
}
