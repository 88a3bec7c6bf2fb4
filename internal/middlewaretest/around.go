package middlewaretest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// aroundRules are the rules about what surrounds the middleware: other middlewares, other session middlewares, and the time
// before and after it.
var aroundRules = []rule{
	{"a 503 keeps the headers of the middlewares around it", checkHeadersStay},
	{"two middlewares with stores of their own", checkTwoMiddlewares},
	{"one of two middlewares cannot persist", checkTwoFail},
	{"two stores in one cookie are refused", checkOneCookieTwoStores},
	{"two policies in one cookie are refused", checkOneCookieTwoPolicies},
	{"where no middleware ran", checkNotMounted},
	{"outside the middleware", checkOutside},
	{"a session kept beyond its request", checkKept},
}

func checkHeadersStay(h *harness) {
	outer := map[string]string{
		"Access-Control-Allow-Origin": "https://app.example", "X-Request-Id": "17", "X-Frame-Options": "DENY", "Vary": "Origin", "Set-Cookie": "lang=de",
	}
	handlers := with(basics)
	handlers["/rich"] = func(c Context) error {
		c.SetHeader("X-Secret", "yes")
		c.SetHeader("X-Frame-Options", "SAMEORIGIN")
		c.SetHeader("Location", "/paid")
		c.SetHeader("Content-Type", "text/csv")
		c.SetHeader("Cache-Control", "public, max-age=60")
		c.SetCookie("theme", "dark")
		return errors.Join(c.Session().Insert("a", 1), status(c, 201), text(c, "of the handler"))
	}
	h.serve(App{Layers: []Layer{{Headers: outer}, h.sessions(nil)}, Handlers: handlers})
	send := func(path string, head ...string) response {
		resp, err := h.Wire.Send(request{Method: "POST", Path: path, Head: head})
		require.NoError(h, err)
		return resp
	}
	resp := send("/login?user=u")
	require.Len(h, resp.Header["Set-Cookie"], 2)
	token := ""
	for _, line := range resp.Header["Set-Cookie"] {
		if c := httpcontract.ParseSetCookie(line); c.Name == h.CookieName {
			token = c.Value
		}
	}
	resp = send("/rich", h.Cookie(token))
	require.Equal(h, 201, resp.Status)
	require.Equal(h, "SAMEORIGIN", resp.Header.Get("X-Frame-Options"), "the handler's own, while nothing fails")
	for _, op := range []string{httpcontract.OpLoad, httpcontract.OpSwap} {
		h.Store.Failing(httpcontract.ErrLost, op)
		resp := send("/rich", h.Cookie(token))
		h.Store.On(nil)
		require.Equal(h, 503, resp.Status, op)
		httpcontract.CheckProblem(h.T, resp)
		for name, want := range outer {
			if name == "Vary" {
				assert.Subset(h, fields(resp, name), []string{"Origin", "Cookie"}, op)
			} else {
				assert.Equal(h, []string{want}, resp.Header[name], "%s: %s", op, name)
			}
		}
		for _, name := range []string{"X-Secret", "Location"} {
			assert.NotContains(h, resp.Header, name, op)
		}
		assert.Equal(h, []string{"no-store"}, resp.Header["Cache-Control"], op)
		assert.NotContains(h, resp.Body, "of the handler", op)
	}
}

// fields returns the elements of all lines of a header.
func fields(r response, name string) []string {
	var all []string
	for element := range strings.SplitSeq(strings.Join(r.Header[name], ","), ",") {
		all = append(all, strings.TrimSpace(element))
	}
	return all
}

// These are the names of the cookies where there are two middlewares.
const (
	shopCookie  = "__Host-shop"
	adminCookie = "__Host-admin"
)

// two returns the layers of two middlewares with stores of their own; the inner one is for administrators.
func (h *harness) two() []Layer {
	named := func(name string) middleware.Config {
		return h.Config(func(cfg *middleware.Config) { cfg.Cookie.Name = name })
	}
	return []Layer{
		{Sessions: &Sessions{Store: h.Store, Config: named(shopCookie)}},
		{Sessions: &Sessions{Store: h.newStore(), Config: named(adminCookie)}},
	}
}

