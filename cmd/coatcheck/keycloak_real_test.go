//go:build real

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
)

// keycloak is a Keycloak with a realm "shop", in which ann is in team-a and bob is in no group; their password is "password".
type keycloak struct {
	*foreign
	*testing.T
	base string
}

// realm is what the administrator of a realm enters: the client, a claim for groups, and where Keycloak tells that a session has ended.
const realm = `{
	"realm": "shop", "enabled": true,
	"clients": [{
		"clientId": "coatcheck", "secret": "canary-secret", "redirectUris": ["%[1]s/auth/oidc/callback"],
		"attributes": {
			"backchannel.logout.url": "%[2]s/auth/oidc/backchannel-logout", "backchannel.logout.session.required": "true",
			"post.logout.redirect.uris": "%[1]s/auth/login"
		},
		"protocolMappers": [{
			"name": "groups", "protocol": "openid-connect", "protocolMapper": "oidc-group-membership-mapper",
			"config": {"claim.name": "groups", "full.path": "false", "id.token.claim": "true", "userinfo.token.claim": "true"}
		}]
	}],
	"groups": [{"name": "team-a"}],
	"users": [
		{"username": "ann", "enabled": true, "email": "ann@example.com", "emailVerified": true, "firstName": "Ann", "lastName": "A",
			"credentials": [{"type": "password", "value": "password"}], "groups": ["team-a"]},
		{"username": "bob", "enabled": true, "email": "bob@example.com", "emailVerified": true, "firstName": "Bob", "lastName": "B",
			"credentials": [{"type": "password", "value": "password"}]}
	]
}`

// startKeycloak starts the one that scripts/install-keycloak has set up. It keeps everything in memory.
func startKeycloak(t *testing.T, external, backChannel string) *keycloak {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	address := testport.Address(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	k := &keycloak{T: t, base: "http://" + address}
	k.foreign = startForeign(t, k.base+"/realms/master", []string{
		"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin", "JAVA_OPTS_KC_HEAP=-Xms64m -Xmx512m",
	}, filepath.Join(cache, "coatcheck", "tools", "keycloak", "bin", "kc.sh"), "start", "--optimized", "--cache=local", "--http-enabled=true", "--http-host=127.0.0.1",
		"--http-port="+port, "--hostname-strict=false")
	k.admin(http.MethodPost, "", json.RawMessage(fmt.Sprintf(realm, external, backChannel)), nil)
	return k
}

// admin asks Keycloak's admin API about the realm.
func (k *keycloak) admin(method, path string, body, into any) {
	k.Helper()
	form := url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"}}
	var token struct {
		Text string `json:"access_token"`
	}
	k.ask(http.MethodPost, "/realms/master/protocol/openid-connect/token", "application/x-www-form-urlencoded", "", strings.NewReader(form.Encode()), &token)
	text, err := json.Marshal(body)
	require.NoError(k, err)
	if path != "" {
		path = "/shop" + path
	}
	k.ask(method, "/admin/realms"+path, "application/json", "Bearer "+token.Text, bytes.NewReader(text), into)
}

func (k *keycloak) ask(method, path, kind, authorization string, body io.Reader, into any) {
	k.Helper()
	req, err := http.NewRequestWithContext(k.Context(), method, k.base+path, body)
	require.NoError(k, err)
	req.Header.Set("Content-Type", kind)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(k, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(k, err)
	require.NoError(k, resp.Body.Close())
	require.Less(k, resp.StatusCode, 300, "%s %s: %s", method, path, text)
	if into != nil {
		require.NoError(k, json.Unmarshal(text, into), "%s", text)
	}
}

// user returns the ID that Keycloak gave a user, which is the sub of its tokens.
func (k *keycloak) user(name string) string {
	k.Helper()
	var users []struct{ ID string }
	k.admin(http.MethodGet, "/users?exact=true&username="+name, nil, &users)
	require.Len(k, users, 1)
	return users[0].ID
}

// sessions returns the IDs of a user's sessions.
func (k *keycloak) sessions(user string) []string {
	k.Helper()
	var sessions []struct {
		ID string
	}
	k.admin(http.MethodGet, "/users/"+user+"/sessions", nil, &sessions)
	ids := make([]string, len(sessions))
	for i := range sessions {
		ids[i] = sessions[i].ID
	}
	return ids
}

// Keycloak as the provider of two nodes with one Redis.
func TestKeycloakAndTwoNodes(t *testing.T) {
	t.Parallel()
	addresses := [2]string{testport.Address(t), testport.Address(t)}
	k := startKeycloak(t, "http://"+addresses[0], "http://"+addresses[1])
	f := openFleet(t, addresses, k.base+"/realms/shop")
	who := func(name string) url.Values { return url.Values{"username": {name}, "password": {"password"}} }
	f.comesBack(who("bob")) // a realm that nobody has used yet may take longer than coatcheck waits
	ann, bob := f.login(who("ann")), f.login(who("bob"))
	id := k.user("ann")
	for _, base := range []string{f.first, f.second} {
		assert.JSONEq(t, `{"sub":"`+id+`","name":"Ann A","email":"ann@example.com","groups":["team-a"]}`, f.get(ann, base+"/auth/userinfo").text)
		assert.Equal(t, http.StatusOK, f.get(ann, base+"/auth/verify?group=team-a").status)
		assert.Equal(t, http.StatusForbidden, f.get(ann, base+"/auth/verify?group=admins").status)
		assert.Equal(t, http.StatusForbidden, f.get(bob, base+"/auth/verify?group=team-a").status)
	}

	before := k.sessions(id)
	require.Len(t, before, 1)
	second, third := f.login(who("ann")), f.login(who("ann"))
	k.admin(http.MethodDelete, "/sessions/"+before[0], nil, nil)
	f.ends(ann, "one session of Keycloak has ended, and the second node was told")
	assert.True(t, f.live(second))
	assert.True(t, f.live(third))
	k.admin(http.MethodPost, "/users/"+id+"/logout", nil, nil)
	f.ends(second, "all of the user's have")
	f.ends(third, "all of the user's have")
	assert.True(t, f.live(bob))

	ann = f.login(who("ann"))
	assert.Equal(t, http.StatusNoContent, f.do(ann, http.MethodPost, f.second+"/auth/logout", nil).status)
	f.ends(ann, "signed out at the other node")

	f.away(bob, who("ann"), func() { k.signal(t, syscall.SIGSTOP) }, func() { k.signal(t, syscall.SIGCONT) })

	k.admin(http.MethodPost, "/components", map[string]any{
		"name": "newer", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider", "config": map[string][]string{"priority": {"1000"}, "keySize": {"2048"}},
	}, nil)
	f.comesBack(who("ann"))
	assert.True(t, f.live(bob), "other keys end no session")
	require.Eventually(t, func() bool {
		ann := f.login(who("ann"))
		k.admin(http.MethodPost, "/users/"+id+"/logout", nil, nil)
		return !f.live(ann)
	}, providerPatience, time.Second, "a logout token by the new key, where the second node's keys are older than a minute")
}
