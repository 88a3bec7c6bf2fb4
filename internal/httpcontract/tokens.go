package httpcontract

import (
	"bytes"
	"math/rand/v2"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var tokenRules = []Rule{
	{Name: "every variant of a live token is refused", Config: revokeOnReuse, Check: checkVariants},
	{Name: "a malformed token does not reach the store", Check: checkMalformedNoCall},
	{Name: "a token counts in its cookie only", Check: checkOnlyCookie},
	{Name: "the store never holds a token", Check: checkStoreHoldsNoToken},
	{Name: "tokens do not repeat", Check: checkTokensDiffer},
	{Name: "a made-up token never becomes valid", Check: checkFixation},
	{Name: "anonymous requests store nothing", Check: checkNothingStored},
}

// TOK-04, CON-06: all single-byte changes, 43 times 255, of a token whose predecessor would end the session. The HTTP
// parser refuses control characters before any code looks at cookies.
func checkVariants(h *Harness) {
	_, token := h.Reused(h.User())
	for i := range len(token) {
		for c := range 256 {
			if byte(c) == token[i] || rand.IntN(thinned) > 0 {
				continue
			}
			variant := token[:i] + string([]byte{byte(c)}) + token[i+1:]
			resp := h.Do(h.Probe.Method, h.Probe.Path, h.Cookie(variant))
			if h.Probe.User(h, resp) != "" || resp.Status == 400 && c >= 0x20 && c != 0x7f {
				assert.Fail(h, "accepted", "byte %d as %#02x: %d", i, c, resp.Status)
			}
		}
	}
	for name, value := range map[string]string{
		"padded": token + "=", "padded twice": token + "==", "quoted twice": `""` + token + `""`, "quote before": `"` + token,
		"percent": "%" + strings.ToUpper(hex(token[0])) + token[1:],
		"twice":   token + token, "with its ID": token + h.IDOf(token), "blank before": " " + token, "tab before": "\t" + token, "blank inside": token[:20] + " " + token[20:],
		"cut": token[:42], "cut at the front": token[1:], "one more": token + "A", "one more before": "A" + token, "half": token[:22],
		"upper": strings.ToUpper(token), "lower": strings.ToLower(token),
		"dot": token + ".", "signed": "s:" + token, "comma": token + ",", "trailing bits": NonCanonical(token), "NBSP": token + "\u00a0",
		"obs-text": token + "\xff", "equals before": "=" + token,
	} {
		resp := h.Do(h.Probe.Method, h.Probe.Path, h.Cookie(value))
		assert.Equal(h, "", h.Probe.User(h, resp), name)
		assert.NotEqual(h, 400, resp.Status, "%s: the request is well-formed", name)
	}
	assert.NotEmpty(h, h.Me(token), "none of them ended the session")
	assert.Empty(h, h.Events("reuse"))
}

func hex(c byte) string { return string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]) }

// TOK-05.
func checkMalformedNoCall(h *Harness) {
	token := MadeUp()
	for _, value := range []string{
		"", "x", token[:42], token + "A", token + "=", `""` + token + `""`, strings.Repeat("A", 42), strings.Repeat("A", 44), strings.Repeat("A", 4000), NonCanonical(token),
		strings.Replace(token, token[:1], "+", 1), strings.Replace(token, token[:1], "/", 1), strings.Replace(token, token[:1], "%", 1),
		token[:20] + "=" + token[21:], token[:42] + "\x7f", token[:42] + "\xff",
	} {
		for _, route := range h.Routes {
			method, path, _ := strings.Cut(route, " ")
			h.Do(method, path, h.Cookie(value), AsJSON)
		}
	}
	assert.Zero(h, h.Store.Calls(""))
}

