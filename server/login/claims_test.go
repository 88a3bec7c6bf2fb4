package login_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
)

// told returns the claims of a login that must succeed.
func told(t *testing.T, m login.Mode, a login.Attempt) string {
	t.Helper()
	_, err := m.Check(t.Context(), &a)
	require.NoError(t, err)
	return string(a.Claims.JSON())
}

func TestUsersClaims(t *testing.T) {
	hash := login.CheapHash("pass")
	bcrypt := bcryptHash(t, "pass")
	for fields, want := range map[string]string{
		"":     "",
		"  \t": "",
		" groups=staff,ops email=ann@example.com name=Ann%20A": `{"name":"Ann A","email":"ann@example.com","groups":["staff","ops"]}`,
		"\tname=Ann":                  `{"name":"Ann"}`,
		" groups=":                    `{"groups":[]}`,
		" groups=a%2Cb,%C3%A4,100%25": `{"groups":["a,b","ä","100%"]}`,
		" name=a,b=c email=":          `{"name":"a,b=c","email":""}`,
		" site=https://x:1/y":         `{"site":"https://x:1/y"}`,
		" site=x%3Ay":                 `{"site":"x:y"}`,
	} {
		p := newPeople(t, "urn:ann:"+hash+fields, "old:"+bcrypt+fields)
		assert.Equal(t, want, told(t, p.users, login.Attempt{UserID: "urn:ann", Password: []byte("pass")}), fields)
		assert.Equal(t, want, told(t, p.users, login.Attempt{UserID: "old", Password: []byte("pass")}), fields)
		assert.Equal(t, want, told(t, p.users, login.Attempt{UserID: "old", Password: []byte("pass")}), "behind a hash that was replaced: %s", fields)
	}
	for fields, mistake := range map[string]string{
		" name=Ann A":                            "behind the hash may stand fields only",
		" groups":                                "behind the hash may stand fields only",
		" name=Ann # of the office":              "behind the hash may stand fields only",
		" groups=urn:a name=Ann A":               "behind the hash may stand fields only",
		" name=Ann\u00a0A":                       "behind the hash may stand fields only",
		" =x y=":                                 "empty",
		" name=a name=b":                         `field "name": is there twice`,
		" name=%zz":                              "percent-encoding",
		" name=%FF":                              "not UTF-8",
		" groups=a,,b":                           "a group must have a name",
		" sub=root":                              "reserved",
		" =x":                                    "empty",
		" x=" + strings.Repeat("a", 2048):        "too large",
		" name=" + strings.Repeat("%C3%A4", 513): "too large",
	} {
		_, err := login.ParseUsers([]byte("ann:" + hash + fields))
		require.Error(t, err, fields)
		assert.ErrorContains(t, err, "users:1: user ", fields)
		assert.ErrorContains(t, err, mistake, fields)
		assert.NotContains(t, err.Error(), hash[20:], "an error shows no hash")
	}
}

// A line whose claims change ends the user's sessions; one that says the same otherwise does not.
func TestUsersReloadClaims(t *testing.T) {
	hash := login.CheapHash("pass")
	p := newPeople(t, "ann:"+hash+" groups=a,b name=Ann", "bob:"+hash, "cee:"+hash+" groups=a", "dan: groups=a")
	p.write("ann:"+hash+"  name=%41nn groups=a,b", "bob:"+hash, "cee:"+hash+" groups=a", "dan: groups=a")
	assert.Empty(t, p.reload())
	p.write("ann:"+hash+" groups=b,a name=Ann", "bob:"+hash+" name=Bob", "cee:"+hash, "dan: groups=b")
	assert.Equal(t, []string{"ann", "bob", "cee", "dan"}, p.reload())
	assert.Equal(t, `{"name":"Bob"}`, told(t, p.users, login.Attempt{UserID: "bob", Password: []byte("pass")}))
}

func TestUsersLineClaims(t *testing.T) {
	for _, f := range []login.Fields{
		{Name: "Ann A: b=c, 100%\u00e4", Email: "ann@example.com", Groups: []string{"a,b", "c d", "e:f"}},
		{Groups: []string{"staff"}},
		{},
	} {
		line, err := login.UsersLine("urn:ann", []byte("pass"), f)
		require.NoError(t, err)
		p := newPeople(t, line)
		a := login.Attempt{UserID: "urn:ann", Password: []byte("pass")}
		_, err = p.users.Check(t.Context(), &a)
		require.NoError(t, err, line)
		assert.Equal(t, f, login.Fields{Name: a.Claims.Text("name"), Email: a.Claims.Text("email"), Groups: a.Claims.List("groups")})
	}
	for _, f := range []login.Fields{{Groups: []string{""}}, {Name: "\xff"}, {Name: strings.Repeat("a", 2048)}} {
		_, err := login.UsersLine("ann", []byte("pass"), f)
		require.ErrorContains(t, err, `user "ann"`)
	}
}

func TestWebhookClaims(t *testing.T) {
	for body, want := range map[string]struct {
		claims string
		err    error
	}{
		`{"user_id":"ann"}`:                                                    {},
		`{"user_id":"ann","claims":null}`:                                      {},
		`{"user_id":"ann","groups":["admins"]}`:                                {},
		`{"claims":{"groups":["b","a"],"x":"y"},"user_id":"ann"}`:              {claims: `{"groups":["b","a"],"x":"y"}`},
		`{"user_id":"ann","claims":[]}`:                                        {err: login.ErrUnavailable},
		`{"user_id":"ann","claims":{"a":1}}`:                                   {err: login.ErrUnavailable},
		`{"user_id":"ann","claims":{},"claims":{}}`:                            {err: login.ErrUnavailable},
		`{"user_id":"ann","claims":{"groups":["g\ud800"]}}`:                    {err: login.ErrUnavailable},
		`{"user_id":"ann","claims":{"groups":["g\ufffd"]}}`:                    {claims: "{\"groups\":[\"g\ufffd\"]}"},
		`{"user_id":"ann","claims":{"x":"` + strings.Repeat("a", 2048) + `"}}`: {err: coatcheck.ErrClaimsTooLarge},
	} {
		s := backEnd(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		a := login.Attempt{UserID: "ann", Body: []byte("{}")}
		_, err := newWebhook(t, s.URL, login.WebhookOptions{}).Check(t.Context(), &a)
		if want.err == nil {
			require.NoError(t, err, "%.80s", body)
		} else {
			require.ErrorIs(t, err, want.err, "%.80s", body)
		}
		assert.Equal(t, want.claims, string(a.Claims.JSON()), "%.80s", body)
	}
}