// twice are handlers for two middlewares: ?in= names the one whose session they use, and is empty for the one that Get
// returns.
var twice = map[string]Handler{
	"/login": func(c Context) error { return of(c).Authenticate(c.Query("user")) },
	"/set":   func(c Context) error { return of(c).Insert("a", c.Query("value")) },
	"/logout": func(c Context) error {
		of(c).Destroy()
		return nil
	},
	"/who": func(c Context) error {
		get, shop, admin, other := c.Session(), c.Named(shopCookie), c.Named(adminCookie), c.Named("other")
		a, _ := get.Raw("a")
		return text(c, fmt.Sprintf("get %s, shop %s, admin %s, other %s, a %s, detached %v", get.UserID(), shop.UserID(), admin.UserID(), other.UserID(), a,
			errors.Is(other.Insert("x", 1), coatcheck.ErrDetached)))
	},
}

func of(c Context) *coatcheck.Session {
	if name := c.Query("in"); name != "" {
		return c.Named(name)
	}
	return c.Session()
}

// twoJars sends a request with a jar's cookies and keeps what the response sets.
func (h *harness) twoJars(j *httpcontract.Jar, path string) response {
	h.Helper()
	resp, err := h.Wire.Send(request{Method: "POST", Path: path, Head: []string{j.Line()}})
	require.NoError(h, err)
	j.Apply(resp)
	return resp
}

func checkTwoMiddlewares(h *harness) {
	h.serve(App{Layers: h.two(), Handlers: twice})
	j := httpcontract.NewJar(h.Clock.Now)
	h.twoJars(j, "/login?in="+shopCookie+"&user=alice")
	assert.Equal(h, "get , shop alice, admin , other , a , detached true", h.twoJars(j, "/who").Body, "the administrators' middleware does not know the shop's user")
	h.twoJars(j, "/login?user=root")
	assert.Equal(h, "get root, shop alice, admin root, other , a , detached true", h.twoJars(j, "/who").Body, "Get is the innermost's")
	h.twoJars(j, "/set?value=1")
	h.twoJars(j, "/set?value=2&in="+shopCookie)
	assert.Equal(h, `get root, shop alice, admin root, other , a "1", detached true`, h.twoJars(j, "/who").Body)
	h.twoJars(j, "/logout?in="+shopCookie)
	assert.Empty(h, j.Value(shopCookie))
	assert.Equal(h, `get root, shop , admin root, other , a "1", detached true`, h.twoJars(j, "/who").Body)

	stranger := httpcontract.NewJar(h.Clock.Now)
	h.twoJars(stranger, "/login?in="+shopCookie+"&user=mallory")
	line := "Cookie: " + adminCookie + "=" + stranger.Value(shopCookie)
	resp, err := h.Wire.Send(request{Method: "POST", Path: "/who", Head: []string{line}})
	require.NoError(h, err)
	assert.Equal(h, "get , shop , admin , other , a , detached true", resp.Body, "a token of one store opens nothing in the other")
}

// A change that one of two middlewares could not persist is not acknowledged.
func checkTwoFail(h *harness) {
	h.serve(App{Layers: h.two(), Handlers: twice})
	j := httpcontract.NewJar(h.Clock.Now)
	h.twoJars(j, "/login?in="+shopCookie+"&user=alice")
	h.twoJars(j, "/login?user=root")
	h.Store.Failing(httpcontract.ErrLost, httpcontract.OpSwap)
	resp := h.twoJars(j, "/set?value=2&in="+shopCookie)
	h.Store.On(nil)
	assert.Equal(h, 503, resp.Status)
	assert.Empty(h, resp.Header["Set-Cookie"])
	assert.Equal(h, "get root, shop alice, admin root, other , a , detached true", h.twoJars(j, "/who").Body)
}

