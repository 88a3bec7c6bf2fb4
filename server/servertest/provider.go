package servertest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// providerRules are the rules of login mode oidc. What the client checks of a provider's answers is tested in package oidc.
var providerRules = []rule{
	{name: "login and return", unserved: true, check: checkProviderLogin},
	{name: "answers of no login", unserved: true, check: checkProviderState},
	{name: "failures", unserved: true, check: checkProviderFailures},
	{name: "two tabs, and no more than four", unserved: true, check: checkProviderTabs},
	{name: "a login ends the one before", unserved: true, check: checkProviderReplaces},
	{name: "the user that verify shows", unserved: true, check: checkProviderRemoteUser},
	{name: "a session that began when another user was shown", unserved: true, check: checkProviderOtherRemoteUser},
	{name: "notes of an earlier login", unserved: true, check: checkProviderEarlierNotes},
	{name: "ended while the person is at the provider", unserved: true, check: checkProviderRevoked},
	{name: "ended while the callback is answered", unserved: true, check: checkProviderRevokedMeanwhile},
	{name: "back-channel logout", unserved: true, check: checkBackChannel},
	{name: "back-channel logout, refused", unserved: true, check: checkBackChannelRefused},
	{name: "back-channel logout while the login is answered", unserved: true, check: checkBackChannelRace},
	{name: "back-channel logout that crosses the login", unserved: true, check: checkBackChannelCrossing},
	{name: "a login that is refused ends nothing", unserved: true, check: checkProviderRefusedEndsNothing},
	{name: "back-channel logout and the store", unserved: true, check: checkBackChannelStore},
	{name: "back-channel logout whose note fails", unserved: true, check: checkBackChannelNote},
	{name: "back-channel logout that fails half-way", unserved: true, check: checkBackChannelHalfWay},
	{name: "an index that a restart has emptied", unserved: true, check: checkProviderRestart},
	{name: "a restart forgets no logout", unserved: true, check: checkProviderRestartRemembers},
	{name: "store failure", unserved: true, check: checkProviderStoreFailure},
	{name: "an address that sends bad codes", unserved: true, check: checkProviderLimit},
	{name: "an address whose logins fail, whatever the provider answers", unserved: true, check: checkProviderLimitAnswers},
	{name: "failures that are not of an address", unserved: true, check: checkProviderLimitOthers},
	{name: "a login that was throttled goes on", unserved: true, check: checkProviderThrottledLogin},
	{name: "a bound ticket that is too old", unserved: true, check: checkProviderDevice},
	{name: "reauthentication", unserved: true, check: checkProviderReauth},
	{name: "the page of sessions and a provider that hangs", unserved: true, check: checkProviderHangs},
	{name: "HSTS where browsers come by https", unserved: true, check: checkProviderHSTS},
	{name: "routes of other modes", transport: true, check: checkNoProvider},
}

// person is the browser of a person who logs in at the provider.
type person struct {
	*harness
	at      *oidctest.Provider
	cookies map[string]string // of attempts, and the session's
}

const externalURL = "http://localhost:4000"

// serveProvider starts a provider and a server that logs in there.
func (h *harness) serveProvider(edit func(*oidc.Options), cfg func(*server.Config)) *oidctest.Provider {
	h.Helper()
	p := oidctest.New(h.T)
	p.Edit(func(b *oidctest.Behaviour) { b.Now = h.Clock.Now })
	h.serveAt(p, edit, cfg)
	return p
}

func (h *harness) serveAt(p *oidctest.Provider, edit func(*oidc.Options), more func(*server.Config)) {
	h.Helper()
	h.Beside = func(name string) bool { return strings.HasPrefix(name, "coatcheck-oidc-") }
	h.serve(func(cfg *server.Config) {
		opt := oidc.Options{
			Issuer: p.URL, ClientID: oidctest.ClientID, Secret: func() string { return oidctest.Secret }, ExternalURL: externalURL, StateKeys: oidc.RandomStateKey(),
			Now: h.Clock.Now, Timeout: time.Minute,
		}
		if edit != nil {
			edit(&opt)
		}
		provider, err := oidc.New(opt)
		require.NoError(h, err)
		h.Cleanup(provider.Close)
		cfg.Login, cfg.OIDC = login.Provider{}, provider
		if more != nil {
			more(cfg)
		}
	})
}

