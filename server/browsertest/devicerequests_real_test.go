//go:build real

package browsertest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
)

// Requests of every kind wait for the renewal, and arrive with the session. Each is a script, and what its promise must come to.
var kindsOfRequests = map[string][2]string{
	"a POST of 200 kB": {`fetch("/app/large", {method: "POST", body: "x".repeat(200000)}).then((r) => r.text())`, `"user_id":"ann" 200000 bytes`},
	"EventSource": {`new Promise((done, failed) => {
		const events = new EventSource("/auth/watch");
		events.addEventListener("session", (e) => { events.close(); done(e.data) });
		events.onerror = failed;
	})`, `"user_id":"ann"`},
	"WebSocket": {`new Promise((done, failed) => {
		const socket = new WebSocket("wss://" + location.host + "/app/socket");
		socket.onmessage = (e) => { socket.close(); done(e.data) };
		socket.onerror = () => failed("no WebSocket");
	})`, `"user_id":"ann"`},
	"keepalive": {`fetch("/app/who", {keepalive: true}).then((r) => r.text())`, `"user_id":"ann"`},
	"XMLHttpRequest": {`new Promise((done) => {
		const request = new XMLHttpRequest();
		request.onload = () => done(request.responseText);
		request.open("GET", "/app/who");
		request.send();
	})`, `"user_id":"ann"`},
	"a frame": {`new Promise((done) => {
		const frame = document.createElement("iframe");
		frame.onload = () => done(frame.contentDocument.body.innerText);
		frame.src = "/app/who";
		document.body.append(frame);
	})`, `"user_id":"ann"`},
	"a service worker": {`fetch("/app/through").then((r) => r.text())`, `"user_id":"ann" 0 bytes by the worker`},
}

func TestKindsOfRequests(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		f := n.front()
		b.isBound()
		b.at("/app/page")
		_ = eval[bool](b.tab, `navigator.serviceWorker.register("/app/worker.js", {scope: "/app/"}).then(() => navigator.serviceWorker.ready).then(() => true)`)
		b.until(`navigator.serviceWorker.controller !== null`)
		proved := 0
		renews := func(kind string) {
			t.Helper()
			proved++
			assert.Equal(t, proved, n.events("device_proved"), kind)
		}
		for kind, request := range kindsOfRequests {
			b.expire()
			assert.Contains(t, eval[string](b.tab, request[0]), request[1], kind)
			renews(kind)
		}
		for path, script := range map[string]string{
			"/app/beacon":  `navigator.sendBeacon("/app/beacon", "x".repeat(1000))`,
			"/app/picture": `(new Image().src = "/app/picture", true)`,
		} {
			b.expire()
			require.True(t, eval[bool](b.tab, script), path)
			b.waits(func() bool { return f.sender(path) != "" })
			assert.Equal(t, "by ann", f.sender(path))
			renews(path)
		}
		b.expire()
		b.leaves(`document.querySelector("button").click()`, `"user_id":"ann" 17 bytes`)
		renews("a form")
		b.expire()
		b.at("/app/through")
		b.sees("by the worker")
		b.sees(`"user_id":"ann"`)
		renews("a navigation that a service worker answers")
		b.expire()
		b.at("/auth/me")
		b.sees(`"user_id":"ann"`)
		renews("a navigation")
	})
}

// sends starts so many requests for a path, which end later; ended returns the users of the answers. Their addresses differ,
// because the browser's cache lets one request for an address wait for another.
func (b *deviceBrowser) sends(name string, times int, path string) (ended func() []string) {
	b.Helper()
	_ = eval[bool](b.tab, fmt.Sprintf(`(window[%q] = Promise.all(Array.from({length: %d},
		(_, i) => fetch(%q + "?" + i).then((r) => r.text()).then(%s))), true)`, name, times, path, userIn))
	return func() []string {
		b.Helper()
		return eval[[]string](b.tab, fmt.Sprintf(`window[%q]`, name))
	}
}

