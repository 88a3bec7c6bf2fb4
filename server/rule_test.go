package server_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
)

// oddGroups are groups whose names hold what an encoding could be confused by.
var oddGroups = []string{"staff", "a,b", "100%", "Ä ö", `q"\`, "%61"}

// sayingOddGroups is login mode open; whoever logs in is in oddGroups, which are kept in either of their forms.
type sayingOddGroups struct{ login.Open }

func (sayingOddGroups) Check(_ context.Context, a *login.Attempt) (string, error) {
	groups := `"staff","a,b","100%","Ä ö","q\"\\","%61"`
	if a.UserID == "as sent" {
		groups = `"staff","a,b","100%","Ä ö","%61"`
	}
	var err error
	a.Claims, err = coatcheck.ParseClaims([]byte(`{"groups":[` + groups + `]}`))
	return a.UserID, err
}

// FuzzRule: verify's query is none, or one group=LIST of at most 16, and a live session is let in where it has one of them. The
// reference reads the query by net/url.
func FuzzRule(f *testing.F) {
	for _, seed := range []string{
		"", "group=staff", "group=x,staff", "group=a%2Cb", "group=a,b", "group=100%25", "group=100%", "group=%C3%84%20%c3%b6", "group=Ä+ö", "group=%61", "group=%2561",
		"group=q%22%5C", `group=q"\`, "group=staff&group=x", "group=", "group=,", "group=x;group=staff", "Group=staff", "group=s%74aff", "x=y", "group=%00", "group=staff%", "group=%2",
		"group=" + strings.Repeat("x,", 15) + "staff", "group=" + strings.Repeat("x,", 16) + "staff",
	} {
		f.Add(seed)
	}
	cfg := frozenConfig()
	cfg.Login = sayingOddGroups{}
	c := newClient(f, newStore(f), cfg)
	lines := map[string][]string{
		cookieLine(c.login("as sent")): slices.DeleteFunc(slices.Clone(oddGroups), func(g string) bool { return strings.Contains(g, `"`) }),
		cookieLine(c.login("as JSON")): oddGroups,
	}
	f.Fuzz(func(t *testing.T, query string) {
		c.TB = t
		for line, groups := range lines {
			target := "/auth/verify"
			if query != "" {
				target += "?" + query
			}
			if strings.ContainsAny(query, "\x00\r\n\t #") || !c.parse(requestText("GET", target, "", line)) || string(c.ctx.URI().QueryString()) != query {
				return
			}
			resp := c.handle()
			require.Equal(t, ruleSays(query, groups), resp.StatusCode(), "%q", query)
		}
	})
}

// ruleSays is the status that the contract has for a rule and a session with these groups.
func ruleSays(query string, groups []string) int {
	if query == "" {
		return 200
	}
	list, ok := strings.CutPrefix(query, "group=")
	wanted := strings.Split(list, ",")
	if !ok || strings.Contains(list, "&") || len(wanted) > 16 {
		return 400
	}
	status := 403
	for _, one := range wanted {
		decoded, err := url.PathUnescape(one)
		if err != nil || one == "" {
			return 400
		}
		if slices.Contains(groups, decoded) {
			status = 200
		}
	}
	return status
}
