//go:build real

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
)

// buildDex returns the path of dex.
func buildDex(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dex")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../tools/dex", "-o", path, "github.com/dexidp/dex/cmd/dex")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// dexConfig is a configuration with two people, whose password is "password". dex keeps everything in memory, so that
// it has other keys after a new start.
const dexConfig = `
issuer: %[1]s
storage: {type: memory}
web: {http: %[2]q}
oauth2: {skipApprovalScreen: true}
sessions: {}
staticClients:
  - {id: coatcheck, name: coatcheck, secret: canary-secret, redirectURIs: ['%[3]s/auth/oidc/callback'], postLogoutRedirectURIs: ['%[3]s/auth/login'], backchannelLogoutURI: '%[4]s/auth/oidc/backchannel-logout'}
enablePasswordDB: true
staticPasswords:
  - {email: ann@example.com, hash: "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W", username: ann, name: Ann, emailVerified: true, groups: [team-a], userID: "08a8684b"}
  - {email: bob@example.com, hash: "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W", username: bob, name: Bob, emailVerified: true, userID: "08a8684c"}
`

// dex as the provider of two nodes with one Redis: it is started after them, stops answering, answers again, and comes back with other keys.
func TestDexAndTwoNodes(t *testing.T) {
	t.Parallel()
	program, address, addresses := buildDex(t), testport.Address(t), [2]string{testport.Address(t), testport.Address(t)}
	issuer := "http://" + address + "/dex"
	f := openFleet(t, addresses, issuer, "--oidc-scopes=openid profile email groups")
	for _, base := range []string{f.first, f.second} {
		assert.Equal(t, http.StatusServiceUnavailable, f.get(browser(t), base+"/auth/oidc/login").status, "no discovery document")
	}
	config := filepath.Join(t.TempDir(), "dex.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, dexConfig, issuer, address, f.first, f.second), 0o600))
	run := func() *foreign {
		return startForeign(t, issuer+"/.well-known/openid-configuration", []string{"DEX_SESSIONS_ENABLED=true"}, program, "serve", config)
	}
	dex := run()
	who := func(name string) url.Values {
		return url.Values{"login": {name + "@example.com"}, "password": {"password"}}
	}
	f.comesBack(who("ann"))

	ann, bob := f.login(who("ann")), f.login(who("bob"))
	require.True(t, f.live(ann))
	for _, base := range []string{f.first, f.second} {
		assert.Contains(t, f.get(ann, base+"/auth/userinfo").text, `"email":"ann@example.com","groups":["team-a"]`)
		assert.Equal(t, http.StatusOK, f.get(ann, base+"/auth/verify?group=team-a").status)
		assert.Equal(t, http.StatusForbidden, f.get(ann, base+"/auth/verify?group=admins").status)
		assert.Equal(t, http.StatusForbidden, f.get(bob, base+"/auth/verify?group=team-a").status)
	}
	assert.Equal(t, http.StatusNoContent, f.do(ann, http.MethodPost, f.second+"/auth/logout", nil).status)
	f.ends(ann, "signed out at the other node")

	ann = f.login(who("ann"))
	end := f.get(ann, issuer+"/logout?client_id=coatcheck&post_logout_redirect_uri="+url.QueryEscape(f.first+"/auth/login"))
	if end.url.Path != "/auth/login" {
		f.submit(ann, end, url.Values{})
	}
	f.ends(ann, "dex has told the second node")
	assert.True(t, f.live(bob))

	f.away(bob, who("ann"), func() { dex.signal(t, syscall.SIGSTOP) }, func() { dex.signal(t, syscall.SIGCONT) })
	f.away(bob, who("ann"), func() { dex.kill() }, func() { dex = run() })
}
