//go:build real

package browsertest_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"
	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// program runs until the test ends.
func program(t *testing.T, address string, env []string, name string, args ...string) {
	t.Helper()
	said := new(testoutput.Buffer)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), said, said
	// Killed, nginx would leave its workers behind, which hold the output open.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, said)
		}
	})
	require.Eventually(t, func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		return err == nil && c.Close() == nil
	}, patience, 20*time.Millisecond, "%s does not listen", name)
}

// startDex builds and starts dex, with one person whose password is "password", and one client.
func startDex(t *testing.T, external, backChannel string) (issuer string) {
	t.Helper()
	dir, address := t.TempDir(), testport.Address(t)
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../tools/dex", "-o", filepath.Join(dir, "dex"), "github.com/dexidp/dex/cmd/dex")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	issuer = "http://" + address + "/dex"
	config := fmt.Sprintf(`
issuer: %s
storage: {type: memory}
web: {http: %q}
oauth2: {skipApprovalScreen: true}
sessions: {}
staticClients:
  - {id: coatcheck, name: coatcheck, secret: canary-secret, redirectURIs: ['%s/auth/oidc/callback'], postLogoutRedirectURIs: ['%s/auth/login'], backchannelLogoutURI: '%s/auth/oidc/backchannel-logout'}
enablePasswordDB: true
staticPasswords:
  - {email: ann@example.com, hash: "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W", username: ann, name: Ann, emailVerified: true, groups: [team-a], userID: "08a8684b"}
`, issuer, address, external, external, backChannel)
	file := filepath.Join(dir, "dex.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	program(t, address, []string{"DEX_SESSIONS_ENABLED=true"}, filepath.Join(dir, "dex"), "serve", file)
	return issuer
}

// guard is nginx in front of an application, with a page for everybody who is logged in and one for each of two groups.
func guard(t *testing.T, address, coatcheck, app string) {
	t.Helper()
	dir := t.TempDir()
	location := func(path, rule string) string {
		return fmt.Sprintf(`
    location = /ask%[2]s { internal; proxy_pass http://%[3]s/auth/verify%[4]s; proxy_pass_request_body off; proxy_set_header Content-Length ""; }
    location %[1]s {
      auth_request /ask%[2]s;
      auth_request_set $user $upstream_http_remote_user;
      auth_request_set $groups $upstream_http_remote_groups;
      error_page 401 = @login;
      proxy_set_header Remote-User $user;
      proxy_set_header Remote-Groups $groups;
      proxy_pass http://%[5]s;
    }`, path, strings.ReplaceAll(path, "/", "-"), coatcheck, rule, app)
	}
	config := fmt.Sprintf(`
daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  proxy_set_header Host $http_host;
  server {
    listen %[2]s;
    location /auth/ { proxy_pass http://%[3]s; }
    location @login { return 302 /auth/login?rd=$request_uri; }%[4]s%[5]s%[6]s
  }
}`, dir, address, coatcheck, location("/private", ""), location("/team-a", "?group=team-a"), location("/admins", "?group=admins"))
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	name, err := exec.LookPath("nginx")
	if err != nil {
		name = "/usr/sbin/nginx"
	}
	program(t, address, nil, name, "-c", file, "-p", dir)
}

// From a guarded page behind nginx to dex and back, as a person does it: the query survives, one group opens one page and not another,
// signing out at dex ends the session here.
func TestLoginAtDex(t *testing.T) {
	front := testport.Address(t)
	external := "http://" + front
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "You are %s of %s at %s", r.Header.Get("Remote-User"), r.Header.Get("Remote-Groups"), r.URL)
	}))
	t.Cleanup(app.Close)
	issuer := startDex(t, external, external)
	provider, err := oidc.New(oidc.Options{
		Issuer: issuer, ClientID: "coatcheck", Secret: func() string { return "canary-secret" }, ExternalURL: external, StateKeys: oidc.RandomStateKey(),
		Scopes: []string{"openid", "profile", "email", "groups"}, RemoteUser: "email",
	})
	require.NoError(t, err)
	t.Cleanup(provider.Close)
	for _, f := range provider.Examine(t.Context()) {
		assert.False(t, f.Bad, "%s: %s", f.About, f.Text)
	}
	s := servePlain(t, func(cfg *server.Config) {
		cfg.Login, cfg.OIDC = login.Provider{}, provider
		cfg.Cookie.Name, cfg.Cookie.Insecure = "sid", true
	})
	guard(t, front, "127.0.0.1:"+s.port, strings.TrimPrefix(app.URL, "http://"))

	b := newProfile(t)
	b.visit(external + "/private/page?x=1")
	b.until("!!document.getElementById('provider')")
	b.shoot("login-provider")
	eval[bool](b, "document.getElementById('provider').click() || true")
	b.types("input[name=login]", "ann@example.com")
	b.types("input[name=password]", "password\r")
	b.sees("You are ann@example.com of team-a at /private/page?x=1")
	b.visit(external + "/team-a?y")
	b.sees("You are ann@example.com of team-a at /team-a?y")
	b.visit(external + "/admins")
	b.sees("403 Forbidden")
	b.visit(external + "/auth/login?rd=/private")
	b.sees("You are ann@example.com of team-a at /private")

	b.visit(external + "/auth/devices")
	b.press("Sign out")
	b.sees("sign out there too")
	b.visit(external + "/auth/oidc/login?rd=/private")
	b.sees("You are ann@example.com of team-a at /private")

	b.visit(provider.EndSessionURL(t.Context()))
	b.until(`!!document.querySelector('form button, input[type=submit]') || location.pathname === "/auth/login"`)
	eval[bool](b, `(location.pathname === "/auth/login" || document.querySelector('form button, input[type=submit]').click()) || true`)
	require.Eventually(t, func() bool {
		return eval[bool](b.another().at(external+"/auth/me"), "document.body.innerText.includes('\"authenticated\":false')")
	}, patience, 200*time.Millisecond, "dex has told, and the session has ended")
}