// Requests that are on their way while the session is bound, and while its token is renewed, arrive with the token of before,
// and are not refused. Those that begin while the token is being renewed wait for it.
func TestRequestsOnTheirWay(t *testing.T) {
	everywhere(t, func(t *testing.T, n *nodes, b *deviceBrowser) {
		f := n.front()
		b.at("/app/page") // whose page has no connection of its own: a browser has six for a host
		bind, late := f.hold("/auth/dbsc/register"), f.hold("/app/late")
		b.loginAs("ann")
		b.waits(func() bool { return f.arrived("/auth/dbsc/register") == 1 })
		login := b.token()
		ended := b.sends("first", 3, "/app/late")
		b.waits(func() bool { return f.arrived("/app/late") == 3 })
		bind()
		b.waits(func() bool { return b.said.count("created ") == 1 && b.token() != login })
		assert.Equal(t, "ann", b.me())
		late()
		assert.Equal(t, anns(3), ended(), "during the registration")

		late = f.hold("/app/late")
		renew := f.hold("/auth/dbsc/refresh")
		ended = b.sends("second", 3, "/app/late")
		b.waits(func() bool { return f.arrived("/app/late") == 6 })
		b.expire()
		before := f.arrived("/auth/me")
		waiting := b.sends("third", 2, "/auth/me")
		b.waits(func() bool { return f.arrived("/auth/dbsc/refresh") == 1 })
		assert.Equal(t, before, f.arrived("/auth/me"), "they wait for the refresh")
		renew()
		assert.Equal(t, anns(2), waiting())
		late()
		assert.Equal(t, anns(3), ended(), "during the refresh")
		assert.Equal(t, 1, n.events("device_proved"))
	})
}

// From two minutes before the token's end on, the browser renews it beside the requests, which go out with the token of before. A
// token that lives for little longer than that is renewed every few seconds; one that lives for less would be with each
// request, so that some would arrive with the token before the one of before (--dbsc-ttl is at least five minutes).
func TestRefreshesAhead(t *testing.T) {
	everywhereWith(t, func(cfg *server.Config) { cfg.Policy.BoundTTL = 2*time.Minute + 3*time.Second }, func(t *testing.T, n *nodes, b *deviceBrowser) {
		b.isBound()
		b.waits(func() bool {
			require.Equal(t, anns(4), b.atOnce(4))
			return n.events("device_proved") > 1
		})
	})
}

// Twenty tabs share the session, its cookie and the browser's quota of six signatures: they need one for each end of the token.
func TestTwentyTabs(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newBrowserWith(n, t.TempDir(), "DeviceBoundSessions")
	n.front()
	b.at("/app/page") // whose page has no connection of its own: a browser has six for a host
	b.signIn("ann")
	tabs := []*deviceBrowser{b}
	for len(tabs) < 20 {
		tab := b.anotherTab()
		tab.at("/app/page")
		tabs = append(tabs, tab)
	}
	for i := range 3 {
		b.expire()
		users := make([][]string, len(tabs))
		var asked sync.WaitGroup
		for i, tab := range tabs {
			asked.Go(func() { users[i] = tab.atOnce(2) })
		}
		asked.Wait()
		for _, found := range users {
			assert.Equal(t, anns(2), found)
		}
		assert.Equal(t, i+1, n.events("device_proved"))
	}
}

// The browser has used up the signatures that it allows a site: its requests wait, and nobody takes it for signed out.
func TestQuotaOfSignatures(t *testing.T) {
	n := serveNodes(t, nil, memory(t))
	b, _ := newBrowserWith(n, t.TempDir(), "DeviceBoundSessions")
	b.isBound()
	status := 200
	for range 12 {
		b.expire()
		if status = b.statusOfMe(); status != 200 {
			break
		}
	}
	assert.Equal(t, 429, status)
	assert.Positive(t, n.events("device_proved"))
	b.loginAs("bob") // a login waits for nothing
	assert.Equal(t, "bob", b.me())
}
