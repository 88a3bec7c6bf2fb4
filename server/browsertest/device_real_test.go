//go:build real

package browsertest_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/server"
)

// anns returns so many answers to Ann.
func anns(times int) []string {
	return slices.Repeat([]string{"ann"}, times)
}

// A browser with a device from the login to the logout: requests at once after the token's end, a copy of the cookie, another
// tab, and the logout in one of two tabs.
func TestDeviceBoundSession(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		b.isBound()
		assert.Equal(t, anns(4), b.atOnce(4))
		b.expire()
		assert.Equal(t, anns(4), b.atOnce(4), "four requests after the token's end")
		assert.Equal(t, 1, n.events("device_proved"), "one refresh for all")

		copied := b.token()
		assert.Contains(t, n.asCopy(copied), `"user_id":"ann"`)
		n.clock.step(tooOld)
		assert.Contains(t, n.asCopy(copied), `"user_id":null`, "a copy")
		b.at("/auth/me") // with the same token: it is sent to itself, and renews on the way
		b.sees(`"user_id":"ann"`)
		assert.Equal(t, 2, n.events("device_proved"))
		assert.NotEqual(t, copied, b.token())
		assert.Contains(t, n.asCopy(b.token()), `"user_id":"ann"`)
		n.clock.step(20 * time.Second)
		assert.Contains(t, n.asCopy(copied), `"user_id":null`, "a copy, after the renewal")

		b.at("/auth/devices")
		b.expire()
		two := b.anotherTab()
		two.at("/auth/me")
		two.sees(`"user_id":"ann"`)
		assert.Equal(t, 3, n.events("device_proved"), "a navigation in another tab")
		two.at("/auth/devices")

		last := b.token()
		status, _ := b.ask("POST", "/auth/logout")
		assert.Equal(t, 204, status)
		assert.Empty(t, b.token())
		for _, tab := range []*deviceBrowser{b, two, b} {
			assert.Empty(t, tab.me(), "it does not come back")
		}
		assert.Contains(t, n.asCopy(last), `"user_id":null`)
		assert.Equal(t, 3, n.events("device_proved"))
	})
}

// A second user logs in in the same browser, with and without the first one's token, and while refreshes fail: neither ends up
// in the other's session.
func TestSecondUserOfADevice(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		b.isBound()
		b.signIn("bob")
		b.expire()
		assert.Equal(t, "bob", b.me())

		b.expire()
		n.trouble.down.Store(true) // refreshes answer 503
		assert.Equal(t, 429, b.statusOfMe(), "nobody takes the browser for signed out")
		n.trouble.down.Store(false)
		b.signIn("ann")
		for range 3 {
			assert.Equal(t, "ann", b.me())
			b.expire()
		}
		assert.Equal(t, "ann", b.me())
	})
}

// While refreshes answer 503, a user who was renewed too late logs in again: the login is not held up, and wins.
func TestLoginWhileRefreshesFail(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		f := n.front()
		b.isBound()
		f.refreshesAnswer(503)
		b.expire()
		assert.Equal(t, 429, b.statusOfMe())
		b.loginAs("bob")
		assert.Equal(t, "bob", b.me())
		f.refreshesAnswer(0)
		n.waitsBound(2)
		for range 3 {
			b.expire()
			assert.Equal(t, "bob", b.waitsForMe())
		}
	})
}

// While refreshes fail nobody is signed out, and afterwards the session goes on.
func TestRefreshesThatFail(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		b.isBound()
		b.expire()
		n.trouble.down.Store(true)
		assert.Equal(t, 429, b.statusOfMe())
		b.at("/auth/devices")
		b.sees("Your browser could not renew your session yet. Nothing has changed.")
		n.trouble.down.Store(false)
		assert.Equal(t, "ann", b.waitsForMe())
	})
}

