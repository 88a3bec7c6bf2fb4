package oidc_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func TestIdentity(t *testing.T) {
	for name, tt := range map[string]struct {
		edit     func(*oidc.Options)
		claims   map[string]any
		userInfo map[string]any
		want     string
		fails    oidc.Kind
	}{
		"groups by patterns": {
			edit:   func(o *oidc.Options) { o.Groups = []string{"team-*", "x*y*z", "ops"} },
			claims: map[string]any{"groups": []string{"team-a", "teams", "x1y2z", "xyz1", "ops", "ops2", ""}}, want: `{"groups":["team-a","x1y2z","ops"]}`,
		},
		"names mapped": {
			edit:   func(o *oidc.Options) { o.Claims = []string{"groups=roles", "email=mail", "name"} },
			claims: map[string]any{"roles": []string{"a"}, "mail": "m", "groups": []string{"no"}, "name": "N"},
			want:   `{"name":"N","email":"m","groups":["a"]}`,
		},
		"one group as a text": {claims: map[string]any{"groups": "a"}, want: `{"groups":["a"]}`},
		"userinfo over the token": {claims: map[string]any{"name": "old", "email": "e"}, userInfo: map[string]any{
			"name":   "new",
			"groups": []string{"g"},
		}, want: `{"name":"new","email":"e","groups":["g"]}`},
		"other kinds": {edit: func(o *oidc.Options) { o.Claims = []string{"age", "vip", "l"} }, claims: map[string]any{
			"age": 42,
			"vip": true, "l": []string{"x"},
		}, want: `{"age":"42","l":["x"],"vip":"true"}`},
		"numbers as they are written": {
			edit:     func(o *oidc.Options) { o.RemoteUser, o.Claims = "uid", []string{"uid", "a", "b", "c", "d"} },
			claims:   map[string]any{"uid": json.Number("9007199254740993"), "a": json.Number("12345678901234567890"), "b": json.Number("1.50")},
			userInfo: map[string]any{"c": json.Number("-9007199254740993"), "d": json.Number("1e400")},
			want:     `{"a":"12345678901234567890","b":"1.50","c":"-9007199254740993","d":"1e400","uid":"9007199254740993"}`,
		},
		"a number next to the one that is allowed": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"uid=9007199254740992"} },
			claims: map[string]any{"uid": json.Number("9007199254740993")}, fails: oidc.NotAllowed,
		},
		"groups that are one number": {
			edit:     func(o *oidc.Options) { o.Allow, o.Groups = []string{"groups=90*"}, []string{"*993"} },
			userInfo: map[string]any{"groups": json.Number("9007199254740993")}, want: `{"groups":["9007199254740993"]}`,
		},
		"nothing": {claims: map[string]any{"name": nil}, want: ""},
		"allowed by a group": {
			edit:   func(o *oidc.Options) { o.Allow, o.Groups = []string{"groups=admins", "groups=staff"}, []string{"x"} },
			claims: map[string]any{"groups": []string{"staff"}}, want: `{"groups":[]}`,
		},
		"allowed by none": {edit: func(o *oidc.Options) { o.Allow = []string{"groups=admins"} }, claims: map[string]any{"groups": []string{"staff"}}, fails: oidc.NotAllowed},
		"allowed by the address": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"name"} },
			claims: map[string]any{"email": "a@Example.com", "email_verified": "true"}, want: "",
		},
		"another domain": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@example.com.evil", "email_verified": true}, fails: oidc.NotAllowed,
		},
		"not verified": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@example.com"}, fails: oidc.NotAllowed,
		},
		"verified by another source": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@x", "email_verified": true}, userInfo: map[string]any{"email": "a@example.com"}, fails: oidc.NotAllowed,
		},
		"not verified, an address that is the provider's other claim": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"email=upn"} },
			claims: map[string]any{"upn": "a@example.com", "email_verified": false}, fails: oidc.NotAllowed,
		},
		"verified, an address that is the provider's other claim": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"email=upn"} },
			claims: map[string]any{"upn": "A@Example.com", "email_verified": true}, want: `{"email":"A@Example.com"}`,
		},
		"not verified, the claim that is the address here, by the provider's name": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"upn=*@example.com"}, []string{"email=upn"} },
			claims: map[string]any{"upn": "a@example.com", "email_verified": false}, fails: oidc.NotAllowed,
		},
		"verified, the claim that is the address here, by the provider's name": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"upn=*@example.com"}, []string{"email=upn"} },
			claims: map[string]any{"upn": "a@Example.com", "email_verified": true}, want: `{"email":"a@Example.com"}`,
		},
		"not verified, the claim that is the address here, under a third name": {
			edit: func(o *oidc.Options) {
				o.Allow, o.Claims = []string{"login=*@example.com"}, []string{"email=upn", "login=upn"}
			},
			claims: map[string]any{"upn": "a@example.com"}, fails: oidc.NotAllowed,
		},
		"a name of an account, which is no address here": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"upn=*@example.com"}, []string{"name"} },
			claims: map[string]any{"upn": "a@example.com"}, want: "",
		},
		"not verified, the provider's address under another name": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"login=*@example.com"}, []string{"login=email"} },
			claims: map[string]any{"email": "a@example.com"}, fails: oidc.NotAllowed,
		},
		"verified, the provider's address under another name": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"login=*@example.com"}, []string{"login=email"} },
			claims: map[string]any{"email": "a@example.com", "email_verified": true}, want: `{"login":"a@example.com"}`,
		},
		"verified by userinfo, which names no address": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@example.com", "email_verified": false}, userInfo: map[string]any{"email_verified": true}, fails: oidc.NotAllowed,
		},
		"verified by the token, and userinfo names no address": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@example.com", "email_verified": true}, userInfo: map[string]any{"email_verified": false},
			want: `{"email":"a@example.com"}`,
		},
		"verified by userinfo, which names another address than the mapped one": {
			edit:     func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"email=upn"} },
			claims:   map[string]any{"upn": "a@example.com", "email_verified": false},
			userInfo: map[string]any{"email": "a@x", "email_verified": true}, fails: oidc.NotAllowed,
		},
		"verified by the token, whose address is in userinfo under another name": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"email=upn"} },
			claims: map[string]any{"email": "a@x", "email_verified": true}, userInfo: map[string]any{"upn": "a@example.com"}, fails: oidc.NotAllowed,
		},
		"verified by the token, and userinfo names the same address": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@example.com", "email_verified": true}, userInfo: map[string]any{"email": "a@example.com"},
			want: `{"email":"a@example.com"}`,
		},
		"verified by the token, and userinfo names the address in another case": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@example.com", "email_verified": true}, userInfo: map[string]any{"email": "A@example.com"},
			fails: oidc.NotAllowed,
		},
		"verified by the token, and userinfo names the same address as not verified": {
			edit:     func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims:   map[string]any{"email": "a@example.com", "email_verified": true},
			userInfo: map[string]any{"email": "a@example.com", "email_verified": false}, fails: oidc.NotAllowed,
		},
		"verified by the token, and userinfo names a list": {
			edit:   func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"email=mail"} },
			claims: map[string]any{"mail": "a@example.com", "email_verified": true}, userInfo: map[string]any{"mail": []string{"a@example.com"}},
			fails: oidc.NotAllowed,
		},
		"verified by the token, and both name the same list": {
			edit:     func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"email=mail"} },
			claims:   map[string]any{"mail": []string{"a@example.com"}, "email_verified": true},
			userInfo: map[string]any{"mail": []string{"a@example.com"}}, fails: oidc.NotAllowed,
		},
		"verified by neither, and both name the same address": {
			edit:   func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} },
			claims: map[string]any{"email": "a@example.com"}, userInfo: map[string]any{"email": "a@example.com"}, fails: oidc.NotAllowed,
		},
		"allowed by sub": {edit: func(o *oidc.Options) { o.Allow = []string{"sub=sub-*"} }, want: ""},
		"remote user": {
			edit:   func(o *oidc.Options) { o.RemoteUser = "preferred_username" },
			claims: map[string]any{"preferred_username": "ann"}, want: `{"preferred_username":"ann"}`,
		},
		"remote user not verified, an address that is the provider's other claim": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "email", []string{"email=upn"} },
			claims: map[string]any{"upn": "admin@example.com", "email": "a@x", "email_verified": false}, fails: oidc.NotVerified,
		},
		"remote user without a word on it, an address that is the provider's other claim": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "email", []string{"email=upn"} },
			claims: map[string]any{"upn": "admin@example.com"}, fails: oidc.NotVerified,
		},
		"remote user verified, an address that is the provider's other claim": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "email", []string{"email=upn"} },
			claims: map[string]any{"upn": "ann@example.com", "email_verified": true}, want: `{"email":"ann@example.com"}`,
		},
		"remote user not verified, the claim that is the address here, by the provider's name": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "upn", []string{"email=upn"} },
			claims: map[string]any{"upn": "admin@example.com", "email_verified": false}, fails: oidc.NotVerified,
		},
		"remote user verified, the claim that is the address here, by the provider's name": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "upn", []string{"email=upn"} },
			claims: map[string]any{"upn": "ann@example.com", "email_verified": true}, want: `{"email":"ann@example.com","upn":"ann@example.com"}`,
		},
		"remote user not verified, the provider's address under another name": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "login", []string{"login=email"} },
			claims: map[string]any{"email": "ann@example.com", "email_verified": false}, fails: oidc.NotVerified,
		},
		"remote user not verified, the provider's address twice": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "login", []string{"email=upn", "login=email"} },
			claims: map[string]any{"email": "ann@example.com", "upn": "x"}, fails: oidc.NotVerified,
		},
		"remote user verified by userinfo, which names no address": {
			edit:   func(o *oidc.Options) { o.RemoteUser = "email" },
			claims: map[string]any{"email": "ann@example.com", "email_verified": false}, userInfo: map[string]any{"email_verified": true}, fails: oidc.NotVerified,
		},
		"remote user verified by the token, and userinfo names the same address": {
			edit:   func(o *oidc.Options) { o.RemoteUser = "email" },
			claims: map[string]any{"email": "ann@example.com", "email_verified": true}, userInfo: map[string]any{"email": "ann@example.com"},
			want: `{"email":"ann@example.com"}`,
		},
		"remote user verified by the token, and userinfo names another address": {
			edit:   func(o *oidc.Options) { o.RemoteUser = "email" },
			claims: map[string]any{"email": "ann@example.com", "email_verified": true}, userInfo: map[string]any{"email": "admin@example.com"},
			fails: oidc.NotVerified,
		},
		"groups that are elsewhere":               {claims: elsewhere("groups"), fails: oidc.BadAnswer},
		"groups that userinfo says are elsewhere": {userInfo: elsewhere("groups"), fails: oidc.BadAnswer},
		"groups under another name, elsewhere": {
			edit:   func(o *oidc.Options) { o.Claims = []string{"groups=roles"} },
			claims: elsewhere("roles"), fails: oidc.BadAnswer,
		},
		"a claim of a rule, elsewhere": {
			edit:   func(o *oidc.Options) { o.Claims, o.Allow = []string{"name"}, []string{"sub=x", "groups=staff"} },
			claims: elsewhere("groups"), fails: oidc.BadAnswer,
		},
		"a claim of a rule, elsewhere, where another rule holds": {
			edit:   func(o *oidc.Options) { o.Claims, o.Allow = []string{"name"}, []string{"groups=staff", "sub=sub-*"} },
			claims: elsewhere("groups"), want: "",
		},
		"the claim of Remote-User, elsewhere": {
			edit:   func(o *oidc.Options) { o.RemoteUser, o.Claims = "upn", []string{"name"} },
			claims: elsewhere("upn"), fails: oidc.BadAnswer,
		},
		"a claim that nobody asks for, elsewhere": {claims: elsewhere("address"), want: ""},
		"groups that are elsewhere, and here": {
			claims: elsewhere("groups"), userInfo: map[string]any{"groups": []string{"staff"}}, want: `{"groups":["staff"]}`,
		},
		"groups that are here, and elsewhere by userinfo": {
			claims: map[string]any{"groups": []string{"staff"}}, userInfo: elsewhere("groups"), want: `{"groups":["staff"]}`,
		},
		"groups that one source says, and that they are elsewhere": {
			claims: with(elsewhere("groups"), "groups", []string{"staff"}), want: `{"groups":["staff"]}`,
		},
		"groups that are elsewhere, and null here": {
			claims: elsewhere("groups"), userInfo: map[string]any{"groups": nil}, fails: oidc.BadAnswer,
		},
		"groups that are elsewhere, and null in the same source": {claims: with(elsewhere("groups"), "groups", nil), fails: oidc.BadAnswer},
		"other places by userinfo that are no map":               {userInfo: map[string]any{"_claim_names": []string{"groups"}}, want: ""},
		"remote user missing":                                    {edit: func(o *oidc.Options) { o.RemoteUser = "preferred_username" }, fails: oidc.NotVerified},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.New(t)
			p.Edit(func(b *oidctest.Behaviour) { b.Claims, b.UserInfo = tt.claims, tt.userInfo })
			id, err := login(t, newClient(t, p, tt.edit), oidc.Wanted{})
			if tt.fails != 0 {
				require.Error(t, err)
				assert.Equal(t, tt.fails, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, string(id.Claims.JSON()))
		})
	}
}

