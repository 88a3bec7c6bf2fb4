//go:build real

package main

import (
	"context"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// providerPatience is how long a test waits for other people's providers, and for the minute in which keys are not fetched again.
const providerPatience = 3 * time.Minute

// foreign is a program of other people.
type foreign struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startForeign runs a program until the test ends, and waits until the URL is answered.
func startForeign(t *testing.T, ready string, env []string, name string, args ...string) *foreign {
	t.Helper()
	said := new(testoutput.Buffer)
	p := &foreign{cmd: exec.CommandContext(context.Background(), name, args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(os.Environ(), env...), said, said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, said)
		}
	})
	p.answers(t, name, ready)
	return p
}

// answers waits until the URL is answered, for as long as the program runs.
func (p *foreign) answers(t *testing.T, name, ready string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ready, http.NoBody)
	require.NoError(t, err)
	client := http.Client{Timeout: patience}
	ok := becomes(2*providerPatience, 100*time.Millisecond, func() bool {
		select {
		case <-p.done:
			require.Fail(t, name+" ended: "+p.cmd.ProcessState.String())
		default:
		}
		resp, err := client.Do(req)
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	require.True(t, ok, "%s does not answer", name)
}

func (p *foreign) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // its children, too
	<-p.done
}

// signal sends a signal. A provider that is to stop has stopped when signal returns: SIGSTOP does not do that at once.
func (p *foreign) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, syscall.Kill(-p.cmd.Process.Pid, s))
	if s != syscall.SIGSTOP {
		return
	}
	require.True(t, becomes(patience, time.Millisecond, p.stopped), "the provider does not stop")
}

// stopped reports whether no thread of the provider's processes runs any more.
func (p *foreign) stopped() bool {
	threads, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/stat")
	for _, path := range threads {
		line, err := os.ReadFile(path)
		_, after, ok := strings.Cut(string(line), ") ") // behind the name: the state, the parent, the group
		fields := strings.Fields(after)
		if err != nil || !ok || len(fields) < 3 || fields[2] != strconv.Itoa(p.cmd.Process.Pid) {
			continue
		}
		if fields[0] != "T" && fields[0] != "Z" {
			return false
		}
	}
	return true
}

// fleet are two nodes with one Redis, of which the first is where the provider sends browsers, and the second where it posts.
type fleet struct {
	*testing.T
	first, second string
	nodes         []*process
}

// openFleet starts the nodes at these addresses, for a client that is called coatcheck, with the secret that the providers know.
func openFleet(t *testing.T, addresses [2]string, issuer string, more ...string) *fleet {
	t.Helper()
	dir, redis := t.TempDir(), redistest.Start(t)
	secret, keys := filepath.Join(dir, "secret"), filepath.Join(dir, "keys")
	require.NoError(t, os.WriteFile(secret, []byte("canary-secret\n"), 0o600))
	require.NoError(t, os.WriteFile(keys, []byte(strings.Repeat("k", 32)+"\n"), 0o600))
	f := &fleet{T: t, first: "http://" + addresses[0], second: "http://" + addresses[1]}
	for _, address := range addresses {
		f.nodes = append(f.nodes, start(t, append([]string{
			"--login=oidc", "--oidc-issuer=" + issuer, "--oidc-client-id=coatcheck", "--oidc-client-secret-file=" + secret, "--oidc-external-url=" + f.first,
			"--oidc-state-key-file=" + keys, "--listen=" + address, "--cookie-name=sid", "--cookie-secure=false", "--store=" + redis.URL(),
		}, more...)...))
	}
	return f
}

var (
	formOf   = regexp.MustCompile(`(?s)<form[^>]*\saction="([^"]*)"[^>]*>(.*?)</form>`)
	hiddenOf = regexp.MustCompile(`<input[^>]*type="hidden"[^>]*>`)
	nameOf   = regexp.MustCompile(`\sname="([^"]*)"`)
	valueOf  = regexp.MustCompile(`\svalue="([^"]*)"`)
)

// submit fills in the page's form.
func (f *fleet) submit(c *http.Client, page answered, fields url.Values) answered {
	f.Helper()
	form := formOf.FindStringSubmatch(page.text)
	require.NotNil(f, form, "no form at %s: %d\n%s", page.url, page.status, page.text)
	for _, input := range hiddenOf.FindAllString(form[2], -1) {
		name, value := nameOf.FindStringSubmatch(input), valueOf.FindStringSubmatch(input)
		if name != nil && value != nil && !fields.Has(name[1]) {
			fields.Set(name[1], html.UnescapeString(value[1]))
		}
	}
	action, err := page.url.Parse(html.UnescapeString(form[1]))
	require.NoError(f, err)
	return f.do(c, http.MethodPost, action.String(), fields)
}

