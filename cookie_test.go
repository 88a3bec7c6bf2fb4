package coatcheck_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A response has at most one Set-Cookie (DESIGN section 2). It sets the cookie for a session that was created, rotated,
// given another key or changed by the handler, clears it on a logout and for a dead cookie, and leaves it alone otherwise.
func TestCookieOutcome(t *testing.T) {
	insert := func(s *coatcheck.Session) { _ = s.Insert("x", 1) }
	tests := map[string]struct {
		cookie  string // none, user, anonymous, previous, malformed, unknown, expired, tombstone, wrong secret, reused
		handler func(s *coatcheck.Session)
		want    coatcheck.CookieAction
		same    bool // with Set: the cookie is the token that was presented
	}{
		"anonymous, nothing":               {"none", func(*coatcheck.Session) {}, coatcheck.KeepCookie, false},
		"anonymous, insert":                {"none", insert, coatcheck.SetCookie, false},
		"anonymous, insert and remove":     {"none", func(s *coatcheck.Session) { insert(s); s.Remove("x") }, coatcheck.KeepCookie, false},
		"anonymous, insert and clear":      {"none", func(s *coatcheck.Session) { insert(s); s.Clear() }, coatcheck.KeepCookie, false},
		"anonymous, rotate":                {"none", (*coatcheck.Session).Rotate, coatcheck.KeepCookie, false},
		"anonymous, cycle":                 {"none", (*coatcheck.Session).CycleID, coatcheck.KeepCookie, false},
		"anonymous, clear":                 {"none", (*coatcheck.Session).Clear, coatcheck.KeepCookie, false},
		"anonymous, destroy":               {"none", (*coatcheck.Session).Destroy, coatcheck.ClearCookie, false},
		"anonymous, login":                 {"none", func(s *coatcheck.Session) { _ = s.Authenticate("u") }, coatcheck.SetCookie, false},
		"session, nothing":                 {"user", func(*coatcheck.Session) {}, coatcheck.KeepCookie, false},
		"session, read":                    {"user", func(s *coatcheck.Session) { s.Len() }, coatcheck.KeepCookie, false},
		"session, insert":                  {"user", insert, coatcheck.SetCookie, true},
		"session, remove":                  {"user", func(s *coatcheck.Session) { s.Remove("a") }, coatcheck.SetCookie, true},
		"session, remove of nothing":       {"user", func(s *coatcheck.Session) { s.Remove("b") }, coatcheck.KeepCookie, false},
		"session, clear":                   {"user", (*coatcheck.Session).Clear, coatcheck.SetCookie, true},
		"session, rotate":                  {"user", (*coatcheck.Session).Rotate, coatcheck.SetCookie, false},
		"session, cycle":                   {"user", (*coatcheck.Session).CycleID, coatcheck.SetCookie, false},
		"session, destroy":                 {"user", (*coatcheck.Session).Destroy, coatcheck.ClearCookie, false},
		"session, destroy and insert":      {"user", func(s *coatcheck.Session) { s.Destroy(); insert(s) }, coatcheck.SetCookie, false},
		"session, login":                   {"user", func(s *coatcheck.Session) { _ = s.Authenticate("u") }, coatcheck.SetCookie, false},
		"session, login and destroy":       {"user", func(s *coatcheck.Session) { _ = s.Authenticate("u"); s.Destroy() }, coatcheck.ClearCookie, false},
		"session, refused insert":          {"user", func(s *coatcheck.Session) { _ = s.Insert("", 1) }, coatcheck.KeepCookie, false},
		"session, a failed login":          {"user", func(s *coatcheck.Session) { _ = s.Authenticate("") }, coatcheck.KeepCookie, false},
		"session without a user, rotate":   {"anonymous", (*coatcheck.Session).Rotate, coatcheck.SetCookie, false},
		"previous token, nothing":          {"previous", func(*coatcheck.Session) {}, coatcheck.KeepCookie, false},
		"previous token, insert":           {"previous", insert, coatcheck.KeepCookie, false},
		"previous token, rotate":           {"previous", (*coatcheck.Session).Rotate, coatcheck.KeepCookie, false},
		"previous token, cycle":            {"previous", (*coatcheck.Session).CycleID, coatcheck.SetCookie, false},
		"previous token, destroy":          {"previous", (*coatcheck.Session).Destroy, coatcheck.ClearCookie, false},
		"malformed":                        {"malformed", func(*coatcheck.Session) {}, coatcheck.ClearCookie, false},
		"malformed, insert":                {"malformed", insert, coatcheck.SetCookie, false},
		"unknown":                          {"unknown", func(*coatcheck.Session) {}, coatcheck.ClearCookie, false},
		"expired":                          {"expired", func(*coatcheck.Session) {}, coatcheck.ClearCookie, false},
		"unknown, rotate":                  {"unknown", (*coatcheck.Session).Rotate, coatcheck.ClearCookie, false},
		"unknown, login":                   {"unknown", func(s *coatcheck.Session) { _ = s.Authenticate("u") }, coatcheck.SetCookie, false},
		"tombstone":                        {"tombstone", func(*coatcheck.Session) {}, coatcheck.KeepCookie, false},
		"tombstone, destroy":               {"tombstone", (*coatcheck.Session).Destroy, coatcheck.ClearCookie, false},
		"tombstone, rotate":                {"tombstone", (*coatcheck.Session).Rotate, coatcheck.KeepCookie, false},
		"wrong secret":                     {"wrong secret", func(*coatcheck.Session) {}, coatcheck.KeepCookie, false},
		"wrong secret, cycle":              {"wrong secret", (*coatcheck.Session).CycleID, coatcheck.KeepCookie, false},
		"wrong secret, destroy":            {"wrong secret", (*coatcheck.Session).Destroy, coatcheck.ClearCookie, false},
		"reused":                           {"reused", func(*coatcheck.Session) {}, coatcheck.KeepCookie, false},
		"reused, rotate":                   {"reused", (*coatcheck.Session).Rotate, coatcheck.KeepCookie, false},
		"reused, clear of values is no-op": {"reused", (*coatcheck.Session).Clear, coatcheck.KeepCookie, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cookie := cookieOf(t, w, tt.cookie)
			a := w.do(cookie, tt.handler)
			require.Equal(t, tt.want, a.cookie)
			if a.cookie != coatcheck.SetCookie {
				return
			}
			assert.Equal(t, tt.same, a.token == cookie)
			s := w.open(a.token)
			assert.NotZero(t, s.ID(), "what is set opens a session")
		})
	}
}

