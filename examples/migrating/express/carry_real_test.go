//go:build real

// Package express_test runs the application of this folder, which carries live sessions of express-session over to coatcheck.
package express_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/internal/testprogram"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

const (
	patience = 30 * time.Second
	loginKey = "a-login-key-of-more-than-32-characters"
	secret   = "the secret of express-session"
)

// site is the old and the new application, on one Redis, and coatcheck.
type site struct {
	*testing.T
	old, now, coatcheck string // URLs
}

// built is the program, made once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "coatcheck-carry-")
	if err != nil {
		return "", err
	}
	scratch = dir
	return testprogram.Shipped(dir)
})

var scratch string

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// install puts the JavaScript of this folder where its modules are.
func install(t *testing.T) (dir string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	dir = t.TempDir()
	for _, file := range []string{"carry.mjs", "app.mjs", "old_test.mjs", "race_test.mjs"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), text, 0o600))
	}
	modules := filepath.Join(cache, "coatcheck", "tools", "clients", "npm", "node_modules")
	require.DirExists(t, modules, "make clients installs it")
	require.NoError(t, os.Symlink(modules, filepath.Join(dir, "node_modules")))
	return dir
}

func open(t *testing.T) *site {
	t.Helper()
	dir := install(t)
	keys := filepath.Join(dir, "keys")
	require.NoError(t, os.WriteFile(keys, []byte(loginKey+"\n"), 0o600))
	program, err := built()
	require.NoError(t, err)

	redis := redistest.Start(t).URL()
	s := &site{T: t}
	s.coatcheck = s.start(func(port string) []string {
		return []string{program, "serve", "--dev", "--login=trusted", "--login-key-file=" + keys, "--listen=127.0.0.1:" + port, "--admin-listen=off"}
	})
	s.old = s.start(func(port string) []string {
		return []string{"node", filepath.Join(dir, "old_test.mjs"), port, redis, s.coatcheck}
	})
	s.now = s.start(func(port string) []string {
		return []string{"node", filepath.Join(dir, "app.mjs"), port, redis, s.coatcheck}
	})
	return s
}

