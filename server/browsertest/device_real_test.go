//go:build real

package browsertest_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server"
)

var allAnn = []string{"ann", "ann", "ann", "ann"}

// A browser with a device on the memory store, and with two nodes on one Redis: from the login to the logout.
func TestDeviceBoundSession(t *testing.T) {
	for name, stores := range map[string]func(t *testing.T) []coatcheck.Store{
		"memory": func(t *testing.T) []coatcheck.Store { return []coatcheck.Store{memory(t)} },
		"two nodes on one Redis": func(t *testing.T) (all []coatcheck.Store) {
			redis, prefix := redistest.Start(t), rand.Text()+":"
			for range 2 {
				s, err := redisstore.New(t.Context(), redisstore.Options{URL: redis.URL(), Prefix: prefix, Timeout: 3 * time.Second})
				require.NoError(t, err)
				t.Cleanup(func() { assert.NoError(t, s.Close()) })
				all = append(all, s)
			}
			return all
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := serveNodes(t, nil, stores(t)...)
			b, _ := newDeviceBrowser(n, t.TempDir())
			page := n.url("app.test", "/auth/devices")
			b.visit(page)
			b.loginAs("ann")
			n.waitsBound(1)
			assert.Equal(t, allAnn, b.fourAtOnce())

			b.expire(page)
			assert.Equal(t, allAnn, b.fourAtOnce(), "four requests after the token's end")
			assert.Equal(t, 1, n.events("device_proved"), "one refresh for all")

			copied := b.token()
			assert.Contains(t, n.asCopy(copied), `"user_id":"ann"`)
			n.clock.step(tooOld)
			assert.Contains(t, n.asCopy(copied), `"user_id":null`, "a copy")
			b.visit(n.url("app.test", "/auth/me")) // with the same token: it is sent to itself, and renews on the way
			b.sees(`"user_id":"ann"`)
			assert.Equal(t, 2, n.events("device_proved"))
			assert.NotEqual(t, copied, b.token())
			assert.Contains(t, n.asCopy(b.token()), `"user_id":"ann"`)
			n.clock.step(20 * time.Second)
			assert.Contains(t, n.asCopy(copied), `"user_id":null`, "a copy, after the renewal")

			b.visit(page)
			b.expire(page)
			two := b.anotherTab()
			two.visit(n.url("app.test", "/auth/me"))
			two.sees(`"user_id":"ann"`)
			assert.Equal(t, 3, n.events("device_proved"), "a navigation in another tab")

			last := b.token()
			status, _ := b.ask("POST", "/auth/logout")
			assert.Equal(t, 204, status)
			assert.Empty(t, b.token())
			assert.Empty(t, b.me())
			assert.Empty(t, b.me(), "and it does not come back")
			assert.Contains(t, n.asCopy(last), `"user_id":null`)
			assert.Equal(t, 3, n.events("device_proved"))
		})
	}
}

// anotherTab opens one more tab of the browser's own profile.
func (b *tab) anotherTab() *tab {
	b.Helper()
	ctx, end := chromedp.NewContext(b.ctx)
	b.Cleanup(end)
	require.NoError(b, chromedp.Do(ctx))
	return &tab{b.T, ctx}
}

// A second user logs in in the same browser, with and without the first one's token: neither ends up in the other's session.
func TestSecondUserOfADevice(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newDeviceBrowser(n, t.TempDir())
	page := b.bound(n)
	b.loginAs("bob")
	n.waitsBound(2)
	require.Equal(t, "bob", b.me())
	b.expire(page)
	assert.Equal(t, "bob", b.me())

	b.expire(page)
	n.down[0].down.Store(true) // refreshes answer 503
	assert.Equal(t, 429, b.statusOfMe(), "nobody takes the browser for signed out")
	n.down[0].down.Store(false)
	b.loginAs("ann")
	n.waitsBound(3)
	for range 3 {
		assert.Equal(t, "ann", b.me())
		b.expire(page)
	}
	assert.Equal(t, "ann", b.me())
}

// bound signs ann in on the page of her devices, whose address it returns, and waits until the device has bound her session.
func (b *tab) bound(n *nodes) (page string) {
	b.Helper()
	page = n.url("app.test", "/auth/devices")
	b.visit(page)
	b.loginAs("ann")
	n.waitsBound(1)
	require.Equal(b, "ann", b.me())
	return page
}

func (b *tab) statusOfMe() int {
	b.Helper()
	status, _ := b.ask("GET", "/auth/me")
	return status
}

// While refreshes fail nobody is signed out, and afterwards the session goes on.
func TestRefreshesThatFail(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newDeviceBrowser(n, t.TempDir())
	page := b.bound(n)
	b.expire(page)
	n.down[0].down.Store(true)
	assert.Equal(t, 429, b.statusOfMe())
	status, _ := b.ask("POST", "/auth/logout")
	assert.Equal(t, 429, status, "it could not sign out, and says so")
	n.down[0].down.Store(false)
	deadline := time.Now().Add(patience)
	for b.statusOfMe() != 200 {
		require.Less(t, time.Now(), deadline)
		time.Sleep(200 * time.Millisecond)
	}
	assert.Equal(t, "ann", b.me())
}

// A browser that is closed and started again goes on with the session.
func TestDeviceStartsAgain(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	dir := t.TempDir()
	b, end := newDeviceBrowser(n, dir)
	page := b.bound(n)
	time.Sleep(45 * time.Second) // the browser writes its sessions half a minute later
	end()
	b, _ = newDeviceBrowser(n, dir)
	b.expire(page)
	n.clock.step(tooOld)
	b.visit(page)
	assert.Equal(t, "ann", b.me())
	assert.Equal(t, 1, n.events("device_proved"))
}