// cookieOf returns a cookie of that kind, with its session in w.
func cookieOf(t *testing.T, w *world, kind string) string {
	t.Helper()
	login := func() string {
		return w.do("", func(s *coatcheck.Session) {
			require.NoError(t, s.Authenticate("u"))
			require.NoError(t, s.Insert("a", 1))
		}).token
	}
	switch kind {
	case "none":
		return ""
	case "user":
		return login()
	case "anonymous":
		return w.begin("a", 1)
	case "previous":
		old := login()
		w.refresh(old)
		return old
	case "malformed":
		return "not a token"
	case "unknown":
		return text(coatcheck.NewToken(coatcheck.TagOf("u")))
	case "expired":
		old := login()
		w.clock.Step(ttl)
		return old
	case "tombstone":
		old := login()
		w.logout(old)
		return old
	case "wrong secret":
		tok, _ := coatcheck.ParseToken([]byte(login()))
		return text(tok.Rotated())
	case "reused":
		old := login()
		w.do(old, (*coatcheck.Session).CycleID)
		return old
	}
	t.Fatalf("no such cookie: %s", kind)
	return ""
}

// Max-Age is the rest of the absolute lifetime, whatever the idle expiry.
func TestTokenLastsToTheAbsoluteExpiry(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	require.NoError(t, s.Authenticate("u"))
	w.finish(s)
	token, left := s.Token(w.clock.Now())
	assert.Equal(t, maxLife, left)

	w.clock.Step(20 * time.Minute)
	s = w.open(text(token))
	s.Rotate()
	w.finish(s)
	next, left := s.Token(w.clock.Now())
	assert.NotEqual(t, text(token), text(next))
	assert.Equal(t, maxLife-20*time.Minute, left, "refresh does not lengthen it")
	assert.Equal(t, token.Key(), next.Key())
	assert.Equal(t, next.ID(), s.ID(), "the ID after the rotation")
}