// elsewhere says of a claim that it is to be had elsewhere, as Entra ID does of groups that are too many for a token.
func elsewhere(claim string) map[string]any {
	return map[string]any{"_claim_names": map[string]any{claim: "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.example"}}}
}

func with(claims map[string]any, name string, value any) map[string]any {
	claims[name] = value
	return claims
}

// Half of a surrogate pair becomes U+FFFD where JSON is decoded, which would make one group of several. Claims that are not kept may
// hold it.
func TestClaimsThatAreNoText(t *testing.T) {
	for claims, want := range map[string]struct {
		kept  string
		fails oidc.Kind
	}{
		`"groups":["g\ud800"]`:                     {fails: oidc.BadAnswer},
		`"name":"\udfff"`:                          {fails: oidc.BadAnswer},
		"\"name\":\"\xff\"":                        {fails: oidc.BadAnswer},
		`"groups":["g\ufffd"],"nickname":"\ud83d"`: {kept: "{\"groups\":[\"g\ufffd\"]}"},
	} {
		for _, by := range []string{"ID token", "userinfo"} {
			p := oidctest.New(t)
			p.Edit(func(b *oidctest.Behaviour) {
				b.Claims = nil
				signer := b.Signer
				if by == "ID token" {
					b.Sign = func(c map[string]any) string { return oidctest.SignedText(signer, spliced(t, c, claims)) }
					return
				}
				user := b.User
				b.Handlers["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write(spliced(t, map[string]any{"sub": user}, claims))
				}
			})
			id, err := login(t, newClient(t, p, nil), oidc.Wanted{})
			if want.fails != 0 {
				require.Error(t, err, "%s: %s", by, claims)
				assert.Equal(t, want.fails, kindOf(t, err), "%s: %s", by, claims)
				_, err = login(t, newClient(t, p, func(o *oidc.Options) { o.Claims, o.Allow = []string{"age"}, []string{"groups=g*", "name=*"} }), oidc.Wanted{})
				require.Error(t, err, "%s: %s", by, claims)
				assert.Equal(t, oidc.NotAllowed, kindOf(t, err), "%s: no rule fits: %s", by, claims)
				continue
			}
			require.NoError(t, err, "%s: %s", by, claims)
			assert.Equal(t, want.kept, string(id.Claims.JSON()), "%s: %s", by, claims)
		}
	}
}

// spliced returns the claims as JSON, with these members as they stand behind them.
func spliced(t *testing.T, claims map[string]any, members string) []byte {
	t.Helper()
	text, err := json.Marshal(claims)
	assert.NoError(t, err)
	return append(bytes.TrimSuffix(text, []byte("}")), ","+members+"}"...)
}