// Requests of every kind wait for the renewal, and arrive with the session.
func TestKindsOfRequests(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newDeviceBrowser(n, t.TempDir())
	page := b.bound(n)
	for i, request := range []string{
		`fetch("/auth/refresh", {method: "POST", body: "x".repeat(12000)}).then((r) => r.text())`,
		`new Promise((done, failed) => {
			const events = new EventSource("/auth/watch");
			events.addEventListener("session", (e) => { events.close(); done(e.data) });
			events.onerror = failed;
		})`,
		`fetch("/auth/me", {keepalive: true}).then((r) => r.text())`,
		`new Promise((done) => {
			const request = new XMLHttpRequest();
			request.onload = () => done(request.responseText);
			request.open("GET", "/auth/me");
			request.send();
		})`,
	} {
		b.expire(page)
		assert.Contains(t, eval[string](b, request), `"user_id":"ann"`, request)
		assert.Equal(t, i+1, n.events("device_proved"), request)
	}
	b.expire(page)
	b.do(chromedp.Navigate(n.url("app.test", "/auth/me")))
	b.sees(`"user_id":"ann"`)
}

// The answer of a registration is lost, and later that of a refresh: nobody is signed out.
func TestLostAnswers(t *testing.T) {
	losing := &loser{Store: memory(t)}
	n := serveNodes(t, nil, losing)
	b, _ := newDeviceBrowser(n, t.TempDir())
	page := n.url("app.test", "/auth/devices")
	b.visit(page)
	losing.swaps.Store(1)
	b.loginAs("ann")
	require.Eventually(t, func() bool { return losing.swaps.Load() == 0 }, patience, 20*time.Millisecond, "no registration came")
	assert.Equal(t, "ann", b.me())
	n.clock.step(tooOld)
	assert.Equal(t, "ann", b.me(), "it does not know that its session is bound, and is not signed out")

	b.loginAs("bob")
	n.waitsBound(1)
	require.Equal(t, "bob", b.me())
	losing.swaps.Store(1)
	b.expire(page)
	_ = b.statusOfMe()
	deadline := time.Now().Add(patience)
	for b.statusOfMe() != 200 {
		require.Less(t, time.Now(), deadline)
		time.Sleep(200 * time.Millisecond)
	}
	assert.Equal(t, "bob", b.me())
}

// loser loses the answers of its next Swaps, which happened.
type loser struct {
	coatcheck.Store
	swaps atomic.Int32
}

func (s *loser) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	err := s.Store.Swap(ctx, rec, old, now, cur)
	if err == nil && s.swaps.Load() > 0 {
		s.swaps.Add(-1)
		return coatcheck.ErrUnavailable
	}
	return err
}

// The browser has used up the signatures that it allows a site: its requests wait, and nobody takes it for signed out.
func TestQuotaOfSignatures(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newBrowserWith(n, t.TempDir(), "DeviceBoundSessions")
	page := b.bound(n)
	status := 200
	for range 12 {
		b.expire(page)
		if status = b.statusOfMe(); status != 200 {
			break
		}
	}
	assert.Equal(t, 429, status)
	assert.Positive(t, n.events("device_proved"))
	b.loginAs("bob") // a login waits for nothing
	assert.Equal(t, "bob", b.me())
}

// A private window has keys and cookies of its own.
func TestDeviceInAPrivateWindow(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newDeviceBrowser(n, t.TempDir())
	private := open(b.ctx, t, chromedp.WithNewBrowserContext())
	page := n.url("app.test", "/auth/devices")
	for i, tab := range []*tab{b, private} {
		tab.visit(page)
		tab.loginAs([]string{"ann", "bob"}[i])
		n.waitsBound(i + 1)
	}
	for i, tab := range []*tab{b, private} {
		tab.expire(page)
		assert.Equal(t, []string{"ann", "bob"}[i], tab.me())
	}
}

// A link from another site arrives with the session; its images and requests cause no refresh.
func TestLinkFromAnotherSite(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newDeviceBrowser(n, t.TempDir())
	page := b.bound(n)
	b.expire(page)
	me := n.url("app.test", "/auth/me")
	b.elsewhere(n)
	_ = eval[bool](b, fmt.Sprintf(`fetch(%q, {mode: "no-cors", credentials: "include"}).then(() => true, () => true)`, n.url("app.test", "/auth/userinfo")))
	require.Eventually(t, func() bool { return strings.Contains(n.log.String(), `"route":"/auth/userinfo"`) }, patience, 20*time.Millisecond)
	assert.Zero(t, n.events("device_proved"))
	b.leaves(fmt.Sprintf("location.href = %q", me), `"user_id":"ann"`)
	assert.Equal(t, 1, n.events("device_proved"))
}

// Without the option nothing is bound, and the browser notices nothing.
func TestDeviceBoundSessionsOff(t *testing.T) {
	n := serveNodes(t, func(cfg *server.Config) { cfg.DBSC = false }, memory(t))
	b, _ := newDeviceBrowser(n, t.TempDir())
	b.visit(n.url("app.test", "/auth/devices"))
	b.loginAs("ann")
	for range 3 {
		assert.Equal(t, "ann", b.me())
	}
	assert.Zero(t, n.events("device_bound"))
	n.clock.step(tooOld)
	assert.Equal(t, "ann", b.me())
	assert.Len(t, b.cookies(), 1)
}