func TestSessionTellsWhoseItIs(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	assert.Zero(t, s.ID())
	assert.Empty(t, s.UserID())
	require.NoError(t, s.Authenticate("user-42"))
	assert.Equal(t, "user-42", s.UserID(), "before the commit")
	assert.Zero(t, s.ID(), "not stored yet")
	a := w.finish(s)
	began := w.clock.Now()

	w.clock.Step(time.Minute)
	s = w.open(a.token)
	tok, _ := coatcheck.ParseToken([]byte(a.token))
	assert.Equal(t, tok.ID(), s.ID())
	assert.Equal(t, tok.Key(), s.Key())
	assert.Equal(t, "user-42", s.UserID())
	assert.Equal(t, "user-42", string(s.RawUserID()))
	assert.True(t, began.Equal(s.CreatedAt()))
	assert.True(t, began.Add(ttl).Equal(s.ExpiresAt()))
	assert.Equal(t, coatcheck.TagOf("user-42"), s.Key().Tag())
}

func TestAuthenticateRefuses(t *testing.T) {
	w := newWorld(t)
	s := w.open(w.begin("a", 1))
	assert.ErrorIs(t, s.Authenticate(""), coatcheck.ErrUserID)
	assert.ErrorIs(t, s.Authenticate(strings.Repeat("u", 257)), coatcheck.ErrUserID)
	assert.Empty(t, s.UserID())
	w.store.ops()
	w.finish(s)
	assert.Empty(t, w.store.ops(), "a refused login changes nothing")
	require.NoError(t, s.Authenticate(strings.Repeat("u", 256)))
}

// SES-01: a login always begins a new session and ends the one that it replaces; values stay with their owner.
func TestAuthenticateAndValues(t *testing.T) {
	tests := map[string]struct {
		carried string // user of the carried session, "-" none
		user    string
		want    []string
	}{
		"from nothing":             {"-", "alice", []string{`new=1`}},
		"from an anonymous one":    {"", "alice", []string{`new=1`, `old="x"`}},
		"the same user again":      {"alice", "alice", []string{`new=1`, `old="x"`}},
		"from another user's":      {"bob", "alice", []string{`new=1`}},
		"from one like the user's": {"alice2", "alice", []string{`new=1`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			old := ""
			if tt.carried != "-" {
				old = w.do("", func(s *coatcheck.Session) {
					if tt.carried != "" {
						require.NoError(t, s.Authenticate(tt.carried))
					}
					require.NoError(t, s.Insert("old", "x"))
				}).token
			}
			w.clock.Step(time.Minute)
			a := w.do(old, func(s *coatcheck.Session) {
				require.NoError(t, s.Authenticate(tt.user))
				require.NoError(t, s.Insert("new", 1))
				assert.Equal(t, tt.want, entries(s), "the handler sees it before the commit")
			})
			s := w.open(a.token)
			assert.Equal(t, tt.user, s.UserID())
			assert.Equal(t, tt.want, entries(s.Lend()))
			assert.True(t, s.CreatedAt().Equal(w.clock.Now()), "both timers begin anew")
			assert.Equal(t, 1, w.data.live(w.clock.Now()))
			if old != "" {
				assert.NotEqual(t, key(t, old), key(t, a.token))
				assert.Empty(t, entries(w.open(old).Lend()))
				assert.Equal(t, coatcheck.KeepCookie, w.do(old, func(*coatcheck.Session) {}).cookie)
			}
		})
	}
}

// SES-02, SES-03: a token that the server did not issue never becomes valid, and requests without a session store nothing.
func TestNothingIsStoredForNobody(t *testing.T) {
	made := coatcheck.NewToken(coatcheck.TagOf("u"))
	steps := map[string]func(s *coatcheck.Session){
		"me": func(*coatcheck.Session) {}, "refresh": func(s *coatcheck.Session) { s.Rotate() }, "logout": (*coatcheck.Session).Destroy,
		"login": func(s *coatcheck.Session) { _ = s.Authenticate("u") },
	}
	for a, first := range steps {
		for b, second := range steps {
			for c, third := range steps {
				w := newWorld(t)
				logins := strings.Count(a+b+c, "login")
				for _, step := range []func(*coatcheck.Session){first, second, third} {
					w.do(text(made), step)
				}
				assert.Zero(t, w.open(text(made)).ID(), "%s, %s, %s", a, b, c)
				assert.Nil(t, w.data.raw(made.Key()))
				assert.Equal(t, logins, w.data.live(w.clock.Now()), "%s, %s, %s: only logins store", a, b, c)
			}
		}
	}
}

