package servertest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var listAllRules = []rule{
	{name: "members", check: checkListAllMembers},
	{name: "pages", check: checkListAllPages},
	{name: "filters", config: behindProxies, check: checkListAllFilters},
	{name: "a user who is named in the query", transport: true, check: checkListQueried},
	{name: "one user's pages", check: checkListQueriedPages},
	{name: "end the sessions of a user who is named in the query", transport: true, check: checkEndQueried},
	{name: "parameters", check: checkListAllParameters},
	{name: "store failure", check: checkListAllStoreDown},
}

// anyones is one element of the list of all sessions.
type anyones struct {
	UserID string `json:"user_id"`
	device
}

// all follows the pages of a list, and returns its sessions and how many pages there were.
func (h *harness) all(query string) (list []anyones, pages int) {
	h.Helper()
	for next := ""; ; {
		resp := h.adminDo("GET", "/admin/sessions?"+strings.TrimPrefix(query+next, "&"))
		require.Equal(h, answer{Status: 200}, h.Answer(resp), resp.Body)
		var page struct {
			Sessions []anyones
			Next     *string
		}
		decode(h.T, resp.Body, &page)
		list, pages = append(list, page.Sessions...), pages+1
		require.Less(h, pages, 2000)
		if page.Next == nil {
			return list, pages
		}
		require.NotEmpty(h, *page.Next)
		next = "&cursor=" + url.QueryEscape(*page.Next)
	}
}

func handles(list []anyones) []string {
	var all []string
	for _, one := range list {
		all = append(all, one.Handle)
	}
	return all
}

func checkListAllMembers(h *harness) {
	resp := h.adminDo("GET", "/admin/sessions")
	assert.Equal(h, `{"sessions":[]}`, resp.Body)
	assert.Equal(h, "application/json", resp.Header.Get("Content-Type"))
	assert.Equal(h, 200, h.adminDo("HEAD", "/admin/sessions").Status)
	user := h.User()
	token := h.Login(user, "User-Agent: a")
	h.Clock.Step(renewEvery)
	resp = h.adminDo("GET", "/admin/sessions")
	var names []string
	for _, m := range memberNames.FindAllStringSubmatch(resp.Body, -1) {
		names = append(names, m[1])
	}
	order := []string{"handle", "session_id", "bound", "created_at", "created_ip", "last_seen_at", "expires_at", "ip", "user_agent"}
	assert.Equal(h, append([]string{"sessions", "user_id"}, order...), names)
	list, _ := h.all("")
	assert.Equal(h, []anyones{{user, device{
		Handle: h.HandleOf(token), SessionID: h.IDOf(token), CreatedAt: h.Clock.RFC3339(-renewEvery), LastSeenAt: h.Clock.RFC3339(-renewEvery),
		ExpiresAt: h.Clock.RFC3339(ttl - renewEvery), CreatedIP: "127.0.0.1", IP: "127.0.0.1", UserAgent: "a",
	}}}, list)

	path := "/admin/users/" + user + "/sessions"
	assert.Equal(h, h.adminDo("GET", path).Body, h.adminDo("GET", "/admin/sessions?user_id="+user).Body, "of one user the answer is the same")
}

func checkListAllPages(h *harness) {
	want := map[string]string{}
	for range 23 {
		user := h.User()
		want[h.HandleOf(h.Login(user))] = user
	}
	ended := h.Login(h.User())
	h.Post("/auth/logout", h.Cookie(ended))
	for _, limit := range []int{1, 10, 23, 1000} {
		list, pages := h.all(fmt.Sprint("limit=", limit))
		got := map[string]string{}
		for _, one := range list {
			got[one.Handle] = one.UserID
		}
		assert.Equal(h, want, got)
		assert.GreaterOrEqual(h, pages, (23+limit-1)/limit)
		assert.LessOrEqual(h, pages, 23/limit+2)
	}
	list, _ := h.all("")
	assert.Len(h, list, 23)
	h.Clock.Step(ttl)
	list, _ = h.all("limit=5")
	assert.Empty(h, list, "all have expired")
}

