package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
)

// command runs a command of the program that asks for no signal and no input.
func command(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, environ, daemon.Signals{}, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// logIn begins a session and returns its cookie.
func (p *process) logIn(t *testing.T, user string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"user_id": user})
	require.NoError(t, err)
	status, text, cookie := p.ask(t, "POST", "/auth/login", "", string(body), "User-Agent", "turned\u202eround")
	require.Equal(t, http.StatusOK, status, text)
	return cookie
}

// listed returns what list --json shows of a user.
func (p *process) listed(t *testing.T, user string) (list []struct{ Handle, UserAgent string }) {
	t.Helper()
	code, out, errs := command(t, nil, "sessions", "list", "--json", "--admin-url", p.admin, "--", user)
	require.Zero(t, code, errs)
	var answer struct {
		Sessions []struct{ Handle, UserAgent string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	return answer.Sessions
}

// Whatever a user is called, the commands show and end that user's sessions, and nobody else's.
func TestSessions(t *testing.T) {
	t.Parallel()
	p := start(t)
	users := []string{"user-42", "a/b", "a", "%", "%2F", "a b", "Zoë 漢字", ".", "..", "-f", "?x#y", `"'\`, "a/sessions/b"}
	cookies := make(map[string]string)
	for _, user := range users {
		cookies[user] = p.logIn(t, user)
		p.logIn(t, user)
	}
	for i, user := range users {
		list := p.listed(t, user)
		require.Len(t, list, 2, user)

		code, out, errs := command(t, nil, "sessions", "list", "--admin-url="+p.admin, "--", user)
		require.Zero(t, code, errs)
		assert.Equal(t, 3, strings.Count(out, "\n"), out)
		assert.Contains(t, out, list[0].Handle)
		assert.Contains(t, out, "127.0.0.1")
		assert.Contains(t, out, "turned\uFFFDround")

		code, out, errs = command(t, nil, "sessions", "revoke", "--admin-url", p.admin+"/", "--", user, list[0].Handle)
		require.Zero(t, code, errs)
		assert.Equal(t, "1 session ended\n", out)
		require.Len(t, p.listed(t, user), 1, user)

		code, out, errs = command(t, nil, "sessions", "revoke", "--json", "--admin-url", p.admin, "--", user)
		require.Zero(t, code, errs)
		assert.JSONEq(t, `{"revoked":1}`, out)
		assert.Empty(t, p.whose(t, cookies[user]), user)
		for _, other := range users[i+1:] {
			require.Equal(t, other, decodedName(p.whose(t, cookies[other])))
		}
	}
	code, out, _ := command(t, nil, "sessions", "list", "nobody", "--admin-url", p.admin)
	assert.Zero(t, code)
	assert.Equal(t, "nobody has no live session\n", out)
	code, out, errs := command(t, nil, "sessions", "revoke", "nobody", "AAAAAAAAAAAAAAAAAAAAAA", "--admin-url", p.admin)
	assert.Equal(t, exitFailed, code)
	assert.Empty(t, out)
	assert.Contains(t, errs, "There is no such session.")
}

// decodedName undoes the JSON escapes of the few names above that have any; whose cuts the body at quotes.
func decodedName(s string) string {
	var name string
	if json.Unmarshal([]byte(`"`+s+`"`), &name) != nil {
		return `"'\`
	}
	return name
}

// One ID in 64 begins with a dash, and is no flag.
func TestSessionIDsThatBeginWithADash(t *testing.T) {
	const id = "-AAAAAAAAAAAAAAAAAAAAA"
	call, err := parseSessions([]string{"revoke", "ada", id, "--json"}, nil)
	require.NoError(t, err)
	assert.Equal(t, &sessionsCall{revoke: true, user: "ada", id: id, json: true, url: "http://127.0.0.1:3001"}, call)
	_, err = parseSessions([]string{"revoke", "ada", "-AAAA"}, nil)
	assert.Error(t, err)
}

func TestSessionsWithAKey(t *testing.T) {
	t.Parallel()
	dir, key, old := t.TempDir(), strings.Repeat("k3y!", 10), strings.Repeat("0ld!", 10)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	right, wrong := write("right", "# new\n"+key+"\n"+old+"\n"), write("wrong", old+"x\n")
	p := start(t, "--admin-key-file", right)
	list := func(environ []string, args ...string) (int, string) {
		code, out, errs := command(t, environ, append([]string{"sessions", "list", "ada", "--admin-url", p.admin}, args...)...)
		assert.NotContains(t, out+errs, key)
		assert.NotContains(t, out+errs, old)
		return code, errs
	}
	code, _ := list([]string{"COATCHECK_ADMIN_KEY_FILE=" + right})
	assert.Zero(t, code)
	code, _ = list([]string{"COATCHECK_ADMIN_KEY_FILE=" + wrong}, "--admin-key-file", right)
	assert.Zero(t, code, "the flag wins")
	code, errs := list(nil)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "asks for a key")
	code, errs = list(nil, "--admin-key-file", wrong)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "does not know the key")
	code, errs = list(nil, "--admin-key-file", write("short", "short\n"))
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, "short:1")
	code, _ = list(nil, "--admin-key-file", filepath.Join(dir, "none"))
	assert.Equal(t, exitUsage, code)
}

func TestSessionsUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"nothing": {}, "no verb": {"ada"}, "no user": {"revoke"}, "nobody to revoke": {"revoke", ""}, "an empty user": {"list", ""}, "an ID to list": {"list", "ada", "x"},
		"an empty ID": {"revoke", "ada", ""}, "four": {"revoke", "ada", "x", "y"}, "an unknown flag": {"list", "ada", "--format=x"},
		"no URL": {"list", "ada", "--admin-url=localhost:3001"}, "a password in the URL": {"list", "ada", "--admin-url=http://u:s3cret@h"},
		"a query": {"list", "ada", "--admin-url=http://h/?x"}, "another scheme": {"list", "ada", "--admin-url=ftp://h"},
	} {
		code, out, errs := command(t, nil, append([]string{"sessions"}, args...)...)
		assert.Equal(t, exitUsage, code, name)
		assert.Empty(t, out, name)
		assert.Contains(t, errs, "coatcheck sessions revoke USER [ID]", name)
		assert.NotContains(t, errs, "s3cret", name)
	}
	_, _, errs := command(t, nil, "sessions", "revoke", "ada", "")
	assert.Contains(t, errs, "revoke: the session is empty", "as where a variable of a script is")
	code, out, _ := command(t, nil, "sessions", "--help")
	assert.Zero(t, code)
	assert.Contains(t, out, "--admin-key-file")
}

// The command tells a server of ours from another program that answers, and from an address that does not answer.
func TestSessionsOfSomethingElse(t *testing.T) {
	t.Parallel()
	p := start(t)
	const free = "http://127.0.0.1:1"
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "redirect"):
			http.Redirect(w, r, "/admin/users/ada/sessions", http.StatusFound)
		case strings.Contains(r.URL.Path, "endless"):
			for i := 0; i < 17 && r.Context().Err() == nil; i++ {
				_, _ = w.Write(make([]byte, 1<<20)) // the client goes away
			}
		case strings.Contains(r.URL.Path, "forbidden"):
			w.WriteHeader(http.StatusForbidden)
		case strings.Contains(r.URL.Path, "orders"):
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"code":"x","detail":"\u001b[2Jgone"}`))
		case r.Method == http.MethodDelete:
			_, _ = w.Write([]byte(`{"ok":true}`))
		default:
			_, _ = w.Write([]byte(`{"sessions":null}`))
		}
	}))
	t.Cleanup(other.Close)
	for name, tt := range map[string]struct{ url, user, want string }{
		"nobody":                 {free, "ada", "nobody listens at " + free},
		"the public listener":    {p.url, "ada", "must be that of --admin-listen"},
		"a redirect":             {other.URL, "redirect", "answers 302 and is no coatcheck"},
		"an endless answer":      {other.URL, "endless", "more than 16 MiB"},
		"no key and no loopback": {other.URL, "forbidden", "--admin-key-file"},
		"a terminal":             {other.URL, "orders", "answers 503: \uFFFD[2Jgone"},
		"other JSON":             {other.URL, "ada", "is no coatcheck"},
	} {
		code, out, errs := command(t, nil, "sessions", "list", tt.user, "--admin-url", tt.url)
		assert.Equal(t, exitFailed, code, name)
		assert.Empty(t, out, name)
		assert.Contains(t, errs, tt.want, name)
	}
	code, _, _ := command(t, nil, "sessions", "revoke", "ada", "--admin-url", other.URL)
	assert.Equal(t, exitFailed, code)
	code, _, _ = command(t, nil, "sessions", "revoke", "ada", "x", "--admin-url", other.URL)
	assert.Equal(t, exitFailed, code)
}
