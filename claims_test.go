package coatcheck_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

func TestParseClaims(t *testing.T) {
	members := func(n int) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(`"c%d":"x"`, i)
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	text := func(n int) string { return `{"x":"` + strings.Repeat("a", n-len(`{"x":""}`)) + `"}` }
	for name, tc := range map[string]struct {
		in, want string
		err      error
	}{
		"none":             {in: ""},
		"null":             {in: " null "},
		"no members":       {in: "{}"},
		"sorted":           {in: `{"z":"1","groups":["b","a"],"a":["x"],"email":"e","name":"n"}`, want: `{"name":"n","email":"e","groups":["b","a"],"a":["x"],"z":"1"}`},
		"compact":          {in: "{ \"name\" :\n\"\\u0041<&>\" , \"l\":[ ]}", want: `{"name":"A<&>","l":[]}`},
		"empty strings":    {in: `{"name":"","a":[""]}`, want: `{"name":"","a":[""]}`},
		"32 members":       {in: members(32), want: ""},
		"33 members":       {in: members(33), err: coatcheck.ErrClaimsTooLarge},
		"2 KiB":            {in: text(2048), want: text(2048)},
		"over 2 KiB":       {in: text(2049), err: coatcheck.ErrClaimsTooLarge},
		"a list":           {in: `["a"]`, err: coatcheck.ErrClaims},
		"a string":         {in: `"a"`, err: coatcheck.ErrClaims},
		"not JSON":         {in: `{"a":}`, err: coatcheck.ErrClaims},
		"cut off":          {in: `{"a":"b"`, err: coatcheck.ErrClaims},
		"two objects":      {in: `{"a":"b"}{}`, err: coatcheck.ErrClaims},
		"not UTF-8":        {in: "{\"a\":\"\xff\"}", err: coatcheck.ErrClaims},
		"half a pair":      {in: `{"a":["g\ud800"]}`, err: coatcheck.ErrClaims},
		"half in a name":   {in: `{"\udfff":"b"}`, err: coatcheck.ErrClaims},
		"a pair, a U+FFFD": {in: `{"a":"\ud83d\ude00\ufffd"}`, want: "{\"a\":\"\U0001F600\ufffd\"}"},
		"a number":         {in: `{"a":1}`, err: coatcheck.ErrClaims},
		"a null":           {in: `{"a":null}`, err: coatcheck.ErrClaims},
		"an object":        {in: `{"a":{}}`, err: coatcheck.ErrClaims},
		"a list of others": {in: `{"a":["b",1]}`, err: coatcheck.ErrClaims},
		"a list in a list": {in: `{"a":[["b"]]}`, err: coatcheck.ErrClaims},
		"twice":            {in: `{"a":"b","a":"c"}`, err: coatcheck.ErrClaims},
		"twice, escaped":   {in: `{"a":"b","\u0061":"c"}`, err: coatcheck.ErrClaims},
		"no name":          {in: `{"":"b"}`, err: coatcheck.ErrClaims},
		"sub":              {in: `{"sub":"b"}`, err: coatcheck.ErrClaims},
		"groups no list":   {in: `{"groups":"a"}`, err: coatcheck.ErrClaims},
		"name a list":      {in: `{"name":["a"]}`, err: coatcheck.ErrClaims},
		"email a list":     {in: `{"email":["a"]}`, err: coatcheck.ErrClaims},
		"a group of none":  {in: `{"groups":["a",""]}`, err: coatcheck.ErrClaims},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := coatcheck.ParseClaims([]byte(tc.in))
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
				assert.Nil(t, got.JSON())
				return
			}
			require.NoError(t, err)
			if tc.want != "" || len(tc.in) < 10 {
				assert.Equal(t, tc.want, string(got.JSON()))
			}
			again, err := coatcheck.ParseClaims(got.JSON())
			require.NoError(t, err)
			assert.Equal(t, got, again, "canonical")
		})
	}
}

// Reading claims in place finds what encoding/json wrote, whatever characters they hold.
func TestClaimsAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := make(map[string][]string)
		var parts []string
		for i := range rapid.IntRange(0, 5).Draw(t, "n") {
			name := rapid.StringMatching(`[a-z"\\ü\x{2028}]{1,4}`).Draw(t, "name") + fmt.Sprint(i)
			list := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("a,\"\\[]{}:ü\u2028\n\x00<&")), 0, 5, -1), 0, 3).Draw(t, "list")
			want[name] = list
			var texts []string
			for _, s := range list {
				texts = append(texts, quoted(s))
			}
			value := "[" + strings.Join(texts, " , ") + "]"
			if len(list) == 1 && rapid.Bool().Draw(t, "as a string") {
				value = texts[0]
			}
			parts = append(parts, quoted(name)+": "+value)
		}
		c, err := coatcheck.ParseClaims([]byte("{" + strings.Join(parts, ",") + "}"))
		require.NoError(t, err)
		assert.Len(t, slices.Collect(c.Names()), len(want))
		for name, list := range want {
			assert.ElementsMatch(t, list, c.List(name), name)
		}
	})
}