func checkListAllFilters(h *harness) {
	from := func(user, address string) string {
		h.Helper()
		return h.HandleOf(h.Login(user, "X-Forwarded-For: "+address))
	}
	old := from("team-a/ada", "203.0.113.7")
	h.Clock.Step(10 * time.Minute)
	young, six := from("team-a/bob", "198.51.100.9"), from("team-b/ada", "2001:db8:2:3::7")
	moved := h.Login("team-b/eve", "X-Forwarded-For: 203.0.113.9")
	require.Equal(h, 200, h.Post("/auth/refresh", h.Cookie(moved), "X-Forwarded-For: 198.51.100.10").Status)
	traveller := h.HandleOf(moved)
	for query, want := range map[string][]string{
		"":                                         {old, young, six, traveller},
		"user_prefix=team-a%2F":                    {old, young},
		"user_prefix=team-a/":                      {old, young},
		"user_prefix=team-a%2fada":                 {old},
		"user_prefix=ada":                          nil,
		"address=203.0.113.7":                      {old},
		"address=203.0.113.9":                      {traveller},
		"address=198.51.100.10":                    {traveller},
		"address=::ffff:203.0.113.7":               {old},
		"address=203.0.113.0/24":                   {old, traveller},
		"address=2001:db8:2:3::/64":                {six},
		"address=2001:db8:2:3::7":                  {six},
		"address=192.0.2.1":                        nil,
		"min_age=10m":                              {old},
		"min_age=10m1s":                            nil,
		"max_age=0s":                               {young, six, traveller},
		"max_age=10m":                              {old, young, six, traveller},
		"max_age=9m59.999s":                        {young, six, traveller},
		"min_age=0s&max_age=1m&user_prefix=team-b": {six, traveller},
		"user_id=team-b/eve":                       {traveller},
		"user_id=team-b/eve&min_age=1m":            nil,
		"user_id=team-b/eve&address=203.0.113.9":   {traveller},
		"user_id=team-b/eve&user_prefix=team-a":    nil,
		"user_id=team-b/&user_prefix=team-b/":      nil,
	} {
		list, _ := h.all(query)
		assert.ElementsMatch(h, want, handles(list), query)
		list, _ = h.all(strings.TrimPrefix(query+"&limit=1", "&"))
		assert.ElementsMatch(h, want, handles(list), query)
	}
}

// queriedNames are user IDs that clients change when they are part of a path, or that mean something in a query.
var queriedNames = []string{
	".", "..", "a/b", "/", "//", "../..", "./a", "%", "%2E", "%2e%2e", "%25", "100%", "a b", "a+b", "a?b", "a#b", "a&b=c", "a=b", "=", "&", ";",
	"a;b", "Jürgen", "🧥", `a"b`, `a\b`, "*", "user_id",
	strings.Repeat("ü", 128),
}

func checkListQueried(h *harness) {
	tokens := map[string]string{}
	for _, user := range queriedNames {
		tokens[user] = h.Login(user)
	}
	for user, token := range tokens {
		list, _ := h.all("user_id=" + url.QueryEscape(user))
		assert.Equal(h, []string{h.HandleOf(token)}, handles(list), user)
	}
	list, _ := h.all("")
	var users []string
	for _, one := range list {
		users = append(users, one.UserID)
	}
	assert.ElementsMatch(h, queriedNames, users)
	for _, nobody := range []string{"nobody", "A/B", strings.Repeat("x", 257), strings.Repeat("x", 4000)} {
		assert.Equal(h, `{"sessions":[]}`, h.adminDo("GET", "/admin/sessions?user_id="+nobody).Body)
	}
}

func checkListQueriedPages(h *harness) {
	user, want := h.User(), []string(nil)
	for i := range 9 {
		want = append(want, h.HandleOf(h.Login(user)))
		if i%3 == 2 { // three began at the same time
			h.Clock.Step(time.Second)
		}
	}
	all, _ := h.all("user_id=" + user)
	assert.ElementsMatch(h, want, handles(all))
	for _, limit := range []int{1, 2, 4, 9, 10} {
		list, pages := h.all(fmt.Sprintf("user_id=%s&limit=%d", user, limit))
		assert.Equal(h, handles(all), handles(list), "newest first")
		assert.Equal(h, (9+limit-1)/limit, pages)
	}
	assert.True(h, slices.IsSortedFunc(all, func(a, b anyones) int { return strings.Compare(b.CreatedAt, a.CreatedAt) }))
}