// A logout while refreshes fail either ends the session, or says that it could not: a session that was signed out of does not
// come back when refreshes succeed again.
func TestLogoutWhileRefreshesFail(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		f := n.front()
		b.isBound()
		last := b.token()
		f.refreshesAnswer(503)
		status, _ := b.ask("POST", "/auth/logout")
		assert.Equal(t, 204, status, "with the token")
		assert.Contains(t, n.asCopy(last), `"user_id":null`)
		f.refreshesAnswer(0)
		assert.Empty(t, b.waitsForMe())

		b.signIn("bob")
		f.refreshesAnswer(503)
		b.expire()
		status, _ = b.ask("POST", "/auth/logout")
		assert.Equal(t, 429, status, "without it")
		f.refreshesAnswer(0)
		assert.Equal(t, "bob", b.waitsForMe())
		status, _ = b.ask("POST", "/auth/logout")
		assert.Equal(t, 204, status)
		for range 3 {
			assert.Empty(t, b.me())
		}
	})
}

// The answer of a registration is lost, and later that of a refresh: nobody is signed out.
func TestLostAnswers(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		b.at("/auth/devices")
		n.trouble.losing.Store(1)
		b.loginAs("ann")
		b.waits(func() bool { return n.trouble.losing.Load() == 0 })
		b.waits(func() bool { return b.said.count("created ") == 1 })
		assert.Zero(t, b.said.count("created Success"))
		assert.Equal(t, "ann", b.me())
		n.clock.step(tooOld)
		assert.Equal(t, "ann", b.me(), "it does not know that its session is bound, and is not signed out")

		b.signIn("bob")
		n.trouble.losing.Store(1)
		b.expire()
		_ = b.statusOfMe()
		assert.Zero(t, n.trouble.losing.Load())
		assert.Equal(t, "bob", b.waitsForMe())
	})
}

// A private window has keys and cookies of its own.
func TestDeviceInAPrivateWindow(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		private := n.watched(open(b.ctx, t, chromedp.WithNewBrowserContext()))
		b.isBound()
		private.at("/auth/devices")
		private.signIn("bob")
		b.expire()
		private.expire()
		assert.Equal(t, "ann", b.me())
		assert.Equal(t, "bob", private.me())
		assert.Equal(t, 2, n.events("device_proved"))
	})
}

// A link from another site arrives with the session. The images, requests, frames and forms of its pages cause no refresh, and
// arrive without a session, as they do where the token is there: its cookie is Lax.
func TestLinkFromAnotherSite(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		f := n.front()
		b.isBound()
		b.expire()
		b.elsewhere()
		for path, script := range map[string]string{
			"/app/picture":   `new Promise((done) => { const i = new Image(); i.onload = i.onerror = () => done(true); i.src = %q; })`,
			"/auth/userinfo": `fetch(%q, {mode: "no-cors", credentials: "include"}).then(() => true, () => true)`,
			"/app/who": `new Promise((done) => {
				const f = document.createElement("iframe"); f.onload = () => done(true); f.src = %q; document.body.append(f);
			})`,
			"/app/form": `new Promise((done) => {
				const f = document.createElement("iframe"); f.name = "below"; document.body.append(f);
				const form = document.createElement("form"); form.method = "post"; form.target = "below"; form.action = %q;
				document.body.append(form); f.onload = () => done(true); form.submit();
			})`,
		} {
			_ = eval[bool](b.tab, fmt.Sprintf(script, n.url("app.test", path)))
			b.waits(func() bool { return f.arrived(path) > 0 })
			assert.Zero(t, n.events("device_proved"), path)
		}
		b.leaves(fmt.Sprintf(`location.href = %q`, n.url("app.test", "/auth/me")), `"user_id":"ann"`)
		assert.Equal(t, 1, n.events("device_proved"))
	})
}

// Without the option nothing is bound, and the browser notices nothing.
func TestDeviceBoundSessionsOff(t *testing.T) {
	everywhereWith(t, func(cfg *server.Config) { cfg.DBSC = false }, func(t *testing.T, n *nodes, b *deviceBrowser) {
		b.at("/auth/devices")
		b.loginAs("ann")
		for range 3 {
			assert.Equal(t, "ann", b.me())
		}
		assert.Zero(t, n.events("device_bound"))
		n.clock.step(tooOld)
		assert.Equal(t, "ann", b.me())
		assert.Len(t, b.cookies(), 1)
		assert.Zero(t, b.said.count(""), b.said)
	})
}
