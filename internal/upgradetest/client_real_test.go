//go:build real

package upgradetest_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answer is what a server says of a session.
type answer struct {
	status int
	token  string // that Set-Cookie carries; empty for none
	view   struct {
		Authenticated bool   `json:"authenticated"`
		UserID        string `json:"user_id"`
		SessionID     string `json:"session_id"`
	}
	body string
}

// call sends a request with a token, "" for none, as a client that is no browser.
func (n *node) call(t *testing.T, method, url, token, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.AddCookie(&http.Cookie{Name: "coatcheck", Value: token})
	}
	if n.client.IsValid() {
		req.Header.Set("X-Forwarded-For", n.client.String())
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err, n.name)
	defer resp.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := answer{status: resp.StatusCode, body: string(text)}
	for _, c := range resp.Cookies() {
		a.token = c.Value
	}
	_ = json.Unmarshal(text, &a.view) // not every answer is a view
	return a
}

// login begins a session of the user, in the place of the token's.
func (n *node) login(t *testing.T, user, token string) answer {
	t.Helper()
	a := n.call(t, http.MethodPost, n.url+"/auth/login", token, `{"user_id":"`+user+`"}`)
	require.Equal(t, http.StatusOK, a.status, "%s: %s", n.name, a.body)
	require.NotEmpty(t, a.token)
	return a
}

func (n *node) me(t *testing.T, token string) answer {
	t.Helper()
	return n.call(t, http.MethodGet, n.url+"/auth/me", token, "")
}

// refuses waits until the token is anonymous: the node may have cached the record, and hears of the end of the session a moment
// later.
func (n *node) refuses(t *testing.T, token string) {
	t.Helper()
	assert.Eventually(t, func() bool {
		a := n.me(t, token)
		return a.status == http.StatusOK && !a.view.Authenticated
	}, patience, 5*time.Millisecond, n.name)
}

func (n *node) refresh(t *testing.T, token string) answer {
	t.Helper()
	a := n.call(t, http.MethodPost, n.url+"/auth/refresh", token, "")
	require.Equal(t, http.StatusOK, a.status, "%s: %s", n.name, a.body)
	return a
}

func (n *node) logout(t *testing.T, token string) {
	t.Helper()
	a := n.call(t, http.MethodPost, n.url+"/auth/logout", token, "")
	require.Equal(t, http.StatusNoContent, a.status, "%s: %s", n.name, a.body)
}

// sessions returns the current IDs of the user's sessions, which an administrator is shown, in ascending order.
func (n *node) sessions(t *testing.T, user string) []string {
	t.Helper()
	a := n.call(t, http.MethodGet, n.admin+"/admin/users/"+url.PathEscape(user)+"/sessions", "", "")
	require.Equal(t, http.StatusOK, a.status, "%s: %s", n.name, a.body)
	var list struct {
		Sessions []struct {
			SessionID string `json:"session_id"`
		} `json:"sessions"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &list))
	ids := map[string]bool{}
	for _, s := range list.Sessions {
		ids[s.SessionID] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// revoke ends all sessions of the user, or the one of that ID, as an administrator.
func (n *node) revoke(t *testing.T, user, id string) {
	t.Helper()
	path, want := "/admin/users/"+url.PathEscape(user)+"/sessions", http.StatusOK
	if id != "" {
		path, want = path+"/"+id, http.StatusNoContent
	}
	a := n.call(t, http.MethodDelete, n.admin+path, "", "")
	require.Equal(t, want, a.status, "%s: %s", n.name, a.body)
}