// TOK-05: a malformed token leads to no store operation.
func TestMalformedCookiesReachNoStore(t *testing.T) {
	w := newWorld(t)
	a := w.finish(w.open("", "x", strings.Repeat("A", 44), strings.Repeat("=", 43)))
	assert.Equal(t, coatcheck.ClearCookie, a.cookie)
	assert.Empty(t, w.store.ops())
}

// TOK-04: every one-byte variant of a live token opens nothing, and ends nothing, reuse policy or not.
func TestVariantsOfALiveToken(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
	old := w.login("u")
	cookie := w.refresh(old).token
	for i := range cookie {
		for b := 1; b < 256; b++ {
			bad := []byte(cookie)
			bad[i] ^= byte(b)
			s := w.open(string(bad))
			require.Empty(t, s.UserID(), "%q", bad)
			require.NotEqual(t, coatcheck.SetCookie, w.finish(s).cookie)
		}
	}
	assert.Equal(t, "u", w.user(cookie))
	assert.Equal(t, "u", w.user(old), "in its grace, for nobody used the new one")
}

func TestCommitThenNothingToDo(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	s := w.open(w.login("u"))
	w.clock.Step(time.Second)
	s.Rotate()
	require.NoError(t, s.Insert("a", 1))
	w.store.ops()
	require.NoError(t, s.Commit(ctx))
	assert.Equal(t, []string{opSwap}, w.store.ops())
	token, _ := s.Token(w.clock.Now())
	assert.Equal(t, token.ID(), s.ID())
	require.NoError(t, s.Commit(ctx))
	a := w.finish(s)
	assert.Empty(t, w.store.ops(), "the later commit has nothing to do")
	assert.Equal(t, answer{coatcheck.SetCookie, text(token)}, a)

	require.NoError(t, s.Insert("b", 1))
	w.finish(s)
	assert.Equal(t, []string{opSwap}, w.store.ops(), "what came after is committed after")
	assert.Equal(t, []string{"a=1", "b=1"}, entries(w.open(a.token).Lend()))
}

// A request rotates only once: the client has only the token that it presented, so that one must stay admitted.
func TestRotateTwiceInOneRequest(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	s.Rotate()
	require.NoError(t, s.Commit(context.Background()))
	s.Rotate()
	a := w.finish(s)
	assert.Equal(t, "u", w.user(a.token))
	assert.Equal(t, "u", w.user(cookie), "the answer may be lost, and parallel requests are under way")
}

// A token that was committed in this request and is dead at its end is not sent.
func TestCookieOfASessionThatEndedMeanwhile(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	s.Rotate()
	require.NoError(t, s.Commit(context.Background()))
	require.Equal(t, coatcheck.SetCookie, s.Cookie())
	w.logout(cookie)
	require.NoError(t, s.Insert("x", 1))
	assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
}

func TestCycleIDAfterRotate(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	s.Rotate()
	s.CycleID()
	s.Rotate()
	a := w.finish(s)
	assert.Equal(t, "u", w.user(a.token))
	assert.Empty(t, w.user(cookie), "the stronger of the two")
}

func TestInsertAfterDestroy(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	require.NoError(t, s.Insert("before", 1))
	s.Destroy()
	assert.Empty(t, s.UserID())
	assert.Zero(t, s.Len())
	require.NoError(t, s.Insert("after", 1))
	a := w.finish(s)
	require.Equal(t, coatcheck.SetCookie, a.cookie)
	assert.NotEqual(t, key(t, cookie), key(t, a.token))
	assert.Equal(t, []string{"after=1"}, entries(w.open(a.token).Lend()))
	assert.Empty(t, w.user(a.token))
	assert.Empty(t, w.user(cookie))
}