func checkOneCookieTwoStores(h *harness) {
	second := h.newStore()
	reached := new(atomic.Bool)
	handlers := with(basics)
	handlers["/who"] = func(c Context) error {
		reached.Store(true)
		return text(c, c.Session().UserID())
	}
	outer := h.sessions(nil)
	inner := Layer{Sessions: &Sessions{Store: second, Config: h.Config(nil)}}
	h.serve(App{Layers: []Layer{outer}, Handlers: basics})
	token := h.begin("alice")
	h.serve(App{Layers: []Layer{outer, inner}, Handlers: handlers})
	for _, head := range []string{h.Cookie(token), "X-None: 1"} {
		resp := h.Get("/who", head)
		assert.Equal(h, 500, resp.Status)
		assert.NotContains(h, resp.Body, "alice")
	}
	assert.False(h, reached.Load(), "no handler runs with a session that may be another store's")

	inner.Sessions.Config.Cookie = cookie.Config{Name: "__Host-other"}
	h.serve(App{Layers: []Layer{outer, inner}, Handlers: handlers})
	assert.Equal(h, 200, h.Get("/who", h.Cookie(token)).Status, "by another name it is another session")
	assert.True(h, reached.Load())
}

// An inner middleware that is to refuse what the outer one admits must not be ignored.
func checkOneCookieTwoPolicies(h *harness) {
	handlers := with(basics)
	handlers["/who"] = func(c Context) error { return text(c, "reached "+c.Session().UserID()) }
	h.serve(App{Layers: []Layer{h.sessions(nil)}, Handlers: handlers})
	token := h.begin("alice")
	for what, edit := range map[string]func(cfg *middleware.Config){
		"a shorter TTL": func(cfg *middleware.Config) { cfg.Policy.TTL = time.Minute },
		"Admits":        func(cfg *middleware.Config) { cfg.Policy.Admits = func([]byte) bool { return false } },
		"the cookie":    func(cfg *middleware.Config) { cfg.Cookie.SameSite = "strict" },
	} {
		realTime := func(cfg *middleware.Config) { cfg.Policy.Now = nil } // so that only the setting differs
		inner := h.sessions(func(cfg *middleware.Config) {
			realTime(cfg)
			edit(cfg)
		})
		h.serve(App{Layers: []Layer{h.sessions(realTime), inner}, Handlers: handlers})
		for _, head := range []string{h.Cookie(token), "X-None: 1"} {
			resp := h.Get("/who", head)
			assert.Equal(h, 500, resp.Status, what)
			assert.NotContains(h, resp.Body, "reached", what)
		}
	}
}

// detached returns what is wrong with a session that must be detached from its request, or an empty string.
func detached(s *coatcheck.Session) string {
	if s == nil {
		return "nil"
	}
	_, getErr := coatcheck.Get[string](s, "a")
	_, popErr := coatcheck.Pop[string](s, "a")
	s.Remove("a")
	s.Clear()
	s.Rotate()
	s.CycleID()
	s.Destroy()
	for what, err := range map[string]error{
		"Insert": s.Insert("a", 1), "Update": coatcheck.Update(s, "a", func(n int) int { return n + 1 }), "Get": getErr, "Pop": popErr,
		"Authenticate": s.Authenticate("u"), "BeginLogin": s.BeginLogin(context.Background(), "u"), "Commit": s.Commit(context.Background()),
	} {
		if !errors.Is(err, coatcheck.ErrDetached) {
			return fmt.Sprintf("%s: %v", what, err)
		}
	}
	if s.UserID() != "" || s.Len() != 0 || s.Contains("a") || s.ID() != (coatcheck.ID{}) || s.Key() != (coatcheck.Key{}) || !s.ExpiresAt().IsZero() || !s.CreatedAt().IsZero() {
		return "it shows something: " + s.UserID()
	}
	return ""
}

func checkNotMounted(h *harness) {
	h.serve(App{Handlers: map[string]Handler{"/": func(c Context) error {
		return text(c, detached(c.Session())+detached(c.Named(h.CookieName)))
	}}})
	resp := h.Get("/", h.Cookie(httpcontract.MadeUp()))
	assert.Equal(h, 200, resp.Status)
	assert.Empty(h, resp.Body)
	assert.Zero(h, h.Store.Calls(""))
}

