package httpcontract

import (
	"net/netip"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsctest"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// boundTTL is the default of Policy.BoundTTL, and tooOld how long after a proof the token opens nothing.
const (
	boundTTL = 10 * time.Minute
	tooOld   = boundTTL + boundTTL/10 + time.Millisecond
)

func withDBSC(cfg *middleware.Config) { cfg.DBSC = "/auth/dbsc" }

func behindProxy(cfg *middleware.Config) {
	withDBSC(cfg)
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

var deviceBoundRules = []Rule{
	{Name: "a session from its login to its renewal", Config: withDBSC, Check: checkBinding},
	{Name: "with an RSA key", Config: withDBSC, Check: checkRSABinding},
	{Name: "registrations that are refused", Config: withDBSC, Check: checkRefusedRegistrations},
	{Name: "bound once", Config: withDBSC, Check: checkBoundOnce},
	{Name: "proofs that are refused", Config: withDBSC, Check: checkRefusedProofs},
	{Name: "a name opens nothing", Config: withDBSC, Check: checkNames},
	{Name: "a copied cookie is refused when it is too old", Config: withDBSC, Check: checkCopiedCookie},
	{Name: "no other cookie for a bound session", Config: withDBSC, Check: checkNoOtherCookie},
	{Name: "navigations are sent to where they want to go", Config: withDBSC, Check: checkNavigations},
	{Name: "a browser that could not renew waits", Config: withDBSC, Check: checkPending},
	{Name: "signing out of a bound session", Config: withDBSC, Check: checkBoundLogout},
	{Name: "two proofs at once", Config: withDBSC, Check: checkProofsAtOnce},
	{Name: "failed proofs are throttled", Config: behindProxy, Check: checkThrottledProofs},
	{Name: "a failing store binds and renews nothing", Config: withDBSC, Check: checkDeviceStoreFailures},
	{Name: "device-bound sessions switched off", Unstarted: true, Check: checkSwitchedOff},
	{Name: "device events are logged", Config: withDBSC, Check: checkDeviceEvents},
}

func checkBinding(h *Harness) {
	user := h.User()
	b := h.newBrowser(user, dbsctest.NewDevice())
	login, name := b.token, b.name
	require.NotEmpty(h, name)
	assert.Equal(h, user, h.Me(login))
	first := b.challenge
	resp := b.took(b.register(b.device.Registration(b.challenge), "Sec-Fetch-Site: cross-site", b.cookies("")))
	assert.Equal(h, boundTTL, h.MaxAge(resp))
	assert.Empty(h, h.nameOf(resp))
	assert.Equal(h, "application/json", resp.Header.Get("Content-Type"))
	assert.Equal(h, `{"session_identifier":"`+name+`","refresh_url":"/auth/dbsc/refresh","scope":{"include_site":false},"allowed_refresh_initiators":["*"],`+
		`"credentials":[{"type":"cookie","name":"__Host-coatcheck","attributes":"Path=/; Secure; HttpOnly; SameSite=Lax"}]}`, resp.Body)
	assert.NotEqual(h, first, b.challenge)
	assert.Equal(h, user, h.Me(login), "requests on their way")
	assert.Equal(h, user, h.Me(b.token))

	h.Clock.Step(tooOld)
	resp = h.Get("/auth/me", b.cookies(b.token))
	assert.Equal(h, Answer{Status: 200, Cookie: "cleared"}, h.Answer(resp))
	assert.Equal(h, AnonymousView, resp.Body)
	assert.Empty(h, h.nameOf(resp), "the name is needed for the renewal")
	resp = b.refresh("")
	assert.Equal(h, Answer{Status: 403, Code: "proof_required"}, h.Answer(resp))
	next := b.challenge
	b.told(resp)
	assert.Equal(h, next, b.challenge, "the same challenge: nothing was written")
	resp = b.took(b.refresh(b.device.Refresh(b.challenge), "Sec-Fetch-Site: cross-site", b.cookies("")))
	assert.Equal(h, boundTTL, h.MaxAge(resp))
	assert.Empty(h, resp.Body)
	assert.NotEqual(h, next, b.challenge)
	assert.Equal(h, user, h.Me(b.token))
	assert.Equal(h, name, b.name)
}

func checkRSABinding(h *Harness) {
	b := h.newBrowser(h.User(), dbsctest.NewRS256Device())
	b.took(b.register(b.device.Registration(b.challenge)))
	user := h.Me(b.token)
	require.NotEmpty(h, user)
	h.Clock.Step(tooOld)
	b.renew()
	assert.Equal(h, user, h.Me(b.token))
}

func checkRefusedRegistrations(h *Harness) {
	b, other := h.newBrowser(h.User(), dbsctest.NewDevice()), h.newBrowser(h.User(), dbsctest.NewDevice())
	good := b.device.Registration(b.challenge)
	claims := dbsctest.Object{"jti": b.challenge}
	with := func(member string, value any) string {
		header := b.device.Header()
		header[member] = value
		return b.device.Sign(header, claims)
	}
	for what, resp := range map[string]Response{
		"no proof":                   h.Post("/auth/dbsc/register", b.cookies(b.token)),
		"two proofs":                 b.register(good, b.cookies(b.token), "Secure-Session-Response: "+good),
		"no text of a proof":         b.register("proof"),
		"alg none":                   b.register(with("alg", "none")),
		"no key":                     b.register(b.device.Refresh(b.challenge)),
		"a key of somebody else":     b.register(with("jwk", other.device.JWK())),
		"another random part":        b.register(b.device.Registration(b.name + other.challenge[22:])),
		"another session's":          b.register(b.device.Registration(other.challenge)),
		"no name cookie":             b.register(good, h.Cookie(b.token)),
		"another name cookie":        b.register(good, other.cookies(b.token)),
		"another session's cookie":   b.register(good, b.cookies(other.token)),
		"a session cookie of no use": b.register(good, b.cookies(h.WrongSecret(b.token))),
		"two names":                  b.register(good, b.cookies(""), "Cookie: "+h.CookieName+"-name="+other.name),
		"for another address":        b.register(b.device.Sign(b.device.Header(), dbsctest.Object{"jti": b.challenge, "aud": "https://other.example/auth/dbsc/register"})),
	} {
		assert.Equal(h, Answer{Status: 400, Code: "binding_refused"}, h.Answer(resp), what)
	}
	h.Clock.Step(coatcheck.BindWithin + time.Millisecond)
	assert.Equal(h, Answer{Status: 400, Code: "binding_refused"}, h.Answer(b.register(good)), "too late")
	late := h.newBrowser(h.User(), dbsctest.NewDevice())
	require.Equal(h, 204, h.Post("/auth/logout", late.cookies(late.token)).Status)
	assert.Equal(h, Answer{Status: 400, Code: "binding_refused"}, h.Answer(late.register(late.device.Registration(late.challenge), late.cookies(""))), "ended")
	last := h.newBrowser(h.User(), dbsctest.NewDevice())
	last.took(last.register(last.device.Registration(last.challenge)))
}

// A thief who comes before the owner without the challenge, or after the owner with it, binds nothing.
func checkBoundOnce(h *Harness) {
	user := h.User()
	b, thief := h.newBrowser(user, dbsctest.NewDevice()), dbsctest.NewDevice()
	copied, challenge := b.token, b.challenge
	guess := b.name + "." + strings.Repeat("A", 22)
	assert.Equal(h, 400, b.register(thief.Registration(guess), b.cookies(copied)).Status)
	b.took(b.register(b.device.Registration(challenge)))
	assert.Equal(h, Answer{Status: 409, Code: "already_bound"}, h.Answer(b.register(thief.Registration(challenge), b.cookies(copied))))
	lost := b.token
	resp := b.took(b.register(b.device.Registration(challenge), b.cookies(copied)))
	assert.Contains(h, resp.Body, b.name, "the same device again: the answer was lost")
	assert.NotEqual(h, lost, b.token)
	require.Equal(h, user, h.Me(b.token))
	assert.Equal(h, Answer{Status: 409, Code: "already_bound"}, h.Answer(b.register(b.device.Registration(challenge))), "it was used")
	assert.Equal(h, user, h.Me(b.token))
}

func checkRefusedProofs(h *Harness) {
	b, other := h.bound(h.User()), h.bound(h.User())
	rsa := dbsctest.NewRS256Device()
	right := b.device.Refresh(b.challenge)
	head := dbsctest.Object{"typ": "dbsc+jwt", "alg": b.device.Alg()}
	stands := b.challenge
	check := func(what string, resp Response) {
		h.Helper()
		assert.Equal(h, Answer{Status: 403, Code: "proof_required"}, h.Answer(resp), what)
		b.told(resp)
		assert.Equal(h, stands, b.challenge, what)
	}
	check("another key", b.refresh(other.device.Refresh(b.challenge)))
	check("another algorithm", b.refresh(rsa.Refresh(b.challenge)))
	check("alg none", b.refresh(b.device.Sign(dbsctest.Object{"typ": "dbsc+jwt", "alg": "none"}, dbsctest.Object{"jti": b.challenge})))
	check("a key in it", b.refresh(b.device.Registration(b.challenge)))
	check("another session's challenge", b.refresh(b.device.Refresh(other.challenge)))
	check("no proof at all", b.refresh("x"))
	check("for another address", b.refresh(b.device.Sign(head, dbsctest.Object{"jti": b.challenge, "aud": "https://other.example"})))
	check("two proofs", b.refresh(right, b.cookies(""), "Secure-Session-Response: "+right))
	b.took(b.refresh(right))
	stands = b.challenge
	check("replayed", b.refresh(right))
	old := b.device.Refresh(b.challenge)
	b.renew()
	stands = b.challenge
	check("an old challenge", b.refresh(old))
	b.renew()
}

func checkNames(h *Harness) {
	b, other, unbound := h.bound(h.User()), h.bound(h.User()), h.newBrowser(h.User(), dbsctest.NewDevice())
	proof := b.device.Refresh(b.challenge)
	gone := Answer{Status: 404, Code: "session_not_found"}
	for what, resp := range map[string]Response{
		"no name cookie":         b.refresh(proof, h.Cookie(b.token)),
		"another name cookie":    b.refresh(proof, other.cookies(b.token)),
		"no header":              h.Post("/auth/dbsc/refresh", b.cookies(b.token), "Secure-Session-Response: "+proof),
		"two headers":            b.refresh(proof, b.cookies(""), "Sec-Secure-Session-Id: "+b.name),
		"a session not bound":    unbound.refresh(""),
		"a session that is none": (&browser{h: h, name: strings.Repeat("A", 21) + "Q"}).refresh(""),
		"no name":                (&browser{h: h, name: "x"}).refresh(""),
	} {
		assert.Equal(h, gone, h.Answer(resp), what)
		assert.Empty(h, resp.Header.Get("Secure-Session-Challenge"), what)
	}
	h.nobody("Cookie: " + h.CookieName + "-name=" + b.name)
	h.nobody(h.Cookie(b.name))
	b.renew()
	require.Equal(h, 204, h.Post("/auth/logout", b.cookies(b.token)).Status)
	assert.Equal(h, gone, h.Answer(b.refresh(b.device.Refresh(b.challenge))))
}

// A copy of a bound session's cookie opens the session until the last proof is too old; the browser's own cookie is renewed.
func checkCopiedCookie(h *Harness) {
	user := h.User()
	b := h.bound(user)
	copied := b.token
	h.Clock.Step(tooOld - time.Millisecond)
	assert.Equal(h, user, h.Me(copied))
	h.Clock.Step(time.Millisecond)
	h.nobody(h.Cookie(copied))
	b.renew()
	assert.Equal(h, user, h.Me(b.token))
	h.Clock.Step(Grace)
	h.nobody(h.Cookie(copied))
	assert.Equal(h, user, h.Me(b.token))
	h.Clock.Step(tooOld)
	h.nobody(h.Cookie(b.token))
}