func (h *harness) person(p *oidctest.Provider) *person {
	return &person{harness: h, at: p, cookies: make(map[string]string)}
}

// get sends a request with the person's cookies, and takes what the answer sets.
func (b *person) get(path string, head ...string) response {
	b.Helper()
	var pairs []string
	for name, value := range b.cookies {
		pairs = append(pairs, name+"="+value)
	}
	if len(pairs) > 0 {
		head = append(head, "Cookie: "+strings.Join(pairs, "; "))
	}
	resp := b.Get(path, head...)
	for _, line := range resp.Header["Set-Cookie"] {
		c := httpcontract.ParseSetCookie(line)
		if c.Value == "" {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return resp
}

// begin begins a login, and returns where the provider is asked.
func (b *person) begin(query string) string {
	b.Helper()
	resp := b.get("/auth/oidc/login" + query)
	require.Equal(b, 302, resp.Status, resp.Body)
	return resp.Header.Get("Location")
}

// authorize is what the provider answers, as the path and query of the callback.
func (b *person) authorize(location string) string {
	b.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(b.Context(), "GET", location, http.NoBody)
	require.NoError(b, err)
	resp, err := client.Do(req)
	require.NoError(b, err)
	require.NoError(b, resp.Body.Close())
	client.CloseIdleConnections()
	rest, ok := strings.CutPrefix(resp.Header.Get("Location"), externalURL)
	require.True(b, ok, resp.Header.Get("Location"))
	return rest
}

// login is a whole login. It returns the answer to the callback.
func (b *person) login(query string, head ...string) response {
	b.Helper()
	return b.get(b.authorize(b.begin(query)), head...)
}

func (b *person) session() string { return b.cookies[b.CookieName] }

func (b *person) user() string {
	b.Helper()
	return b.Me(b.session())
}

func checkProviderLogin(h *harness) {
	p := h.serveProvider(nil, redirectingOIDC)
	b := h.person(p)
	page := b.get("/auth/login?rd=%2Fa%3Fb%3Dc%26d")
	assert.Contains(h, page.Body, `href="oidc/login?rd=%2fa%3fb%3dc%26d"`)
	location := b.begin("?rd=%2Fa%3Fb%3Dc%26d")
	u, err := url.Parse(location)
	require.NoError(h, err)
	q := u.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": oidctest.ClientID, "redirect_uri": externalURL + "/auth/oidc/callback",
		"scope": "openid profile email", "code_challenge_method": "S256", "prompt": "",
	} {
		assert.Equal(h, want, q.Get(name), name)
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		assert.Len(h, q.Get(name), 43, name)
	}
	require.Len(h, b.cookies, 1)
	resp := b.get(b.authorize(location))
	assert.Equal(h, 303, resp.Status, resp.Body)
	assert.Equal(h, "/a?b=c&d", resp.Header.Get("Location"))
	require.Len(h, b.cookies, 1, "the cookie of the attempt is gone")
	assert.Equal(h, "sub-ann", b.user())
	verdict := h.Get("/auth/verify?group=staff", h.Cookie(b.session()))
	assert.Equal(h, 200, verdict.Status)
	assert.Equal(h, []string{"sub-ann"}, verdict.Header["Remote-User"])
	assert.Equal(h, []string{"ann@example.com"}, verdict.Header["Remote-Email"])
	assert.Equal(h, []string{"staff,ops"}, verdict.Header["Remote-Groups"])
	assert.Equal(h, 1, p.Calls("/userinfo"))
	assert.Equal(h, answer{Status: 405, Code: "method_not_allowed"}, h.Answer(h.Post("/auth/login")), "there is no login by a name")

	long := strings.Repeat("x", 2047)
	for query, want := range map[string]string{"": "../devices", "?rd=//evil.example": "../devices", "?rd=/" + long: "/" + long, "?rd=https%3A%2F%2Fapp.example%2Fx": "https://app.example/x"} {
		assert.Equal(h, want, h.person(p).login(query).Header.Get("Location"), query)
	}
	location = b.begin("?reauth=1")
	assert.Contains(h, location, "prompt=login")
	assert.Contains(h, location, "max_age=0")
	assert.Equal(h, 303, b.get(b.authorize(location)).Status)
	assert.NotEmpty(h, h.Events("login"))
	devices := b.get("/auth/devices")
	assert.Contains(h, devices.Body, `href="`+p.URL+`/end?client_id=coatcheck&amp;post_logout_redirect_uri=http%3A%2F%2Flocalhost%3A4000%2Fauth%2Flogin"`)
}

func redirectingOIDC(cfg *server.Config) { cfg.TrustedOrigins = []string{"https://app.example"} }

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func checkProviderTabs(h *harness) {
	p := h.serveProvider(nil, nil)
	b := h.person(p)
	var callbacks []string
	for i := range 6 {
		h.Clock.Step(time.Second)
		callbacks = append(callbacks, b.authorize(b.begin(fmt.Sprintf("?rd=/tab%d", i))))
		assert.LessOrEqual(h, len(b.cookies), 4)
	}
	for i, callback := range callbacks {
		resp := b.get(callback)
		if i < 2 {
			assert.Equal(h, "oidc_state", resp.Code(), "the oldest are cleared")
			continue
		}
		assert.Equal(h, fmt.Sprintf("/tab%d", i), resp.Header.Get("Location"), "each tab returns to where it came from")
	}
	for _, length := range []int{1000, 1900} {
		b, callbacks := h.person(p), []string{}
		for i := range 4 {
			h.Clock.Step(time.Second)
			callbacks = append(callbacks, b.authorize(b.begin(fmt.Sprintf("?rd=/tab%d/%s", i, strings.Repeat("x", length)))))
			size := 0
			for name, value := range b.cookies {
				size += len(name) + len(value) + 3
			}
			assert.Less(h, size, 4<<10+100, "attempts leave room in a request's headers")
		}
		for i, callback := range callbacks {
			resp := b.get(callback)
			assert.Equal(h, 303, resp.Status, "tab %d: a long address is forgotten, and not the login", i)
			assert.Equal(h, i == 3 || i == 2 && length == 1000, strings.HasPrefix(resp.Header.Get("Location"), fmt.Sprintf("/tab%d/", i)), "tab %d, %d bytes", i, length)
		}
	}
	b.cookies["coatcheck-oidc-abcdefgh"] = "junk"
	b.begin("")
	assert.NotContains(h, b.cookies, "coatcheck-oidc-abcdefgh", "a cookie that holds no attempt is cleared")
	assert.Equal(h, 12, h.Store.Calls("create"), "attempts create no sessions")
}

func checkProviderReplaces(h *harness) {
	p := h.serveProvider(nil, nil)
	b := h.person(p)
	b.login("")
	first := b.session()
	b.login("")
	assert.NotEqual(h, first, b.session())
	assert.Empty(h, h.Me(first))
	p.Edit(func(bh *oidctest.Behaviour) { bh.Claims = map[string]any{} })
	second := b.session()
	b.login("")
	assert.Empty(h, h.Me(second))
	assert.Equal(h, `{"sub":"sub-ann"}`, h.Get("/auth/userinfo", h.Cookie(b.session())).Body)
}

// A login begins when the callback arrives. A user whose sessions were ended before that may log in, after one more redirect to the
// provider.
func checkProviderRevoked(h *harness) {
	p := h.serveProvider(nil, nil)
	b := h.person(p)
	callback := b.authorize(b.begin("?rd=/x"))
	require.NoError(h, h.srv.EndUser(h.Context(), "sub-ann"))
	h.Clock.Step(5 * time.Minute) // a slow second factor
	resp := b.get(callback)
	if resp.Status == 302 { // the store's mark stands for a minute of its own clock
		resp = b.get(b.authorize(resp.Header.Get("Location")))
	}
	assert.Equal(h, 303, resp.Status, resp.Body)
	assert.Equal(h, "/x", resp.Header.Get("Location"))

	require.NoError(h, h.srv.EndUser(h.Context(), "sub-ann"))
	assert.Empty(h, b.user())
	callback = b.authorize(b.begin("?rd=/y"))
	resp = b.get(callback)
	require.Equal(h, 302, resp.Status, "the user was not known when it began")
	resp = b.get(b.authorize(resp.Header.Get("Location")))
	assert.Equal(h, 303, resp.Status)
	assert.Equal(h, "/y", resp.Header.Get("Location"))
	assert.Equal(h, "sub-ann", b.user())
}

// If a user's sessions are ended while the server asks the provider, the login is refused, too.
func checkProviderRevokedMeanwhile(h *harness) {
	p := h.serveProvider(nil, nil)
	end := func(w http.ResponseWriter, _ *http.Request) {
		assert.NoError(h, h.srv.EndUser(h.Context(), "sub-ann"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"sub":"sub-ann"}`))
	}
	p.Edit(func(b *oidctest.Behaviour) { b.Handlers = map[string]http.HandlerFunc{"/userinfo": end} })
	b := h.person(p)
	resp := b.login("")
	require.Equal(h, 302, resp.Status, "the end may have come before the login")
	resp = b.get(b.authorize(resp.Header.Get("Location")))
	assert.Equal(h, answer{Status: 401, Code: "login_revoked"}, h.Answer(resp), "the user was known this time")
	assert.Empty(h, b.session())
}

// CSR-06: the server knows by --oidc-external-url of one host that browsers come to it by https, also where TLS ends at a proxy. The
// operator has said nothing of the hosts of applications, under whose names proxies hand on answers of verify.
func checkProviderHSTS(h *harness) {
	const name, promise = "Strict-Transport-Security", "max-age=63072000"
	for _, tt := range []struct {
		external, host string
		want           []string
	}{
		{"https://auth.example", "auth.example", []string{promise}},
		{"https://Auth.Example:443", "auth.EXAMPLE", []string{promise}},
		{"https://auth.example:0443", "auth.example", []string{promise}},
		{"https://auth.example", "auth.example:443", []string{promise}},
		{"https://auth.example:8443", "auth.example:8443", []string{promise}},
		{"https://localhost", "localhost", []string{promise}},
		{"https://auth.example:8443", "auth.example", nil},
		{"https://auth.example", "auth.example:8443", nil},
		{"https://auth.example", "app.example", nil},
		{"https://auth.example", "x.auth.example", nil},
		{externalURL, "localhost:4000", nil},
	} {
		h.serveProvider(func(o *oidc.Options) { o.ExternalURL = tt.external }, nil)
		host, what := "Host: "+tt.host, fmt.Sprintf("%s by %q", tt.external, tt.host)
		for _, resp := range []response{
			h.Get("/auth/me", host), h.Get("/auth/login", asBrowser, host), h.Get("/elsewhere", host), h.Get("/auth/oidc/callback", host), h.Do("POST", "/auth/me", host),
		} {
			assert.Equal(h, tt.want, resp.Header[name], "%s: %d", what, resp.Status)
		}
		for _, target := range []string{"/auth/verify", "/auth/verify?group=a", "/auth/verify?x", "http://auth.example/auth/verify"} {
			assert.NotContains(h, h.Get(target, host).Header, name, "%s: %s", what, target)
		}
		h.Store.Failing(coatcheck.ErrUnavailable)
		failed, verdict := h.Get("/auth/me", h.Cookie(madeUp()), host), h.Get("/auth/verify", h.Cookie(madeUp()), host)
		ofAdmin := h.adminDo("GET", "/admin/users/ann/sessions")
		h.Store.Failing(nil)
		assert.Equal(h, []int{503, 503, 503}, []int{failed.Status, verdict.Status, ofAdmin.Status})
		assert.Equal(h, tt.want, failed.Header[name], what)
		assert.NotContains(h, verdict.Header, name, what)
		for _, resp := range []response{ofAdmin, h.adminDo("GET", "/healthz", host), h.adminDo("GET", "/elsewhere", host)} {
			assert.NotContains(h, resp.Header, name, "the admin listener is another address")
		}
	}
}