// Outside of the middleware, an error handler included, there is no session, neither before it nor after it, even while the
// middleware reuses the request's memory for requests of other users.
func checkOutside(h *harness) {
	left, look := make(chan struct{}), make(chan struct{})
	found := make(chan string, 64)
	handlers := with(basics, h.holding())
	handlers["/error"] = func(c Context) error {
		return errors.Join(c.Session().Insert("a", 1), &Error{Status: 418, Text: "short and stout"})
	}
	handlers["/plain"] = func(Context) error { return errors.New("out of tea") }
	h.serve(App{Layers: []Layer{h.sessions(nil)}, Handlers: handlers, Outside: func(c Context) {
		if c.Query("outside") == "" {
			return
		}
		left <- struct{}{}
		<-look
		found <- detached(c.Session()) + detached(c.Named(h.CookieName))
	}})
	alice, bob := h.begin("alice"), h.begin("bob")
	for _, path := range []string{"/set?name=b&value=1&outside=yes", "/error?outside=yes", "/plain?outside=yes", "/nowhere?outside=yes", "/logout?outside=yes"} {
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			_, _ = h.Wire.Send(request{Method: "POST", Path: path, Head: []string{h.Cookie(alice)}})
		}()
		asked := 0
		for done := false; !done; {
			select {
			case <-left:
				h.whileHeld(bob, func() {
					look <- struct{}{}
					assert.Empty(h, <-found, path)
				})
				asked++
			case <-answered:
				done = true
			}
		}
		assert.Positive(h, asked, path)
	}
	assert.Equal(h, "bob", h.Post("/whose", h.Cookie(bob)).Body)
}

// holding are handlers for whileHeld.
func (h *harness) holding() map[string]Handler {
	h.entered, h.release = make(chan struct{}), make(chan struct{})
	return map[string]Handler{
		"/hold": func(c Context) error {
			h.entered <- struct{}{}
			<-h.release
			return errors.Join(c.Session().Insert("b", "held"), text(c, c.Session().UserID()))
		},
		"/whose": func(c Context) error { return text(c, c.Session().UserID()) },
	}
}

// whileHeld runs f while requests of a token's user are under way, and checks that they are not affected.
func (h *harness) whileHeld(token string, f func()) {
	h.Helper()
	user := h.Post("/whose", h.Cookie(token)).Body
	const n = 8
	answers := make(chan response, n)
	for range n {
		go func() {
			resp, _ := h.Wire.Send(request{Method: "POST", Path: "/hold", Head: []string{h.Cookie(token)}})
			answers <- resp
		}()
	}
	for range n {
		<-h.entered
	}
	f()
	for range n {
		h.release <- struct{}{}
	}
	for range n {
		assert.Equal(h, user, (<-answers).Body)
	}
}

// A session that a handler keeps, such as for a stream or a goroutine, is detached once its request has ended, even while
// the middleware reuses the request's memory for requests of other users.
func checkKept(h *harness) {
	kept := make(chan *coatcheck.Session, 64)
	handlers := with(basics, h.holding())
	handlers["/keep"] = func(c Context) error {
		kept <- c.Session()
		return c.Session().Insert("a", "kept")
	}
	h.app(handlers)
	alice, bob := h.begin("alice"), h.begin("bob")
	assert.Equal(h, 200, h.Post("/keep").Status, "an anonymous one, too")
	h.Post("/keep", h.Cookie(alice))
	h.Post("/keep", h.Cookie(alice))
	close(kept)
	h.whileHeld(bob, func() {
		for s := range kept {
			assert.Empty(h, detached(s))
			assert.Equal(h, "coatcheck.Session", fmt.Sprintf("%v", s))
		}
	})
	assert.Equal(h, `"held"`, h.value("b", bob))
	assert.Equal(h, `"kept"`, h.value("a", alice), "what was changed in time is kept")
	assert.Equal(h, "alice", h.who(alice), "nothing was ended through a session that was kept")
	assert.Equal(h, "bob", h.who(bob))
}