func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	b.WriteByte('"')
	return b.String()
}

func parsedClaims(t *testing.T, text string) coatcheck.ClaimSet {
	t.Helper()
	c, err := coatcheck.ParseClaims([]byte(text))
	require.NoError(t, err)
	return c
}

// loginWith is a login whose session has these claims.
func (w *world) loginWith(t *testing.T, cookie, user string, c coatcheck.ClaimSet, more func(*coatcheck.Session)) string {
	t.Helper()
	var cookies []string
	if cookie != "" {
		cookies = append(cookies, cookie)
	}
	r := w.open(cookies...)
	require.NoError(t, r.AuthenticateWith(user, c))
	if more != nil {
		more(&r.Session)
	}
	return w.finish(r).token
}

func (w *world) claims(t *testing.T, cookie string) string {
	t.Helper()
	return string(coatcheck.Claims(w.open(cookie).Lend()).JSON())
}

const staff = `{"name":"Ann","email":"ann@example.com","groups":["staff","ops"]}`

// Claims are set at a login, and nothing but the next login changes them.
func TestClaimsStay(t *testing.T) {
	w := newWorld(t)
	cookie := w.loginWith(t, "", "ann", parsedClaims(t, staff), func(s *coatcheck.Session) { require.NoError(t, s.Insert("theme", "dark")) })
	c := coatcheck.Claims(w.open(cookie).Lend())
	assert.Equal(t, "Ann", c.Text("name"))
	assert.Equal(t, []string{"staff", "ops"}, c.List("groups"))
	assert.Empty(t, c.Text("groups"))
	assert.Nil(t, c.List("absent"))

	s := w.open(cookie)
	for name, err := range map[string]error{
		"Insert": s.Insert("claims", map[string]any{"groups": []string{"admins"}}),
		"Update": coatcheck.Update(&s.Session, "claims", func(any) any { return "x" }),
	} {
		assert.ErrorIs(t, err, coatcheck.ErrName, name)
	}
	s.Remove("claims")
	_, err := coatcheck.Pop[any](&s.Session, "claims")
	require.NoError(t, err)
	w.finish(s)
	assert.Equal(t, staff, w.claims(t, cookie))

	for name, change := range map[string]func(s *coatcheck.Session){
		"Rotate":  func(s *coatcheck.Session) { s.Rotate() },
		"CycleID": func(s *coatcheck.Session) { s.CycleID() },
		"Insert":  func(s *coatcheck.Session) { require.NoError(t, s.Insert("n", 1)) },
		"Clear": func(s *coatcheck.Session) {
			s.Clear()
			assert.Equal(t, staff, string(coatcheck.Claims(s).JSON()), "at once")
			assert.False(t, s.Contains("theme"))
		},
		"Clear, then Insert": func(s *coatcheck.Session) { s.Clear(); require.NoError(t, s.Insert("n", 2)) },
	} {
		if next := w.do(cookie, change).token; next != "" {
			cookie = next
		}
		assert.Equal(t, staff, w.claims(t, cookie), name)
	}

	// A parallel request that was faster: the changes are applied again, to the claims too.
	slow := w.open(cookie)
	slow.Clear()
	require.NoError(t, slow.Insert("slow", true))
	w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert("fast", true)) })
	w.finish(slow)
	assert.Positive(t, slow.Report().Conflicts)
	assert.Equal(t, staff, w.claims(t, cookie))

	again := w.loginWith(t, cookie, "ann", parsedClaims(t, `{"groups":["ops"]}`), nil)
	assert.Equal(t, `{"groups":["ops"]}`, w.claims(t, again), "the new login's alone")
	again = w.do(again, func(s *coatcheck.Session) { require.NoError(t, s.Authenticate("ann")) }).token
	assert.Empty(t, w.claims(t, again), "a login without claims takes over none")
	wantValue(t, w.open(again).Lend(), "slow", true)
	other := w.loginWith(t, again, "bob", parsedClaims(t, staff), nil)
	assert.Equal(t, staff, w.claims(t, other))

	gone := w.do(other, func(s *coatcheck.Session) { s.Destroy(); require.NoError(t, s.Insert("n", 1)) }).token
	assert.Empty(t, w.claims(t, gone))
}

