package coatcheck_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
)

// The values of its cookie decide what a request is (DESIGN section 2). The kinds are: A, B, C, D live sessions of users a
// to d; a the previous token of A's session, in its grace; t a tombstone, w a wrong secret, r a reused token; x expired, u
// of an unknown key, m malformed, h damaged.
func TestCandidates(t *testing.T) {
	const (
		anonymous = ""
		keep      = coatcheck.KeepCookie
		expire    = coatcheck.ClearCookie
	)
	tests := []struct {
		cookies   string
		user      string
		cookie    coatcheck.CookieAction
		duplicate bool
		ends      string // whose sessions a logout ends
	}{
		{"", anonymous, keep, false, ""},
		{"A", "a", keep, false, "a"},
		{"a", "a", keep, false, "a"},
		{"m", anonymous, expire, false, ""},
		{"u", anonymous, expire, false, ""},
		{"x", anonymous, expire, false, ""},
		{"h", anonymous, expire, false, ""},
		{"t", anonymous, keep, false, ""},
		{"w", anonymous, keep, false, ""},
		{"r", anonymous, keep, false, "r"},
		{"mm", anonymous, expire, false, ""},
		{"mmmmm", anonymous, expire, false, ""},
		{"AA", "a", keep, false, "a"},
		{"AAAAA", "a", keep, false, "a"},
		{"Aa", "a", keep, false, "a"},
		{"aA", "a", keep, false, "a"},
		{"aaA", "a", keep, false, "a"},
		{"Am", "a", keep, false, "a"},
		{"mmmmA", "a", keep, false, "a"},
		{"Au", "a", keep, false, "a"},
		{"uA", "a", keep, false, "a"},
		{"xuA", "a", keep, false, "a"},
		{"tA", "a", keep, false, "a"},
		{"Atw", "a", keep, false, "a"},
		{"rwA", "a", keep, false, "ar"},
		{"hA", "a", keep, false, "a"},
		{"mxA", "a", keep, false, "a"},
		{"mu", anonymous, expire, false, ""},
		{"xu", anonymous, expire, false, ""},
		{"xuh", anonymous, expire, false, ""},
		{"mxuh", anonymous, expire, false, ""},
		{"mt", anonymous, keep, false, ""},
		{"ut", anonymous, keep, false, ""},
		{"tu", anonymous, keep, false, ""},
		{"xw", anonymous, keep, false, ""},
		{"wx", anonymous, keep, false, ""},
		{"ur", anonymous, keep, false, "r"},
		{"twr", anonymous, keep, false, "r"},
		{"AB", anonymous, keep, true, "ab"},
		{"BA", anonymous, keep, true, "ab"},
		{"aB", anonymous, keep, true, "ab"},
		{"AaB", anonymous, keep, true, "ab"},
		{"BaA", anonymous, keep, true, "ab"},
		{"ABm", anonymous, keep, true, "ab"},
		{"AuB", anonymous, keep, true, "ab"},
		{"ABC", anonymous, keep, true, "abc"},
		{"ABCD", anonymous, keep, true, "abcd"},
		{"DCBA", anonymous, keep, true, "abcd"},
		{"Auxt", anonymous, keep, true, "a"},
		{"uxtA", anonymous, keep, true, "a"},
		{"uxtr", anonymous, keep, true, "r"},
		{"ABCr", anonymous, keep, true, "abcr"},
		{"uxhw", anonymous, keep, true, ""},
		{"AAmAAaA", "a", keep, false, "a"},
	}
	for _, tt := range tests {
		t.Run("cookies "+tt.cookies, func(t *testing.T) {
			w := newWorld(t)
			values := candidates(t, w, tt.cookies)
			s := w.open(values...)
			assert.Equal(t, tt.user, s.UserID())
			assert.Equal(t, tt.duplicate, s.Report().Duplicate)
			assert.Equal(t, tt.user != "", s.ID() != coatcheck.ID{})
			assert.Equal(t, tt.user == "", len(entries(s.Lend())) == 0)
			assert.Equal(t, tt.cookie, w.finish(s).cookie)

			s = w.open(values...)
			assert.NoError(t, s.Insert("x", 1))
			a := w.finish(s)
			switch {
			case tt.user != "":
				assert.NotEqual(t, coatcheck.ClearCookie, a.cookie)
				assert.Equal(t, "a", w.user(values[strings.IndexByte(strings.ToLower(tt.cookies), 'a')]))
			case tt.cookie == keep && len(values) > 0:
				assert.Equal(t, keep, a.cookie, "no cookie may take the place of one that may be live")
			default:
				assert.Equal(t, coatcheck.SetCookie, a.cookie)
			}

			checkEnds(t, tt.cookies, tt.ends, (*coatcheck.Session).Destroy, coatcheck.ClearCookie)
			checkEnds(t, tt.cookies, tt.ends, authenticate("new"), coatcheck.SetCookie)
		})
	}
}

