package servertest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func checkProviderState(h *harness) {
	p := h.serveProvider(nil, nil)
	b := h.person(p)
	callback := b.authorize(b.begin(""))
	coded := func(code string) string {
		path, query, _ := strings.Cut(callback, "?")
		q, err := url.ParseQuery(query)
		require.NoError(h, err)
		q.Set("code", code)
		return path + "?" + q.Encode()
	}
	other := h.person(p)
	for name, tt := range map[string]struct {
		path, code string
		by         *person
	}{
		"another browser":      {callback, "oidc_state", other},
		"no parameters":        {"/auth/oidc/callback", "oidc_callback", b},
		"no state":             {"/auth/oidc/callback?code=x", "oidc_callback", b},
		"no code":              {"/auth/oidc/callback?state=" + strings.Repeat("x", 43), "oidc_callback", b},
		"code and error":       {callback + "&error=access_denied", "oidc_callback", b},
		"state twice":          {callback + "&state=x", "oidc_callback", b},
		"code twice":           {callback + "&code=x", "oidc_callback", b},
		"an empty code":        {coded(""), "oidc_callback", b},
		"NUL in a code":        {coded("x\x00"), "oidc_callback", b},
		"DEL in a code":        {coded("x\x7f"), "oidc_callback", b},
		"a code not in ASCII":  {coded("é"), "oidc_callback", b},
		"iss twice":            {callback + "&iss=x", "oidc_callback", b},
		"another state":        {"/auth/oidc/callback?code=x&state=" + strings.Repeat("x", 43), "oidc_state", b},
		"a short state":        {"/auth/oidc/callback?code=x&state=x", "oidc_state", b},
		"a query that is none": {"/auth/oidc/callback?state=%zz", "oidc_callback", b},
	} {
		resp := tt.by.get(tt.path)
		assert.Equal(h, answer{Status: 400, Code: tt.code}, h.Answer(resp), name)
	}
	assert.Zero(h, p.Calls("/token"), "the provider is not asked about such answers")

	name := slices.Collect(keysOf(b.cookies))[0]
	was := b.cookies[name]
	last := "A"
	if strings.HasSuffix(was, last) {
		last = "Q"
	}
	b.cookies[name] = was[:len(was)-1] + last
	assert.Equal(h, "oidc_state", b.get(callback).Code(), "a cookie that was changed")
	b.cookies[name] = was
	moved := name[:len(name)-1] + "~"
	b.cookies = map[string]string{moved: was}
	assert.Equal(h, "oidc_state", b.get(callback).Code(), "under another name")
	b.cookies = map[string]string{name: was}
	h.Clock.Step(10 * time.Minute)
	assert.Equal(h, "oidc_state", b.get(callback).Code(), "too late")

	b = h.person(p)
	callback = b.authorize(b.begin(""))
	assert.Equal(h, 303, b.get(callback).Status)
	assert.Equal(h, answer{Status: 400, Code: "oidc_state"}, h.Answer(b.get(callback)), "a state is taken once")
	assert.NotEmpty(h, b.user(), "and what comes again ends nothing")
}