// The claims are the login's even where the carried session is written to while the login is on its way.
func TestClaimsOfALoginThatMerges(t *testing.T) {
	w := newWorld(t)
	for _, user := range []string{"ann", ""} { // one step, and two
		var cookie string
		if user != "" {
			cookie = w.loginWith(t, "", user, parsedClaims(t, staff), nil)
		} else {
			cookie = w.do("", func(s *coatcheck.Session) { require.NoError(t, s.Insert("n", 1)) }).token
		}
		r := w.open(cookie)
		require.NoError(t, r.AuthenticateWith("ann", parsedClaims(t, `{"groups":["new"]}`)))
		w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert("meanwhile", true)) })
		token := w.finish(r).token
		assert.Equal(t, `{"groups":["new"]}`, w.claims(t, token), "from %q", user)
		wantValue(t, w.open(token).Lend(), "meanwhile", true)
	}
}

// Claims that do not fit beside the carried session's values refuse the login, and nothing is cut.
func TestClaimsThatDoNotFit(t *testing.T) {
	w := newWorld(t)
	cookie := w.do("", func(s *coatcheck.Session) { require.NoError(t, s.Insert("x", strings.Repeat("x", 2000))) }).token
	large := parsedClaims(t, `{"x":"`+strings.Repeat("a", 1500)+`"}`)
	r := w.open(cookie)
	require.ErrorIs(t, r.AuthenticateWith("ann", large), coatcheck.ErrClaimsTooLarge)
	assert.Equal(t, coatcheck.KeepCookie, w.finish(r).cookie, "the login did not begin")
	wantValue(t, w.open(cookie).Lend(), "x", strings.Repeat("x", 2000))
	r = w.open(cookie)
	require.NoError(t, r.Insert("y", 1))
	require.ErrorIs(t, r.AuthenticateWith("ann", large), coatcheck.ErrClaimsTooLarge, "with changes")
	assert.Empty(t, r.UserID())
	r = w.open(cookie)
	r.Clear()
	require.NoError(t, r.AuthenticateWith("ann", large))
	require.NoError(t, r.Commit(context.Background()))
	assert.Equal(t, string(large.JSON()), string(coatcheck.Claims(&r.Session).JSON()))
}

// A login's claims may fill what the carried session's values leave, to the byte.
func TestClaimsThatJustFit(t *testing.T) {
	const taken = len("\x01x__") + len(`"`+`"`) + 2000
	w := newWorld(t)
	cookie := w.do("", func(s *coatcheck.Session) { require.NoError(t, s.Insert("x", strings.Repeat("x", 2000))) }).token
	for name, c := range map[string]struct {
		change func(s *coatcheck.Session)
		takes  int
	}{
		"values":             {func(*coatcheck.Session) {}, taken},
		"values and changes": {func(s *coatcheck.Session) { require.NoError(t, s.Insert("y", 1)) }, taken + len("\x01y__1")},
	} {
		free := coatcheck.MaxValues - c.takes - len("\x06claims__") - len(`{"a":""}`)
		for more, want := range []error{nil, coatcheck.ErrClaimsTooLarge} {
			r := w.open(cookie)
			c.change(r.Lend())
			require.ErrorIs(t, r.AuthenticateWith("ann", parsedClaims(t, `{"a":"`+strings.Repeat("a", free+more)+`"}`)), want, name)
		}
	}
}

// A login's values can name the session that it begins, and the next login, which keeps them, begins another.
func TestNextKey(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.login("u"))
	assert.Zero(t, r.NextKey(), "no login")
	require.NoError(t, r.AuthenticateWith("eve", coatcheck.ClaimSet{}))
	eves := r.NextKey()
	require.NoError(t, r.AuthenticateWith("u", coatcheck.ClaimSet{}))
	next := r.NextKey()
	assert.NotEqual(t, eves, next)
	assert.Equal(t, coatcheck.TagOf("u"), next.Tag())
	assert.Equal(t, next, r.NextKey())
	assert.NotEqual(t, next, r.Key(), "the session before, until the commit")
	require.NoError(t, r.Commit(t.Context()))
	assert.Equal(t, next, r.Key())
	assert.Zero(t, r.NextKey())

	require.NoError(t, r.AuthenticateWith("u", coatcheck.ClaimSet{}))
	require.NotEqual(t, next, r.NextKey())
	w.finish(r)
	assert.NotEqual(t, next, r.Key())

	require.NoError(t, r.AuthenticateWith("u", coatcheck.ClaimSet{}))
	dropped := r.NextKey()
	r.Destroy()
	require.NoError(t, r.Insert("cart", 1))
	require.NoError(t, r.Commit(t.Context()))
	assert.NotEqual(t, dropped, r.Key(), "a session without a user")
}
