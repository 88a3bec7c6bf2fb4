package deploy_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// loginKey is what the test logs users in with, as a back end that has claims of them.
const loginKey = "canary-key-of-a-back-end-in-this-test"

// ruled is a sample with a part of the site for each of two groups, made as the sample says.
type ruled struct {
	proxied
	rules func(config string) string
}

// parts are the paths with a rule, and their groups.
var parts = map[string]string{"/staff": "staff", "/admins": "admins,root"}

// repeat returns what text makes of each part.
func repeat(text func(name, path, rule string) string) string {
	var all strings.Builder
	for _, path := range []string{"/staff", "/admins"} {
		all.WriteString(text(path[1:], path, "?group="+parts[path]))
	}
	return all.String()
}

// between cuts the text from one mark up to another behind it.
func between(text, from, to string) string {
	_, rest, ok := strings.Cut(text, from)
	inside, _, end := strings.Cut(rest, to)
	if !ok || !end {
		return ""
	}
	return from + inside
}

// before puts more before a mark of the configuration, in the file that has it.
func before(config, mark, more string) string { return strings.Replace(config, mark, more+mark, 1) }

func nginxRules(config string) string {
	asks, guards := between(config, "    location = /coatcheck-verify {", "\n    }\n")+"\n    }\n", between(config, "    location / {", "\n    }\n")+"\n    }\n"
	return before(config, "    location / {", repeat(func(name, path, rule string) string {
		ask := strings.NewReplacer("= /coatcheck-verify", "= /coatcheck-"+name, "/auth/verify;", "/auth/verify"+rule+";").Replace(asks)
		return ask + strings.NewReplacer("location /", "location = "+path, "/coatcheck-verify", "/coatcheck-"+name).Replace(guards)
	}))
}

// Groups open one part of the site and not another, through nginx.
func TestGroups(t *testing.T) { checkGroups(t, "nginx", ruled{nginx["nginx"], nginxRules}) }

// checkGroups: a rule of a path holds for that path alone, and nothing that a client sends changes it, or the groups that the
// application is told.
func checkGroups(t *testing.T, name string, how ruled) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		keys := filepath.Join(t.TempDir(), "keys")
		require.NoError(t, os.WriteFile(keys, []byte(loginKey+"\n"), 0o600))
		s := open(t, how.proxied, variant{edit: how.rules, flags: []string{"--login=trusted", "--login-key-file=" + keys}})
		ann := s.loginWith("ann", `{"name":"Ann Ä","email":"ann@example.com","groups":["staff","a,b"]}`)
		bob := s.loginWith("bob", `{"admins":"admins"}`)
		root := s.loginWith("root", `{"groups":["root"]}`)

		for _, tt := range []struct {
			who, path string
			want      int
		}{
			{ann, "/staff", 200},
			{ann, "/admins", 403},
			{ann, "/hello", 200},
			{bob, "/staff", 403},
			{bob, "/admins", 403},
			{bob, "/hello", 200},
			{root, "/staff", 403},
			{root, "/admins", 200},
			{"X: y", "/staff", 401},
			{"X: y", "/admins", 401},
		} {
			for _, method := range []string{"GET", "POST"} {
				assert.Equal(s, tt.want, s.status(method, tt.path, tt.who), "%s %s %s", method, tt.path, tt.who)
				assert.Len(s, s.reached(), map[int]int{200: 1}[tt.want], tt.path)
			}
		}
		if name != "nginx" { // which has its own page for it
			refused := s.ask("GET", "/staff", bob) //nolint:bodyclose // read and closed by ask
			text, err := io.ReadAll(refused.Body)
			require.NoError(s, err)
			assert.Contains(s, string(text), `"code":"group_required"`)
			assert.Equal(s, "application/problem+json", refused.Header.Get("Content-Type"))
		}
		assert.Equal(s, 302, s.status("GET", "/staff", asBrowser), "a browser without a session is sent to log in")
		assert.Equal(s, 403, s.status("GET", "/staff", bob, asBrowser), "a browser with a session is not")
		s.checkNoGroupAdded(ann)
	})
}

func (s *site) checkNoGroupAdded(ann string) {
	want := map[string][]string{
		"Remote-User": {"ann"}, "Remote-Name": {"Ann%20%C3%84"}, "Remote-Email": {"ann@example.com"}, "Remote-Groups": {"staff,a%2Cb"},
	}
	for _, query := range []string{"", "?group=staff", "?x=1&group=staff", "?group=staff&group=admins", "??group=staff", "?", "?%26group=staff", "?,staff"} {
		for _, head := range [][]string{
			nil,
			{"Remote-Groups: admins"},
			{"Remote-Groups: root", "remote-groups: admins"},
			{"Remote_Groups: admins", "remote_groups: root"},
			{"Connection: Remote-Groups"},
			{"Connection: Remote-Groups, Remote-User", "Remote-Groups: admins"},
			{"X-Forwarded-Uri: /auth/verify?group=staff", "X-Original-Url: /staff?group=staff"},
			{"X-Forwarded-Uri: /staff", "X-Original-Uri: /staff", "X-Rewrite-Url: /staff", "X-Auth-Request-Redirect: /staff"},
			{"Cookie: group=staff"},
		} {
			head := append(head, ann)
			assert.Contains(s, []int{403, 400, 401}, s.status("GET", "/admins"+query, head...), "%s %q", query, head)
			assert.Empty(s, s.reached(), "%s %q", query, head)
			status := s.status("GET", "/staff"+query, head...)
			for _, h := range s.reached() {
				found := identities(h)
				assert.Len(s, found["Remote-Session-Id"], 1)
				delete(found, "Remote-Session-Id")
				assert.Equal(s, want, found, "%s %q", query, head)
			}
			assert.Equal(s, 200, status, "%s %q", query, head)
		}
	}
}

// loginWith logs a user in as a back end does, past the proxy.
func (s *site) loginWith(user, claims string) (line string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "http://"+s.listens()+"/auth/login", strings.NewReader(fmt.Sprintf(`{"user_id":%q,"claims":%s}`, user, claims)))
	require.NoError(s, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+loginKey)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	require.Equal(s, 200, resp.StatusCode)
	for _, c := range resp.Cookies() {
		if c.Name == cookie {
			return "Cookie: " + cookie + "=" + c.Value
		}
	}
	require.Fail(s, "no cookie")
	return ""
}
