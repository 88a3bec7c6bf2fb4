package servertest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/internal/middleware"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// These are shorter names for what the rules of all suites share.
type (
	request  = httpcontract.Request
	response = httpcontract.Response
	answer   = httpcontract.Answer
	wire     = httpcontract.Wire
)

const (
	asJSON        = httpcontract.AsJSON
	anonymousView = httpcontract.AnonymousView
	ttl           = httpcontract.TTL
	renewEvery    = httpcontract.RenewEvery
	maxLifetime   = httpcontract.MaxLifetime
	grace         = httpcontract.Grace
	patience      = httpcontract.Patience
)

var errLost = httpcontract.ErrLost

func madeUp() string { return httpcontract.MadeUp() }

// harness is a server under test and what the rules do with it.
type harness struct {
	*httpcontract.Harness
	api   *document
	srv   *server.Server
	admin *wire
	mode  *mode // the server's login mode, if it is a scripted one

	trusted bool // every 401 that the rule expects belongs to a login in mode trusted
}

func newHarness(t *testing.T, store coatcheck.Store, api *document) *harness {
	h := &harness{Harness: httpcontract.New(t, store), api: api}
	h.Readers = []httpcontract.Reader{httpcontract.Me, verifying, listing}
	h.Probe = verifying
	h.Routes = allRoutes
	h.Pages = []string{"/auth/login?rd=/x", "/auth/sessions", "/auth/userinfo"}
	h.PendingRoutes = append(h.PendingRoutes, listing,
		httpcontract.Reader{Method: "GET", Path: "/auth/userinfo"}, httpcontract.Reader{Method: "GET", Path: "/auth/watch"},
		httpcontract.Reader{Method: "DELETE", Path: "/auth/sessions"},
		httpcontract.Reader{Method: "DELETE", Path: "/auth/sessions/AAAAAAAAAAAAAAAAAAAAAQ"})
	h.Start = h.start
	h.Check = func(req request, r response) { h.checkAnswer(h.Wire, req, r) }
	return h
}

// verifying and listing are the server's other routes that show whose session a request's cookies open.
var (
	verifying = httpcontract.Reader{Method: "GET", Path: "/auth/verify", NoCookie: true, User: func(h *httpcontract.Harness, r response) string {
		h.Helper()
		user := r.Header.Get("Remote-User")
		assert.Contains(h, []int{200, 400, 401}, r.Status)
		assert.Equal(h, r.Status == 200, user != "")
		return user
	}}
	listing = httpcontract.Reader{Method: "GET", Path: "/auth/sessions", User: func(h *httpcontract.Harness, r response) string {
		h.Helper()
		if r.Status != 200 {
			return ""
		}
		assert.Contains(h, r.Body, `"current":true`)
		return httpcontract.Unnamed
	}}
)

func (h *harness) config(edit func(*server.Config)) server.Config {
	shared := h.Config(nil)
	cfg := server.Config{Login: login.Open{}, Policy: shared.Policy, Logger: shared.Logger}
	if edit != nil {
		edit(&cfg)
	}
	h.mode, _ = cfg.Login.(*mode)
	return cfg
}

// start starts the server for rules that know only the middleware's configuration.
func (h *harness) start(edit func(*middleware.Config)) {
	h.Helper()
	h.serve(func(cfg *server.Config) {
		shared := middleware.Config{Policy: cfg.Policy, Cookie: cfg.Cookie, TrustedProxies: cfg.TrustedProxies, Logger: cfg.Logger}
		if edit != nil {
			edit(&shared)
		}
		cfg.Policy, cfg.Cookie, cfg.TrustedProxies, cfg.Logger = shared.Policy, shared.Cookie, shared.TrustedProxies, shared.Logger
		cfg.DBSC = shared.DBSC != ""
	})
}

// serve starts the server and its two listeners.
func (h *harness) serve(edit func(*server.Config)) {
	h.Helper()
	srv, err := server.New(h.Store, h.config(edit))
	require.NoError(h, err)
	h.srv = srv
	public, admin := httpcontract.Listen(h.T), httpcontract.Listen(h.T)
	wires := [2]*wire{httpcontract.NewWire(public.Addr()), httpcontract.NewWire(admin.Addr())}
	h.Wire, h.admin = wires[0], wires[1]
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(h, srv.Serve(public)) })
	served.Go(func() { assert.NoError(h, srv.ServeAdmin(admin)) })
	h.Cleanup(func() {
		wires[0].Close()
		wires[1].Close()
		stop(srv)
		served.Wait()
	})
}

// stop ends a server when the test is over and no request has to be drained.
func stop(srv *server.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = srv.Shutdown(ctx)
}

// adminDo sends a request to the admin listener.
func (h *harness) adminDo(method, path string, head ...string) response {
	h.Helper()
	req := request{Method: method, Path: path, Head: head}
	resp, err := h.admin.Send(req)
	require.NoError(h, err)
	h.CheckAnswer(req, resp)
	h.checkAnswer(h.admin, req, resp)
	return resp
}
