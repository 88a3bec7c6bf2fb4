//go:build real

package browsertest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// asking is a mode with a form for passwords, of which "right" is the right one.
type asking struct {
	throttled bool
	asked     atomic.Int64 // logins
}

func (*asking) UserOf(a *login.Attempt) string { return a.UserID }
func (*asking) Traits() login.Traits {
	return login.Traits{Guesses: login.GuessesNothing, Form: login.PasswordForm}
}

func (m *asking) Check(_ context.Context, a *login.Attempt) (string, error) {
	m.asked.Add(1)
	switch {
	case m.throttled:
		return "", &login.Throttled{RetryAfter: 14*time.Minute + time.Second, By: "account"}
	case string(a.Password) != "right":
		return "", login.ErrRefused
	}
	return a.UserID, nil
}

// The page to sign in on, with a keyboard alone: one message for every refusal, the wait where it is throttled, and then to where
// the person wanted to go.
func TestSignInPage(t *testing.T) {
	mode := &asking{}
	s := serveTLS(t, func(cfg *server.Config) {
		cfg.Login, cfg.RememberTTL = mode, 30*24*time.Hour
	})
	b := newProfile(t)
	b.visit(s.url("/auth/login?rd=%2Fauth%2Fdevices%3Fa%3Db%26c"))
	b.isDrawn()
	tree := b.tree()
	for _, want := range []string{"banner", "main", "heading Sign in", "textbox Name", "textbox Password", "checkbox Keep me signed in on this device", "button Sign in"} {
		assert.Contains(t, tree, want)
	}
	assert.Equal(t, "user-id", eval[string](b, "document.activeElement.id"), "one can type at once")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.sees("Enter your name: 1 to 256 bytes")
	b.do(chromedp.KeyEvent("Jürgen <b>\"&"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("wrong"), chromedp.KeyEvent(kb.Enter))
	b.sees("The name or the password is wrong.")
	assert.Equal(t, "password", eval[string](b, "document.activeElement.id"))
	mode.throttled = true
	b.do(chromedp.KeyEvent(kb.Enter))
	b.sees("Too many sign-ins failed. Try again in 15 minutes.")
	mode.throttled = false
	for answer, says := range map[answer]string{
		{429, `{"code":"too_many_connections"}`}: "Too many requests come from your address. Try again in 7 seconds.",
		{429, "<html>nginx</html>"}:              "Too many requests. Try again in 7 seconds.",
		{503, "<html>nginx</html>"}:              "The server cannot sign anybody in now. Try again in 7 seconds.",
		{200, "<html>a hotel's</html>"}:          "The server cannot be reached. Check your connection, then try again.",
	} {
		b.answersNext(answer)
		b.do(chromedp.KeyEvent(kb.Enter))
		b.sees(says)
	}
	b.do(chromedp.KeyEvent("right"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(" "), chromedp.KeyEvent(kb.Enter))
	b.until(`location.pathname + location.search === "/auth/devices?a=b&c"`)
	assert.Equal(t, `Jürgen <b>"&`, eval[string](b, `fetch("me").then((r) => r.json()).then((v) => v.user_id)`))

	b.visit(s.url("/auth/login?rd=%2Fauth%2Fdevices%3Fagain"))
	b.until(`location.search === "?again"`)
}

// An address that leads to a download leaves the person on the page, which says so and can be used again. One more press leads there
// once more and is no second login: that would end the session of the first, and its cookie be lost with the page that a browser leaves.
func TestSignInLeadsToADownload(t *testing.T) {
	mode := &asking{}
	s := serveTLS(t, func(cfg *server.Config) { cfg.Login = mode })
	b := newProfile(t)
	ctx, cancel := b.within()
	defer cancel()
	_, err := chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorDeny, BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
	})
	require.NoError(t, err)
	b.visit(s.url("/auth/login?rd=%2Fopenapi.yaml")) // which Chromium would save and not show
	b.types("#user-id", "ann")
	b.types("#password", "right\r")
	b.sees("You are signed in.")
	assert.Equal(t, "", eval[string](b, `document.getElementById("done").textContent = ""`))
	b.do(chromedp.KeyEvent(kb.Enter))
	b.sees("You are signed in.")
	assert.EqualValues(t, 1, mode.asked.Load())
	assert.Equal(t, "", eval[string](b, `document.getElementById("user-id").value = ""`))
	b.types("#user-id", "bob\r")
	b.until(`fetch("me").then((r) => r.json()).then((v) => v.user_id === "bob")`)

	// A name that changes while the login is on its way is another's: Enter asks for that one.
	eval[bool](b, `(() => { const real = fetch, user = document.getElementById("user-id"); user.value = ""; window.fetch = (...request) => {
		window.fetch = real;
		user.value = "cat";
		user.dispatchEvent(new Event("input", {bubbles: true}));
		return real(...request);
	}; return true; })()`)
	b.types("#user-id", "ann\r")
	b.until(`document.getElementById("user-id").value === "cat" && document.getElementById("done").textContent === "You are signed in."`)
	assert.Equal(t, "ann", b.me())
	b.types("#user-id", "\r")
	b.until(`fetch("me").then((r) => r.json()).then((v) => v.user_id === "cat")`)
}

func TestSignInPageLooks(t *testing.T) {
	s := serveTLS(t, func(cfg *server.Config) { cfg.Login, cfg.RememberTTL = &asking{}, time.Hour })
	b := newProfile(t)
	for _, width := range []int64{320, 800} {
		for _, scheme := range []string{"light", "dark"} {
			b.look(scheme, width)
			b.visit(s.url("/auth/login"))
			b.types("#user-id", "ann")
			b.types("#password", "wrong\r")
			b.sees("The name or the password is wrong.")
			b.shoot("login-" + scheme + map[int64]string{320: "-phone", 800: ""}[width])
			assert.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), width, "nothing is cut off")
			assert.Empty(t, eval[[]string](b, lowContrast), scheme)
			assert.Empty(t, eval[[]string](b, "[...document.querySelectorAll('button, input:not([type=checkbox])')].filter((e) => e.offsetHeight < 44).map((e) => e.id || e.textContent)"))
		}
	}
}