// start runs a program on a free port until the test ends, and waits until it listens.
func (s *site) start(command func(port string) []string) (address string) {
	s.Helper()
	port := strconv.Itoa(testport.Free(s))
	args := command(port)
	logs := filepath.Join(s.TempDir(), "log")
	out, err := os.Create(logs) //nolint:gosec // the test's own
	require.NoError(s, err)
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "SESSION_SECRET="+secret, "LOGIN_KEY="+loginKey)
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(s, cmd.Start())
	s.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
		if s.Failed() {
			text, _ := os.ReadFile(logs) //nolint:gosec // the test's own
			s.Logf("%s:\n%s", args, text)
		}
	})
	require.Eventually(s, func() bool {
		conn, err := new(net.Dialer).DialContext(s.Context(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond, "%s does not listen", args)
	return "http://127.0.0.1:" + port
}

// ask returns the status and the text of an answer.
func (s *site) ask(client *http.Client, method, address string) (status int, text string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, address, http.NoBody)
	require.NoError(s, err)
	resp, err := client.Do(req)
	require.NoError(s, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	return resp.StatusCode, string(body)
}

// browser returns one that a user has logged in with at the old application, and a copy of its cookies.
func (s *site) browser(user string) (client *http.Client, stolen func() *http.Client) {
	s.Helper()
	fresh := func() *http.Client {
		jar, err := cookiejar.New(nil)
		require.NoError(s, err)
		return &http.Client{Jar: jar, Timeout: patience}
	}
	client = fresh()
	status, _ := s.ask(client, "POST", s.old+"/login/"+user)
	require.Equal(s, 204, status)
	status, text := s.ask(client, "GET", s.old+"/")
	require.Equal(s, fmt.Sprint(200, user), fmt.Sprint(status, text))
	at, err := url.Parse(s.old)
	require.NoError(s, err)
	cookies := client.Jar.Cookies(at) // jars know no ports
	require.Len(s, cookies, 1)
	return client, func() *http.Client {
		c := fresh()
		c.Jar.SetCookies(at, cookies)
		return c
	}
}

func (s *site) user(client *http.Client, of string) string {
	s.Helper()
	resp, err := client.Get(of + "/") //nolint:noctx // ends when its application does
	require.NoError(s, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	require.Equal(s, 200, resp.StatusCode, text)
	require.Equal(s, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"), "a name is no HTML")
	return string(text)
}

// A session is carried over at its next request, and lives here from then on; its logout is final for every copy of the old cookie.
func TestCarriedOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("ann")
	assert.Equal(t, "nobody", s.user(http.DefaultClient, s.now))
	assert.Equal(t, "ann", s.user(browser, s.now))
	at, err := url.Parse(s.now)
	require.NoError(t, err)
	require.Len(t, browser.Jar.Cookies(at), 1, "the old cookie has gone")
	assert.Equal(t, "coatcheck", browser.Jar.Cookies(at)[0].Name)
	assert.Equal(t, "ann", s.user(browser, s.now))
	status, text := s.ask(browser, "GET", s.coatcheck+"/auth/me")
	assert.Equal(t, 200, status)
	assert.Contains(t, text, `"user_id":"ann"`)

	status, _ = s.ask(copied(), "GET", s.now+"/")
	assert.Equal(t, 503, status, "while the answer with the new cookie may be on its way")
	assert.Equal(t, "nobody", s.user(copied(), s.old), "the old application knows of it")
	status, _ = s.ask(browser, "POST", s.now+"/logout")
	require.Equal(t, 204, status)
	assert.Equal(t, "nobody", s.user(browser, s.now))
	s.isDead(copied())
}

// A page of another site logs nobody out, at either application.
func TestLogoutOfAnotherSite(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, _ := s.browser("sue")
	logout := func(application, name, value string) (status int) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", application+"/logout", http.NoBody)
		require.NoError(t, err)
		req.Header.Set(name, value)
		resp, err := browser.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	for _, application := range []string{s.now, s.old} {
		assert.Equal(t, 403, logout(application, "Sec-Fetch-Site", "cross-site"))
		assert.Equal(t, 403, logout(application, "Origin", "http://elsewhere.example"))
	}
	assert.Equal(t, "sue", s.user(browser, s.now))
	assert.Equal(t, 204, logout(s.now, "Sec-Fetch-Site", "same-origin"))
	assert.Equal(t, "nobody", s.user(browser, s.now))
}

// isDead waits until an old cookie gets the page without a user, and requires that no answer before it shows a user.
func (s *site) isDead(client *http.Client) {
	s.Helper()
	require.Eventually(s, func() bool {
		status, text := s.ask(client, "GET", s.now+"/")
		if status == 200 {
			require.Equal(s, "nobody", text, "the old cookie opens a session")
		}
		return status == 200
	}, patience, 500*time.Millisecond)
	at, err := url.Parse(s.now)
	require.NoError(s, err)
	assert.Empty(s, client.Jar.Cookies(at), "and is cleared")
}

// Of parallel requests one carries the session over. After the logout none of them has left a session behind.
func TestParallelRequests(t *testing.T) {
	t.Parallel()
	s := open(t)
	for range 10 {
		_, copied := s.browser("bob")
		clients := make([]*http.Client, 16)
		answers := make([]string, len(clients))
		var asking sync.WaitGroup
		for i := range clients {
			clients[i] = copied()
			asking.Go(func() {
				status, text := s.ask(clients[i], "GET", s.now+"/")
				answers[i] = fmt.Sprint(status, " ", text)
			})
		}
		asking.Wait()
		carried := -1
		for i, answer := range answers {
			if answer == "200 bob" {
				assert.Equal(t, -1, carried, "two have carried it over")
				carried = i
			} else {
				assert.True(t, strings.HasPrefix(answer, "503 "), answer)
			}
		}
		require.GreaterOrEqual(t, carried, 0, "%q", answers)
		status, _ := s.ask(clients[carried], "POST", s.now+"/logout")
		require.Equal(t, 204, status)
		for _, client := range clients {
			status, text := s.ask(client, "GET", s.coatcheck+"/auth/me")
			assert.Equal(t, 200, status)
			assert.Contains(t, text, `"authenticated":false`)
		}
	}
}

// The old store is still in use: a request of the old application writes the session again after it was carried over and logged out, or
// renames it, as at a change of privilege.
func TestOldStoreIsLive(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, does := range []string{"write", "rename"} {
		browser, copied := s.browser("eve")
		slow := make(chan string, 1)
		client := copied()
		go func() {
			resp, err := client.Post(s.old+"/slow/"+does, "", http.NoBody) //nolint:noctx // ended by the server
			if err != nil {
				slow <- err.Error()
				return
			}
			text, _ := io.ReadAll(resp.Body)
			slow <- string(text)
			_ = resp.Body.Close()
		}()
		require.Eventually(t, func() bool {
			_, waits := s.ask(http.DefaultClient, "GET", s.old+"/waiting")
			return waits == "true"
		}, patience, 10*time.Millisecond)
		assert.Equal(t, "eve", s.user(browser, s.now))
		status, _ := s.ask(browser, "POST", s.now+"/logout")
		require.Equal(t, 204, status)
		status, _ = s.ask(http.DefaultClient, "POST", s.old+"/go")
		require.Equal(t, 204, status)
		require.Equal(t, "eve", <-slow, "it wrote the session again")
		for _, old := range []*http.Client{client, copied()} {
			assert.Equal(t, "nobody", s.user(old, s.old), does)
			s.isDead(old)
		}
	}
}

// A user who logs out with the old cookie alone is logged out, and so is a user who has a session here and an old one beside it.
func TestLogoutWithTheOldCookie(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("joe")
	status, _ := s.ask(browser, "POST", s.now+"/logout")
	require.Equal(t, 204, status)
	assert.Equal(t, "nobody", s.user(browser, s.now))
	s.isDead(copied())

	browser, _ = s.browser("joe")
	assert.Equal(t, "joe", s.user(browser, s.now))
	_, copied = s.browser("joe")
	at, err := url.Parse(s.now)
	require.NoError(t, err)
	both := copied()
	both.Jar.SetCookies(at, browser.Jar.Cookies(at))
	require.Len(t, both.Jar.Cookies(at), 2)
	status, _ = s.ask(both, "POST", s.now+"/logout")
	require.Equal(t, 204, status)
	assert.Equal(t, "nobody", s.user(both, s.now))
	s.isDead(copied())
}

// The logout of the old application, while both run, is as final as that of the new one: of a session that was not carried over yet, and
// of one that was.
func TestLogoutAtTheOldApplication(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("pat")
	status, _ := s.ask(browser, "POST", s.old+"/logout")
	require.Equal(t, 204, status)
	assert.Equal(t, "nobody", s.user(copied(), s.old))
	s.isDead(copied())

	browser, copied = s.browser("pat")
	assert.Equal(t, "pat", s.user(browser, s.now))
	status, _ = s.ask(copied(), "POST", s.old+"/logout")
	require.Equal(t, 503, status, "while the answer with the new cookie may be on its way")
	status, _ = s.ask(browser, "POST", s.old+"/logout")
	require.Equal(t, 204, status)
	assert.Equal(t, "nobody", s.user(browser, s.now))
	s.isDead(copied())
}

// Requests, logouts, deletions and failures meet in every order that chance makes.
func TestRaces(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", filepath.Join(install(t), "race_test.mjs"), "20000").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
}