// answered is the answer behind all redirects that a browser followed.
type answered struct {
	status   int
	url      *url.URL // that was asked
	location string
	text     string
}

func (f *fleet) do(c *http.Client, method, address string, form url.Values) answered {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), method, address, strings.NewReader(form.Encode()))
	require.NoError(f, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := c.Do(req)
	require.NoError(f, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(f, err)
	require.NoError(f, resp.Body.Close())
	return answered{resp.StatusCode, resp.Request.URL, resp.Header.Get("Location"), string(body)}
}

func (f *fleet) get(c *http.Client, address string) answered {
	f.Helper()
	return f.do(c, http.MethodGet, address, nil)
}

// tryLogin logs a browser in at the second node, whose callback the first one takes, with the name and the password where the
// provider asks for them. It returns the last answer, which is that of userinfo where all went well.
func (f *fleet) tryLogin(c *http.Client, who url.Values) answered {
	f.Helper()
	page := f.get(c, f.second+"/auth/oidc/login?rd=/auth/userinfo")
	if page.status != http.StatusOK || !strings.Contains(page.text, "<form") {
		return page
	}
	return f.submit(c, page, maps.Clone(who))
}

func (f *fleet) login(who url.Values) *http.Client {
	f.Helper()
	c := browser(f.T)
	page := f.tryLogin(c, who)
	require.Equal(f, http.StatusOK, page.status, page.text)
	require.Contains(f, page.text, `"sub"`)
	return c
}

// callback is a login up to where the provider sends the browser back.
func (f *fleet) callback(who url.Values) (c *http.Client, address string) {
	f.Helper()
	c = browser(f.T)
	c.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if req.URL.Path == "/auth/oidc/callback" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	page := f.tryLogin(c, who)
	require.Contains(f, page.location, "/auth/oidc/callback", page.text)
	return c, page.location
}

// live reports whether the browser has a live session at both nodes, and requires that they agree within a moment.
func (f *fleet) live(c *http.Client) bool {
	f.Helper()
	var at [2]bool
	require.True(f, becomes(patience, 20*time.Millisecond, func() bool {
		for i, base := range []string{f.first, f.second} {
			at[i] = strings.Contains(f.get(c, base+"/auth/me").text, `"authenticated":true`)
		}
		return at[0] == at[1]
	}), "the nodes do not agree")
	return at[0]
}

// ends requires that the browser's session ends at both nodes.
func (f *fleet) ends(c *http.Client, why string) {
	f.Helper()
	require.True(f, becomes(patience, 50*time.Millisecond, func() bool { return !f.live(c) }), why)
}

// comesBack requires that somebody can log in again before long, without a restart.
func (f *fleet) comesBack(who url.Values) {
	f.Helper()
	var last answered
	ok := becomes(providerPatience, time.Second, func() bool {
		last = f.tryLogin(browser(f.T), who)
		return last.status == http.StatusOK && strings.Contains(last.text, `"sub"`)
	})
	require.True(f, ok, "%d %s", last.status, last.text)
}

// away requires that a login fails with 503 while the provider does not answer, and that a session goes on.
func (f *fleet) away(c *http.Client, who url.Values, stop, goOn func()) {
	f.Helper()
	waiting, address := f.callback(who)
	stop()
	page := f.get(waiting, address)
	assert.Equal(f, http.StatusServiceUnavailable, page.status)
	assert.Contains(f, page.text, "oidc_unavailable")
	assert.True(f, f.live(c), "sessions go on")
	assert.Equal(f, http.StatusOK, f.get(c, f.first+"/auth/userinfo").status)
	goOn()
	f.comesBack(who)
	assert.True(f, f.live(c))
}

// browser is a person's, which takes cookies that are Secure on loopback, as browsers do.
func browser(t *testing.T) *http.Client {
	t.Helper()
	c := person(t)
	c.Transport = secureOnLoopback{c.Transport}
	return c
}

type secureOnLoopback struct{ http.RoundTripper }

func (s secureOnLoopback) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(req)
	if err == nil {
		for i, line := range resp.Header["Set-Cookie"] {
			resp.Header["Set-Cookie"][i] = strings.Replace(line, ";Secure", "", 1)
		}
	}
	return resp, err
}