func checkProviderFailures(h *harness) {
	p := h.serveProvider(func(o *oidc.Options) { o.Allow = []string{"groups=staff"} }, nil)
	usual := p.Behaviour
	for name, tt := range map[string]struct {
		edit func(*oidctest.Behaviour)
		want answer
	}{
		"denied":       {func(b *oidctest.Behaviour) { b.Redirect = refusing("access_denied") }, answer{Status: 403, Code: "oidc_denied"}},
		"out of order": {func(b *oidctest.Behaviour) { b.Redirect = refusing("temporarily_unavailable") }, answer{Status: 503, Code: "oidc_unavailable"}},
		"not allowed":  {func(b *oidctest.Behaviour) { b.Claims = map[string]any{"groups": []string{"ops"}} }, answer{Status: 403, Code: "oidc_not_allowed"}},
		"mix-up":       {func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Set("iss", "https://other.example") } }, answer{Status: 400, Code: "oidc_issuer"}},
		"a bad code":   {func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Set("code", "x") } }, answer{Status: 400, Code: "oidc_code"}},
		"a bad token":  {func(b *oidctest.Behaviour) { b.Token = func(c map[string]any) { c["nonce"] = "x" } }, answer{Status: 502, Code: "oidc_token"}},
		"userinfo":     {func(b *oidctest.Behaviour) { b.UserInfo = map[string]any{"sub": "x"} }, answer{Status: 502, Code: "oidc_userinfo"}},
		"no userinfo":  {func(b *oidctest.Behaviour) { b.Handlers = map[string]http.HandlerFunc{"/userinfo": answering(401, "")} }, answer{Status: 502, Code: "oidc_answer"}},
		"busy":         {func(b *oidctest.Behaviour) { b.Handlers = map[string]http.HandlerFunc{"/userinfo": answering(429, "")} }, answer{Status: 503, Code: "oidc_unavailable"}},
		"no answer":    {func(b *oidctest.Behaviour) { b.Handlers = map[string]http.HandlerFunc{"/token": answering(302, "")} }, answer{Status: 502, Code: "oidc_answer"}},
		"down":         {func(b *oidctest.Behaviour) { b.Handlers = map[string]http.HandlerFunc{"/token": answering(503, "")} }, answer{Status: 503, Code: "oidc_unavailable"}},
		"too much": {func(b *oidctest.Behaviour) {
			b.Claims = map[string]any{"groups": []string{"staff", strings.Repeat("x", 3000)}}
		}, answer{Status: 403, Code: "claims_too_large"}},
	} {
		p.Edit(func(b *oidctest.Behaviour) { *b = usual; tt.edit(b) })
		b := h.person(p)
		callback := b.authorize(b.begin("?rd=/x"))
		resp := b.get(callback)
		got := h.Answer(resp)
		got.Cookie = ""
		assert.Equal(h, tt.want, got, name)
		assert.Empty(h, b.session(), name)
		assert.Empty(h, b.cookies, "%s: the attempt is over", name)
		b.cookies[b.CookieName] = "malformed"
		page := b.login("?rd=/x", asBrowser)
		assert.Equal(h, map[bool]string{true: "", false: "cleared"}[tt.want.Status == 503], h.CookieOf(page), "%s: a 503 says nothing of the session", name)
		assert.Equal(h, tt.want.Status, page.Status, name)
		assert.Contains(h, page.Body, tt.want.Code, name)
		assert.Contains(h, page.Body, "<h1>The login did not succeed</h1>", "%s: true also of those who are signed in, and stay so", name)
		assert.Contains(h, page.Header.Get("Content-Type"), "text/html")
		assert.Contains(h, page.Body, "/auth/oidc/login?rd=%2fx", name)
		failed := h.Events("login_failed")
		require.NotEmpty(h, failed, name)
		assert.Equal(h, tt.want.Code, failed[len(failed)-1]["outcome"], name)
	}
}

// The page of sessions needs the provider only for a link, and comes without it while the provider hangs.
func checkProviderHangs(h *harness) {
	p := h.serveProvider(func(o *oidc.Options) { o.Timeout = time.Hour }, nil)
	const document = "/.well-known/openid-configuration"
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	h.Cleanup(release)
	p.Edit(func(b *oidctest.Behaviour) {
		b.Handlers = map[string]http.HandlerFunc{document: func(w http.ResponseWriter, _ *http.Request) {
			<-released
			w.WriteHeader(http.StatusServiceUnavailable)
		}}
	})
	start := time.Now()
	page := h.Get("/auth/devices")
	assert.Less(h, time.Since(start), patience/3, "a second, on a busy machine too")
	assert.Equal(h, 200, page.Status)
	assert.NotContains(h, page.Body, "sign out there too")
	p.Edit(func(b *oidctest.Behaviour) { b.Handlers = nil })
	release()
	require.Eventually(h, func() bool {
		h.Clock.Step(time.Second) // a document that could not be had is asked for again
		return strings.Contains(h.Get("/auth/devices").Body, "sign out there too")
	}, patience, 5*time.Millisecond)
}

func refusing(code string) func(url.Values) {
	return func(q url.Values) { q.Del("code"); q.Set("error", code); q.Set("error_description", "<script>") }
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}