// checkEnds lets a logout or a login with these cookies do its work.
func checkEnds(t *testing.T, kinds, ends string, handler func(*coatcheck.Session), want coatcheck.CookieAction) {
	t.Helper()
	w := newWorld(t)
	s := w.open(candidates(t, w, kinds)...)
	handler(s.Lend())
	assert.Equal(t, want, w.finish(s).cookie)
	for _, user := range strings.Split("abcdr", "") {
		live := len(w.data.liveOf(user, w.clock.Now()))
		if strings.Contains(ends, user) {
			assert.Zero(t, live, "the session of %s lives", user)
		} else {
			assert.Equal(t, 1, live, "the session of %s", user)
		}
	}
	assert.Equal(t, len(ends), s.Report().Ended+s.Report().Replaced)
}

// candidates makes one session of each kind and returns the cookies that kinds names.
func candidates(t *testing.T, w *world, kinds string) []string {
	t.Helper()
	of := map[rune]string{'m': "malformed", 'u': text(coatcheck.NewToken(coatcheck.TagOf("")))}
	of['x'] = w.login("x")
	w.clock.Step(ttl)
	user := func(name string) string {
		return w.do("", func(s *coatcheck.Session) { authenticate(name)(s); insert("of", name)(s) }).token
	}
	for _, name := range []string{"b", "c", "d"} {
		of[rune(strings.ToUpper(name)[0])] = user(name)
	}
	of['a'] = user("a")
	of['A'] = w.refresh(of['a']).token
	of['t'] = user("t")
	w.logout(of['t'])
	tok, _ := coatcheck.ParseToken([]byte(user("w")))
	of['w'] = text(tok.Rotated())
	of['r'] = user("r")
	w.do(of['r'], (*coatcheck.Session).CycleID)
	of['h'] = user("h")
	w.data.put(key(t, of['h']), []byte("text"))
	var values []string
	for _, kind := range kinds {
		values = append(values, of[kind])
	}
	return values
}

// Of two tokens of one session the current one is used, wherever it stands: the other one may soon be refused.
func TestPairOfOneKey(t *testing.T) {
	for name, order := range map[string][2]int{"current first": {1, 0}, "previous first": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			old := w.login("u")
			pair := []string{old, w.refresh(old).token}
			s := w.open(pair[order[0]], pair[order[1]])
			assert.NoError(t, s.Insert("x", 1))
			assert.Equal(t, answer{coatcheck.SetCookie, pair[1]}, w.finish(s))
			w.clock.Step(grace)
			assert.Empty(t, w.user(old), "the first use was noted")
		})
	}
}

// A login and a logout end the sessions of the first sixteen tokens, and look up no more.
func TestSixteenTokensEnd(t *testing.T) {
	for name, handler := range map[string]func(*coatcheck.Session){"logout": (*coatcheck.Session).Destroy, "login": authenticate("new")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var many []string
			for range 40 {
				many = append(many, w.login("u"))
			}
			s := w.open(many...)
			handler(s.Lend())
			w.finish(s)
			for i, cookie := range many {
				assert.Equal(t, i >= 16, w.user(cookie) == "u", "token %d", i)
			}
		})
	}
}

