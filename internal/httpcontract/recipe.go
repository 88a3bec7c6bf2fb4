package httpcontract

import (
	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// RecipeRoutes are the routes of the recipe, which an application needs so that users can log in and out.
var RecipeRoutes = []string{"POST /auth/login", "GET /auth/me", "POST /auth/refresh", "POST /auth/logout"}

// Group is a topic of the contract.
type Group struct {
	Name  string
	Rules []Rule
}

// Rule is one sentence of the contract.
type Rule struct {
	Name   string
	Config func(*middleware.Config) // nil: the defaults
	// Unstarted says that the check starts the application itself.
	Unstarted bool
	// Transport says that the rule is about requests and not about sessions, so that its result is the same on every store.
	Transport bool
	Check     func(h *Harness)
}

// Recipe are the rules about login, me, refresh and logout.
var Recipe = []Group{
	{"cookie_sent", cookieSentRules},
	{"cookie_read", cookieReadRules},
	{"several_cookies", severalCookiesRules},
	{"tokens", tokenRules},
	{"lifetimes", lifetimeRules},
	{"rotation", rotationRules},
	{"device_bound", deviceBoundRules},
}

// Run starts the application, unless the rule does, and checks the rule.
func (r Rule) Run(h *Harness) {
	h.Helper()
	if !r.Unstarted {
		h.Start(r.Config)
	}
	r.Check(h)
}

// Reader is a route that shows whose session a request's cookies open, and changes nothing.
type Reader struct {
	Method, Path string
	// NoCookie says that the route never sets or clears the cookie.
	NoCookie bool
	// User returns the user that a response is for: "" for none, Unnamed for a user that the route does not name.
	User func(h *Harness, r Response) string
}

// Unnamed is what a Reader returns for a user that its route does not name.
const Unnamed = "unnamed"

// Me is the recipe's route that shows the view.
var Me = Reader{Method: "GET", Path: "/auth/me", User: viewed}

// refreshing shows the view as well, and rotates.
var refreshing = Reader{Method: "POST", Path: "/auth/refresh", User: viewed}

func viewed(h *Harness, r Response) string {
	h.Helper()
	if r.Status != 200 {
		return ""
	}
	return r.View(h.T).User()
}

// Shows returns the user that a route takes a Request for.
func (h *Harness) Shows(r Reader, head ...string) string {
	h.Helper()
	return r.User(h, h.Do(r.Method, r.Path, head...))
}

// nobody checks that every reader takes a request for anonymous.
func (h *Harness) nobody(head ...string) {
	h.Helper()
	for _, route := range h.Readers {
		assert.Equal(h, "", h.Shows(route, head...), "%s: %q", route.Path, head)
	}
}