// at is the tab on another page.
func (b *tab) at(url string) *tab {
	b.Helper()
	b.visit(url)
	return b
}

// Where the login is too old to end others, the page leads to one that counts: after a sign-out a provider with single sign-on would let
// the person in without asking for anything.
func TestPageSignsInAnew(t *testing.T) {
	p := oidctest.New(t)
	front := testport.Address(t)
	external := "http://" + front
	provider, err := oidc.New(oidc.Options{
		Issuer: p.URL, ClientID: oidctest.ClientID, Secret: func() string { return oidctest.Secret }, ExternalURL: external, StateKeys: oidc.RandomStateKey(),
	})
	require.NoError(t, err)
	t.Cleanup(provider.Close)
	s := servePlain(t, func(cfg *server.Config) {
		cfg.Login, cfg.OIDC, cfg.ReauthWithin = login.Provider{}, provider, 5*time.Minute
		cfg.Cookie.Name, cfg.Cookie.Insecure = "sid", true
	})
	guard(t, front, "127.0.0.1:"+s.port, front)
	authTime := func(at time.Time) {
		p.Edit(func(b *oidctest.Behaviour) { b.Token = func(c map[string]any) { c["auth_time"] = at.Unix() } })
	}

	b := newProfile(t)
	other := newProfile(t)
	other.visit(external + "/auth/oidc/login")
	other.sees("Signed in as sub-ann")
	authTime(time.Now().Add(-24 * time.Hour))
	b.visit(external + "/auth/oidc/login")
	b.sees("Signed in as sub-ann")
	const anew = "document.getElementById('anew')"
	assert.False(t, eval[bool](b, anew+".checkVisibility()"))
	b.confirm("End all other sessions", "End the other session?")
	b.sees("Sign in again; if that fails, sign out and sign in again. Then try once more.")
	assert.True(t, eval[bool](b, anew+".checkVisibility()"))
	authTime(time.Now())
	eval[bool](b, anew+".click() || true")
	b.until("!" + anew + "?.checkVisibility() && document.body.innerText.includes('Signed in as sub-ann')")
	b.confirm("End all other sessions", "End the other session?")
	b.sees("1 other session was ended.")
}