// A planted token beyond the third that cannot be looked up keeps none of the others' sessions alive.
func TestLogoutEndsWhatItCan(t *testing.T) {
	w := newWorld(t)
	var cookies []string
	for _, user := range []string{"a", "b", "c", "d"} {
		cookies = append(cookies, w.login(user))
	}
	s := w.open(cookies...)
	w.store.before = func(_ context.Context, op string) error {
		if op == opLoad {
			return errDisk
		}
		return nil
	}
	s.Destroy()
	assert.ErrorIs(t, s.Finish(context.Background()), coatcheck.ErrUnavailable)
	w.store.before = nil
	assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
	for _, cookie := range cookies[:3] {
		assert.Empty(t, w.user(cookie))
	}
	assert.Equal(t, "d", w.user(cookies[3]))
}

// A logout and a login end the session even if another client has rotated its token since (CASES A8).
func TestLogoutWithATokenThatWasRotatedOut(t *testing.T) {
	for name, handler := range map[string]func(*coatcheck.Session){"logout": (*coatcheck.Session).Destroy, "login": authenticate("new")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			owner := w.login("u")
			thief := w.refresh(owner).token
			w.do(thief, nothing) // the first use begins the grace
			w.clock.Step(grace)
			assert.Empty(t, w.user(owner))
			a := w.do(owner, handler)
			assert.NotEqual(t, coatcheck.KeepCookie, a.cookie)
			assert.Empty(t, w.user(thief), "the session goes on with the thief")
		})
	}
}

// At most three candidates are looked up, and a pair of one Key is one candidate only by its Key.
func TestCandidatesAreBounded(t *testing.T) {
	w := newWorld(t)
	var many []string
	for range 100 {
		many = append(many, text(coatcheck.NewToken(coatcheck.TagOf(""))))
	}
	w.store.ops()
	w.finish(w.open(many...))
	assert.Equal(t, []string{opLoad, opLoad, opLoad}, w.store.ops())
}

// Between the two loads of several candidates the session may end.
func TestCandidateEndsBetweenLoads(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	loads := 0
	w.store.before = func(context.Context, string) error {
		if loads++; loads == 3 {
			w.store.before = nil
			w.logout(cookie)
		}
		return nil
	}
	s := w.open(cookie, text(coatcheck.NewToken(coatcheck.TagOf(""))))
	assert.Empty(t, s.UserID())
	assert.Zero(t, s.Len())
	assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
}

// A session that began before --sessions-not-before is dead, and its cookie is cleared.
func TestNotBefore(t *testing.T) {
	w := newWorld(t)
	old := w.login("u")
	w.clock.Step(1)
	policy := w.m.Policy()
	policy.NotBefore = w.clock.Now().Truncate(1e6).Add(1e6)
	m, err := coatcheck.NewManager(w.store, policy)
	assert.NoError(t, err)
	w.m = m
	s := w.open(old)
	assert.Empty(t, s.UserID())
	assert.Equal(t, coatcheck.ClearCookie, w.finish(s).cookie)
	w.clock.Step(2e6)
	assert.Equal(t, "u", w.user(w.login("u")))
}

// A request with more tokens than are looked up ends no session for reuse: the live token of that session may be among the others.
func TestReuseBesideTokensThatAreNotLookedUp(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
	old := w.login("u")
	live := w.refresh(old).token
	w.do(live, nothing)
	w.clock.Step(grace)
	cookies := []string{old}
	for len(cookies) < coatcheck.MaxCandidates {
		cookies = append(cookies, w.login("v"))
	}
	s := w.open(append(cookies, live)...)
	assert.Equal(t, coatcheck.Reuse{Key: key(t, live), ID: w.record(live).ID, User: "u"}, s.Report().Reused)
	assert.Equal(t, "u", w.user(live))
}