func checkEndQueried(h *harness) {
	bystander := h.Login("bystander")
	for _, user := range queriedNames {
		token := h.Login(user)
		path := "/admin/sessions?user_id=" + url.QueryEscape(user)
		assert.Equal(h, `{"revoked":1}`, h.adminDo("DELETE", path).Body, user)
		assert.Equal(h, "", h.Me(token), user)
		assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", path).Body, user)
	}
	assert.Len(h, h.Events("revoke"), 2*len(queriedNames))
	for _, query := range []string{
		"", "?", "?user_id", "?user_id=", "?user_id=bystander&user_id=bystander", "?user_id=bystander&user_id=x", "?user_id=bystander&x=1", "?x=1", "?User_id=bystander",
		"?user_prefix=by", "?user_id=bystander&user_prefix=by", "?user_id=bystander&", "?&user_id=bystander", "?user_id=%", "?user_id=%zz", "?user_id=bystander&limit=1",
		"?user%5Fid=bystander", "?user_id=bystander&%75ser_id=x", "?cursor=x",
	} {
		assert.Equal(h, answer{Status: 400, Code: "malformed_query"}, h.Answer(h.adminDo("DELETE", "/admin/sessions"+query)), query)
	}
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", "/admin/sessions?user_id="+strings.Repeat("x", 4000)).Body)
	assert.Equal(h, "bystander", h.Me(bystander))
	resp := h.adminDo("POST", "/admin/sessions")
	assert.Equal(h, answer{Status: 405, Code: "method_not_allowed"}, h.Answer(resp))
	assert.ElementsMatch(h, []string{"GET", "HEAD", "DELETE"}, strings.Split(strings.Join(resp.Header["Allow"], ", "), ", "))
}

func checkListAllParameters(h *harness) {
	user := h.User()
	h.Login(user)
	h.Login(user)
	for _, query := range []string{
		"x=1", "limit", "limit=", "limit=0", "limit=-1", "limit=1001", "limit=1e3", "limit=99999999999999999999", "limit=1&limit=1", "address=",
		"address=x", "address=203.0.113.0/33", "address=fe80::1%25eth0",
		"address=::ffff:203.0.113.0/120", "min_age=", "min_age=5", "min_age=-5m", "max_age=1d", "user_id=", "user_prefix=", "cursor=",
		"user_id=a&user_id=a", "user_id=%zz", "&", "limit=1&", "Limit=1",
	} {
		assert.Equal(h, answer{Status: 400, Code: "malformed_query"}, h.Answer(h.adminDo("GET", "/admin/sessions?"+query)), query)
	}
	for _, query := range []string{
		"cursor=x", "cursor=%00", "cursor=u", "cursor=u0", "cursor=m0.0.0.0", "user_id=" + user + "&cursor=x", "user_id=" + user + "&cursor=u1.x", "user_id=" + user + "&cursor=u.",
	} {
		assert.Equal(h, answer{Status: 400, Code: "unknown_cursor"}, h.Answer(h.adminDo("GET", "/admin/sessions?"+query)), query)
	}
}

func checkListAllStoreDown(h *harness) {
	user := h.User()
	h.Login(user)
	h.Store.Failing(errLost, httpcontract.OpScan, httpcontract.OpList, httpcontract.OpEndUser)
	down := answer{Status: 503, Code: "store_unavailable"}
	assert.Equal(h, down, h.Answer(h.adminDo("GET", "/admin/sessions")))
	assert.Equal(h, down, h.Answer(h.adminDo("GET", "/admin/sessions?user_id="+user)))
	assert.Equal(h, down, h.Answer(h.adminDo("DELETE", "/admin/sessions?user_id="+user)))
}
