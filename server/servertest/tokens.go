package servertest

import (
	"bytes"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var tokenRules = []rule{
	{name: "every variant of a live token is refused", config: revokeOnReuse, check: checkVariants},
	{name: "a malformed token does not reach the store", check: checkMalformedNoCall},
	{name: "a token counts in its cookie only", check: checkOnlyCookie},
	{name: "the store never holds a token", check: checkStoreHoldsNoToken},
	{name: "tokens do not repeat", check: checkTokensDiffer},
	{name: "a made-up token never becomes valid", check: checkFixation},
	{name: "anonymous requests store nothing", check: checkNothingStored},
}

// TOK-04, CON-06: all single-byte changes, 43 times 255, of a token whose predecessor would end the session. The parser refuses
// control characters before anybody looks at cookies.
func checkVariants(h *harness) {
	_, token := h.reused(h.user())
	for i := range len(token) {
		for c := range 256 {
			if byte(c) == token[i] {
				continue
			}
			variant := token[:i] + string([]byte{byte(c)}) + token[i+1:]
			resp := h.get("/auth/verify", h.cookie(variant))
			if resp.status != 401 && (resp.status != 400 || c >= 0x20 && c != 0x7f) {
				assert.Fail(h, "accepted", "byte %d as %#02x: %d", i, c, resp.status)
			}
		}
	}
	for name, value := range map[string]string{
		"padded": token + "=", "padded twice": token + "==", "quoted twice": `""` + token + `""`, "quote before": `"` + token, "percent": "%" + strings.ToUpper(hex(token[0])) + token[1:],
		"twice": token + token, "with its ID": token + idOf(h, token), "blank before": " " + token, "tab before": "\t" + token, "blank inside": token[:20] + " " + token[20:],
		"cut": token[:42], "cut at the front": token[1:], "one more": token + "A", "one more before": "A" + token, "half": token[:22], "upper": strings.ToUpper(token), "lower": strings.ToLower(token),
		"dot": token + ".", "signed": "s:" + token, "comma": token + ",", "trailing bits": nonCanonical(token), "NBSP": token + "\u00a0", "obs-text": token + "\xff", "equals before": "=" + token,
	} {
		assert.Equal(h, 401, h.get("/auth/verify", h.cookie(value)).status, name)
	}
	assert.NotEmpty(h, h.me(token), "none of them ended the session")
	assert.Empty(h, h.events("reuse"))
}

func hex(c byte) string { return string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]) }

// TOK-05.
func checkMalformedNoCall(h *harness) {
	token := madeUp()
	for _, value := range []string{
		"", "x", token[:42], token + "A", token + "=", `""` + token + `""`, strings.Repeat("A", 42), strings.Repeat("A", 44), strings.Repeat("A", 4000), nonCanonical(token),
		strings.Replace(token, token[:1], "+", 1), strings.Replace(token, token[:1], "/", 1), strings.Replace(token, token[:1], "%", 1), token[:20] + "=" + token[21:], token[:42] + "\x7f", token[:42] + "\xff",
	} {
		for _, route := range allRoutes {
			method, path, _ := strings.Cut(route, " ")
			h.do(method, path, h.cookie(value), asJSON)
		}
	}
	assert.Zero(h, h.store.calls(""))
}

