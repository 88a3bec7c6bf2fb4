package httpcontract

import (
	"regexp"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/dbsctest"
)

// browser is a browser with a device's key. It keeps the cookies of one session, and what it was told to sign next.
type browser struct {
	h         *Harness
	device    *dbsctest.Device
	token     string
	name      string // the value of the name cookie
	challenge string
}

var (
	registrationIn = regexp.MustCompile(`^\(ES256 RS256\);path="/auth/dbsc/register";challenge="([\w-]{22}\.[\w-]{22})"$`)
	challengeIn    = regexp.MustCompile(`^"([\w-]{22}\.[\w-]{22})";id="([\w-]{22})"$`)
	nameLineIn     = regexp.MustCompile(`-name=([\w-]{22})?; Max-Age=(\d+); Path=/; Secure; HttpOnly; SameSite=None$`)
)

// checkNameLines checks the form of the name cookie, of which a response has one at most.
func (h *Harness) checkNameLines(r Response) {
	h.Helper()
	lines := 0
	for _, line := range r.Header["Set-Cookie"] {
		if strings.HasPrefix(line, h.CookieName+"-name=") {
			lines++
			m := nameLineIn.FindStringSubmatch(line)
			if assert.NotNil(h, m, line) {
				assert.Equal(h, m[1] == "", m[2] == "0", line)
			}
		}
	}
	assert.LessOrEqual(h, lines, 1)
}

// nameOf returns what a response does to the name cookie: "", "cleared", or its value.
func (h *Harness) nameOf(r Response) string {
	for _, line := range r.Header["Set-Cookie"] {
		if value, ok := strings.CutPrefix(line, h.CookieName+"-name="); ok {
			value, _, _ = strings.Cut(value, ";")
			if value == "" {
				return "cleared"
			}
			return value
		}
	}
	return ""
}

// newBrowser logs a user in with a browser that has a device.
func (h *Harness) newBrowser(user string, device *dbsctest.Device) *browser {
	h.Helper()
	b := &browser{h: h, device: device}
	resp := h.TryLogin(user)
	require.Equal(h, 200, resp.Status, resp.Body)
	b.token, b.name = h.Token(resp), h.nameOf(resp)
	m := registrationIn.FindStringSubmatch(resp.Header.Get("Secure-Session-Registration"))
	require.NotNil(h, m, resp.Header)
	b.challenge = m[1]
	require.Equal(h, b.name, b.challenge[:22])
	return b
}

// bound logs a user in and binds the session; the bound token was used.
func (h *Harness) bound(user string) *browser {
	h.Helper()
	b := h.newBrowser(user, dbsctest.NewDevice())
	b.took(b.register(b.device.Registration(b.challenge)))
	require.Equal(h, user, h.Me(b.token))
	return b
}

// cookies returns a Cookie line with the name cookie and, if it is not empty, a token.
func (b *browser) cookies(token string) string {
	line := "Cookie: " + b.h.CookieName + "-name=" + b.name
	if token != "" {
		line += "; " + b.h.CookieName + "=" + token
	}
	return line
}

// register sends a registration with a proof.
func (b *browser) register(proof string, head ...string) Response {
	b.h.Helper()
	if len(head) == 0 {
		head = []string{b.cookies(b.token)}
	}
	return b.h.Post("/auth/dbsc/register", append(head, "Secure-Session-Response: "+proof)...)
}

// refresh sends a refresh without the session cookie, as after a link from another site. An empty proof is none.
func (b *browser) refresh(proof string, head ...string) Response {
	b.h.Helper()
	if len(head) == 0 {
		head = []string{b.cookies("")}
	}
	head = append(head, "Sec-Secure-Session-Id: "+b.name)
	if proof != "" {
		head = append(head, "Secure-Session-Response: "+proof)
	}
	return b.h.Post("/auth/dbsc/refresh", head...)
}

// took takes over what a registration or a refresh has set.
func (b *browser) took(resp Response) Response {
	b.h.Helper()
	require.Equal(b.h, Answer{Status: 200, Cookie: "set"}, b.h.Answer(resp), resp.Body)
	b.token = b.h.Token(resp)
	b.told(resp)
	return resp
}

// told takes over the challenge of a response.
func (b *browser) told(resp Response) {
	b.h.Helper()
	m := challengeIn.FindStringSubmatch(resp.Header.Get("Secure-Session-Challenge"))
	require.NotNil(b.h, m, resp.Header)
	require.Equal(b.h, b.name, m[2])
	b.challenge = m[1]
}

// renew is a refresh with the right proof.
func (b *browser) renew() {
	b.h.Helper()
	b.took(b.refresh(b.device.Refresh(b.challenge)))
}
