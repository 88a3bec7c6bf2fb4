//go:build real

package browsertest_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsctest"
)

// asCopy returns what a client that has a copy of the cookie is told by me.
func (n *nodes) asCopy(token string) string {
	n.Helper()
	return n.asThief("GET", "/auth/me", "Cookie", "__Host-coatcheck="+token).body
}

// loot is what a thief gets: an answer, and the session cookie that it sets.
type loot struct {
	status      int
	body, token string
}

// asThief sends a request from elsewhere to a node, with these names and values of headers.
func (n *nodes) asThief(method, path string, head ...string) (got loot) {
	n.Helper()
	client := &http.Client{Transport: believing()}
	req, err := http.NewRequestWithContext(n.Context(), method, "https://127.0.0.1:"+n.direct+path, http.NoBody)
	require.NoError(n, err)
	for i := 0; i < len(head); i += 2 {
		req.Header.Add(head[i], head[i+1])
	}
	resp, err := client.Do(req)
	require.NoError(n, err)
	raw, err := io.ReadAll(resp.Body)
	require.NoError(n, err)
	require.NoError(n, resp.Body.Close())
	got = loot{status: resp.StatusCode, body: string(raw)}
	for _, c := range resp.Cookies() {
		if c.Name == "__Host-coatcheck" {
			got.token = c.Value
		}
	}
	return got
}

// thief has a copy of a browser's cookies, and a device of its own.
type thief struct {
	n           *nodes
	device      *dbsctest.Device
	token, name string
}

func (n *nodes) thief(b *deviceBrowser) *thief {
	n.Helper()
	h := &thief{n: n, device: dbsctest.NewDevice(), token: b.token(), name: b.name()}
	require.NotEmpty(n, h.token)
	require.NotEmpty(n, h.name)
	return h
}

// registers tries to bind the session to the thief's device.
func (h *thief) registers(challenge string) (status int) {
	h.n.Helper()
	got := h.n.asThief("POST", "/auth/dbsc/register", "Cookie", "__Host-coatcheck="+h.token+"; __Host-coatcheck-name="+h.name,
		"Secure-Session-Response", h.device.Registration(challenge))
	if got.token != "" {
		h.token = got.token
	}
	return got.status
}

// renews tries to renew the token with the thief's device.
func (h *thief) renews(challenge string) (status int) {
	h.n.Helper()
	return h.n.asThief("POST", "/auth/dbsc/refresh", "Cookie", "__Host-coatcheck-name="+h.name, "Sec-Secure-Session-Id", h.name,
		"Secure-Session-Response", h.device.Refresh(challenge)).status
}

// A thief who has copied the cookies of the login comes before the browser's registration, and does not know the challenge; and
// comes again after it, and knows the challenge. The browser binds the session, and goes on; the thief's copy ends.
func TestThiefRegisters(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		f := n.front()
		bind := f.hold("/auth/dbsc/register")
		b.at("/auth/devices")
		b.loginAs("ann")
		b.waits(func() bool { return f.arrived("/auth/dbsc/register") == 1 })
		h := n.thief(b)
		guess, err := coatcheck.Challenge{1}.AppendText([]byte(h.name + "."))
		require.NoError(t, err)
		assert.Equal(t, 400, h.registers(string(guess)), "before, with the cookies alone")
		bind()
		b.waits(func() bool { return b.said.count("created Success") == 1 })
		require.Equal(t, "ann", b.me())
		assert.Equal(t, 409, h.registers(f.offered()), "after")
		assert.Equal(t, 403, h.renews(f.offered()), "with another key")

		n.clock.step(tooOld)
		assert.Contains(t, n.asCopy(h.token), `"user_id":null`)
		b.expire()
		assert.Equal(t, "ann", b.me())
		assert.Equal(t, 1, n.events("device_proved"))
	})
}

// A thief who has the cookies and the challenge before the browser has registered gets the session, which is a limit of the
// protocol. The browser's own registration is refused, so that the session ends for it, and its next login ends the thief's.
func TestThiefRegistersFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		f := n.front()
		bind := f.hold("/auth/dbsc/register")
		b.at("/auth/devices")
		b.loginAs("ann")
		b.waits(func() bool { return f.arrived("/auth/dbsc/register") == 1 })
		h := n.thief(b)
		require.Equal(t, 200, h.registers(f.offered()))
		bind()
		b.waits(func() bool { return b.said.count("created ") == 1 })
		assert.Zero(t, b.said.count("created Success"), b.said)
		assert.Contains(t, n.log.String(), `"event":"device_proof_failed"`)
		assert.Equal(t, "ann", b.me(), "with the token of the login")
		assert.Contains(t, n.asCopy(h.token), `"user_id":"ann"`)
		n.clock.step(tooOld)
		assert.Empty(t, b.me())
		assert.Equal(t, 403, h.renews(f.offered()), "it lives, and waits for another challenge")
		b.loginAs("ann")
		assert.Equal(t, 404, h.renews(f.offered()), "it ended")
		b.waits(func() bool { return b.said.count("created Success") == 1 })
		b.expire()
		assert.Equal(t, "ann", b.me())
	})
}