// TOK-06; that no answer shows a token outside Set-Cookie is checked with every answer.
func checkOnlyCookie(h *harness) {
	token := h.login(h.user())
	for _, line := range []string{
		"Authorization: Bearer " + token, "Authorization: " + token, "X-Session-Id: " + token, "X-Coatcheck: " + token, h.name + ": " + token, "Cookie2: " + h.name + "=" + token,
		"Set-Cookie: " + h.name + "=" + token, "X-Cookie: " + h.name + "=" + token, "Remote-Session-Id: " + token, "Cookie: session=" + token, "Cookie: " + token, "X-Auth-Token: " + token,
	} {
		assert.Equal(h, 401, h.get("/auth/verify", line).status, line)
		assert.Equal(h, anonymousView, h.get("/auth/me", line).body, line)
		assert.Equal(h, 401, h.get("/auth/sessions", line).status, line)
		assert.Equal(h, anonymousView, h.post("/auth/refresh", line).body, line)
	}
	for _, query := range []string{"sid=" + token, h.name + "=" + token, "session_id=" + token, "token=" + token, "access_token=" + token} {
		assert.Equal(h, 401, h.get("/auth/verify?"+query).status)
		assert.Equal(h, anonymousView, h.get("/auth/me?"+query).body)
	}
	for _, body := range []string{token, h.name + "=" + token, `{"session_id":"` + token + `"}`, `{"token":"` + token + `"}`} {
		for _, kind := range []string{asJSON, "Content-Type: application/x-www-form-urlencoded", "Content-Type: text/plain"} {
			assert.Equal(h, anonymousView, h.send(request{"POST", "/auth/refresh", []string{kind}, body}).body)
			assert.Equal(h, 401, h.send(request{"POST", "/auth/verify", []string{kind}, body}).status)
		}
	}
	chunked := "0\r\nCookie: " + h.name + "=" + token + "\r\n\r\n"
	assert.Equal(h, 400, h.send(request{"POST", "/auth/verify", []string{"Transfer-Encoding: chunked", "Trailer: Cookie"}, chunked}).status, "a trailer is no header")
	chunked = "0\r\nX-Trailer: " + h.name + "=" + token + "\r\n\r\n"
	assert.Equal(h, 401, h.send(request{"POST", "/auth/verify", []string{"Transfer-Encoding: chunked", "Trailer: X-Trailer"}, chunked}).status)
	assert.NotEmpty(h, h.me(token))
}

// TOK-03, as far as a store that keeps what it is given goes.
func checkStoreHoldsNoToken(h *harness) {
	user := h.user()
	var tokens []string
	token := h.login(user)
	tokens = append(tokens, token)
	for range 3 {
		token = h.refresh(token)
		tokens = append(tokens, token)
	}
	tokens = append(tokens, h.login(user, h.cookie(token)))
	records := h.store.records()
	require.GreaterOrEqual(h, len(records), 5)
	for _, rec := range records {
		for _, token := range tokens {
			raw := rawToken(h, token)
			assert.False(h, bytes.Contains(rec.bytes, []byte(token)), "the token's text")
			assert.False(h, bytes.Contains(rec.bytes, raw), "its bytes")
			assert.False(h, bytes.Contains(rec.bytes, raw[16:]), "its secret")
			assert.NotEqual(h, raw[16:], rec.key[:], "its secret as a key")
		}
		assert.False(h, strings.Contains(user, string(rec.key[4:])), "user input in a key")
	}
}

// TOK-01, as seen from outside: checkAnswer compares every token with every earlier one.
func checkTokensDiffer(h *harness) {
	user := h.user()
	for range 300 {
		token := h.login(user)
		assert.Equal(h, token, canonical(h.T, token))
	}
}

// SES-02: every sequence of three steps with a token that nobody issued.
func checkFixation(h *harness) {
	steps := map[string]func(x string) response{
		"login":   func(x string) response { return h.tryLogin(h.user(), h.cookie(x)) },
		"refresh": func(x string) response { return h.post("/auth/refresh", h.cookie(x)) },
		"me":      func(x string) response { return h.get("/auth/me", h.cookie(x)) },
		"logout":  func(x string) response { return h.post("/auth/logout", h.cookie(x)) },
		"verify":  func(x string) response { return h.get("/auth/verify", h.cookie(x)) },
	}
	for a, first := range steps {
		for b, second := range steps {
			for c, third := range steps {
				x := madeUp()
				for _, step := range []func(string) response{first, second, third} {
					if token := h.token(step(x)); token != "" {
						assert.NotEqual(h, rawToken(h, x)[:16], rawToken(h, token)[:16], "%s %s %s: a Key that the client chose", a, b, c)
					}
				}
				assert.Equal(h, 401, h.get("/auth/verify", h.cookie(x)).status, "%s %s %s", a, b, c)
				assert.Equal(h, "", h.me(x), "%s %s %s", a, b, c)
			}
		}
	}
}

// SES-03 over TCP; the ten thousands are in package server's own tests.
func checkNothingStored(h *harness) {
	for range 200 {
		for _, line := range []string{"X-None: 1", h.cookie(madeUp()), h.cookie("x")} {
			h.get("/auth/me", line)
			h.get("/auth/verify", line)
			h.post("/auth/refresh", line)
			h.post("/auth/logout", line)
			h.loginBody(`{"user_id":""}`, asJSON, line)
		}
	}
	assert.Zero(h, h.store.calls(opCreate))
	assert.Zero(h, h.store.calls(opSwap))
}