// TOK-06; CheckAnswer checks for every answer that no token stands outside Set-Cookie.
func checkOnlyCookie(h *Harness) {
	token := h.Login(h.User())
	for _, line := range []string{
		"Authorization: Bearer " + token, "Authorization: " + token, "X-Session-Id: " + token, "X-Coatcheck: " + token, h.CookieName + ": " + token,
		"Cookie2: " + h.CookieName + "=" + token,
		"Set-Cookie: " + h.CookieName + "=" + token, "X-Cookie: " + h.CookieName + "=" + token, "Remote-Session-Id: " + token,
		"Cookie: session=" + token, "Cookie: " + token, "X-Auth-Token: " + token,
	} {
		h.nobody(line)
		assert.Equal(h, AnonymousView, h.Post("/auth/refresh", line).Body, line)
	}
	for _, query := range []string{"sid=" + token, h.CookieName + "=" + token, "session_id=" + token, "token=" + token, "access_token=" + token} {
		for _, route := range h.Readers {
			route.Path += "?" + query
			assert.Equal(h, "", h.Shows(route), route.Path)
		}
	}
	for _, body := range []string{token, h.CookieName + "=" + token, `{"session_id":"` + token + `"}`, `{"token":"` + token + `"}`} {
		for _, kind := range []string{AsJSON, "Content-Type: application/x-www-form-urlencoded", "Content-Type: text/plain"} {
			assert.Equal(h, AnonymousView, h.Send(Request{Method: "POST", Path: "/auth/refresh", Head: []string{kind}, Body: body}).Body)
		}
	}
	assert.NotEmpty(h, h.Me(token))
}

// TOK-03, for what a store is given to keep.
func checkStoreHoldsNoToken(h *Harness) {
	user := h.User()
	var tokens []string
	token := h.Login(user)
	tokens = append(tokens, token)
	for range 3 {
		token = h.Refresh(token)
		tokens = append(tokens, token)
	}
	tokens = append(tokens, h.Login(user, h.Cookie(token)))
	records := h.Store.Records()
	require.GreaterOrEqual(h, len(records), 5)
	for _, rec := range records {
		for _, token := range tokens {
			raw := h.RawToken(token)
			assert.False(h, bytes.Contains(rec.Bytes, []byte(token)), "the token's text")
			assert.False(h, bytes.Contains(rec.Bytes, raw), "its bytes")
			assert.False(h, bytes.Contains(rec.Bytes, raw[16:]), "its secret")
			assert.NotEqual(h, raw[16:], rec.Key[:], "its secret as a key")
		}
		assert.False(h, strings.Contains(user, string(rec.Key[4:])), "user input in a key")
	}
}

// TOK-01, as seen from outside: checkAnswer compares every token with every earlier one.
func checkTokensDiffer(h *Harness) {
	user := h.User()
	for range 300 / thinned {
		token := h.Login(user)
		assert.Equal(h, token, h.Canonical(token))
	}
}

// SES-02: the check runs every sequence of three steps with a token that was never issued.
func checkFixation(h *Harness) {
	steps := map[string]func(x string) Response{
		"login":   func(x string) Response { return h.TryLogin(h.User(), h.Cookie(x)) },
		"refresh": func(x string) Response { return h.Post("/auth/refresh", h.Cookie(x)) },
		"me":      func(x string) Response { return h.Get("/auth/me", h.Cookie(x)) },
		"logout":  func(x string) Response { return h.Post("/auth/logout", h.Cookie(x)) },
		"ask":     func(x string) Response { return h.Do(h.Probe.Method, h.Probe.Path, h.Cookie(x)) },
	}
	for a, first := range steps {
		for b, second := range steps {
			for c, third := range steps {
				x := MadeUp()
				for _, step := range []func(string) Response{first, second, third} {
					if token := h.Token(step(x)); token != "" {
						assert.NotEqual(h, h.RawToken(x)[:16], h.RawToken(token)[:16], "%s %s %s: a Key that the client chose", a, b, c)
					}
				}
				h.nobody(h.Cookie(x))
			}
		}
	}
}

// SES-03 over TCP; package server's own tests send the ten thousand requests.
func checkNothingStored(h *Harness) {
	for range 200 / thinned {
		for _, line := range []string{"X-None: 1", h.Cookie(MadeUp()), h.Cookie("x")} {
			h.Get("/auth/me", line)
			h.Do(h.Probe.Method, h.Probe.Path, line)
			h.Post("/auth/refresh", line)
			h.Post("/auth/logout", line)
			h.LoginBody(`{"user_id":""}`, AsJSON, line)
		}
	}
	assert.Zero(h, h.Store.Calls(OpCreate))
	assert.Zero(h, h.Store.Calls(OpSwap))
}
