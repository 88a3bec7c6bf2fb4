//go:build real

package browsertest_test

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

const page = "/auth/devices"

// button finds the visible button whose name begins so.
func button(name string) string {
	return fmt.Sprintf("[...document.querySelectorAll('button')].find((e) => e.checkVisibility() && (e.ariaLabel ?? e.textContent).startsWith(%q))", name)
}

func (b *tab) press(name string) {
	b.Helper()
	b.until("!!" + button(name))
	eval[bool](b, button(name)+".click() || true")
}

// confirm presses a button, and says yes to the question that it puts.
func (b *tab) confirm(name, question string) {
	b.Helper()
	b.press(name)
	b.until("document.getElementById('ask').open")
	assert.Equal(b, question, eval[string](b, "document.getElementById('question').textContent"))
	eval[bool](b, "document.getElementById('yes').click() || true")
}

// comeBack is what a page hears when one switches to its tab.
func (b *tab) comeBack() {
	b.Helper()
	eval[bool](b, "document.dispatchEvent(new Event('visibilitychange'))")
}

// hide is what a page hears when one switches to another tab: it stops watching.
func (b *tab) hide() {
	b.Helper()
	eval[bool](b, "Object.defineProperty(document, 'hidden', {value: true, configurable: true}).dispatchEvent(new Event('visibilitychange'))")
}

// rows are the sessions that the page shows.
func (b *tab) rows() []string {
	b.Helper()
	return eval[[]string](b, "[...document.querySelectorAll('#list > li')].map((li) => li.innerText.replaceAll(/\\n+/g, ' | '))")
}

// focused is the text of what has the focus.
func (b *tab) focused() string {
	b.Helper()
	return eval[string](b, "document.activeElement === document.body ? '' : document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()")
}

// visitor is a profile on the page as user-42, who has a phone, a desktop and a script elsewhere.
func visitor(t *testing.T, s *site) *tab {
	t.Helper()
	for _, device := range []string{"phone", "desktop", "script"} {
		s.elsewhere(t, "user-42", device)
	}
	b := newProfile(t)
	b.visit(s.url(page))
	b.login()
	b.visit(s.url(page))
	b.sees("Signed in as user-42")
	return b
}

func TestPage(t *testing.T) {
	s := serveTLS(t, nil)
	b := visitor(t, s)
	s.elsewhere(t, "another-user", "phone")
	rows := b.rows()
	require.Len(t, rows, 4)
	assert.Regexp(t, `^Chrome on Linux This session \| Last seen just now from 127\.0\.0\.1 \| Signed in [^|]*\d\d:\d\d \| Valid until [^|]*\d\d:\d\d$`, rows[0])
	assert.Regexp(t, `^curl \| Last seen just now from 127\.0\.0\.1 \| Signed in .* \| End$`, rows[1])
	assert.Equal(t, "Your sessions at app.test:"+s.port, eval[string](b, "document.title"))
	b.sees("app.test:" + s.port)
	assert.Regexp(t, `^Firefox on Windows \| `, rows[2])
	assert.Regexp(t, `^Safari on iPhone \| `, rows[3])

	b.confirm("End Safari on iPhone", "End Safari on iPhone?")
	b.sees("Safari on iPhone was signed out.")
	assert.Len(t, b.rows(), 3)
	assert.Equal(t, "Where you are signed in", b.focused(), "what had the focus is gone")

	b.confirm("End all other sessions", "End the 2 other sessions?")
	b.sees("2 other sessions were ended.")
	assert.Len(t, b.rows(), 1)
	assert.False(t, eval[bool](b, "!!"+button("End")), "there is nothing left to end")
	assert.Equal(t, "user-42", b.me())

	b.press("Sign out")
	b.sees("You are signed out.")
	assert.Equal(t, "You are not signed in", b.focused())
	assert.Empty(t, b.cookies())
	assert.NotContains(t, eval[string](b, "document.documentElement.outerHTML"), "user-42", "nothing of the session is left on the page")
}

// Nothing is ended before the question was answered, and an answer of no leaves everything, the focus included, as it was.
func TestPageAsksOnce(t *testing.T) {
	s := serveTLS(t, nil)
	b := visitor(t, s)
	for _, name := range []string{"End Safari on iPhone", "End all other sessions"} {
		for _, no := range []string{kb.Escape, kb.Enter} { // Cancel has the focus
			eval[bool](b, button(name)+".focus() || true")
			b.press(name)
			b.until("document.getElementById('ask').open")
			assert.Equal(t, "Cancel", b.focused())
			assert.Contains(t, b.tree(), "dialog "+eval[string](b, "document.getElementById('question').textContent"))
			b.comeBack()
			b.do(chromedp.KeyEvent(no))
			b.until("!document.getElementById('ask').open")
			assert.Contains(t, b.focused(), name)
		}
	}
	assert.Len(t, b.rows(), 4)
	assert.Equal(t, "", eval[string](b, "document.getElementById('done').textContent"))

	s.elsewhere(t, "user-42", "phone")
	b.comeBack()
	b.until("document.querySelectorAll('#list > li').length === 5")
	b.confirm("End all other sessions", "End the 4 other sessions?")
	b.sees("4 other sessions were ended.")
	s.elsewhere(t, "user-42", "phone")
	b.comeBack()
	b.sees("Safari on iPhone")
	b.confirm("End all other sessions", "End the other session?")
	b.sees("1 other session was ended.")
}

// Yes takes effect on the press. Another button that is pressed before the dialog's close event is ignored.
func TestPageAnswersAtOnce(t *testing.T) {
	s := serveTLS(t, nil)
	b := visitor(t, s)
	eval[bool](b, button("End Safari on iPhone")+".click() || document.getElementById('yes').click() || "+button("End curl")+".click() || true")
	b.sees("Safari on iPhone was signed out.")
	assert.False(t, eval[bool](b, "document.getElementById('ask').open"))
	assert.Len(t, b.rows(), 3)
}

// A session that is ended elsewhere shows so by itself, also while the page asks something.
func TestPageSeesTheEnd(t *testing.T) {
	s := serveTLS(t, nil)
	b := visitor(t, s)
	b.press("End all other sessions")
	b.until("document.getElementById('ask').open")
	phone := s.elsewhereFrom(t, "user-42", "phone", "")
	before := s.store.loads.Load()
	require.Eventually(t, func() bool { return s.store.loads.Load() >= before+2 }, patience, 20*time.Millisecond, "the page watches, and nothing else looks")
	s.send(t, "DELETE /auth/sessions", "Cookie: "+phone+"\r\n\r\n")
	b.sees("Your session has ended.")
	assert.Equal(t, "You are not signed in", b.focused())
	assert.False(t, eval[bool](b, "document.getElementById('ask').open"))
	assert.NotContains(t, eval[string](b, "document.documentElement.outerHTML"), "user-42")
}

// The page also notices an end that came while it was not watching.
func TestPageSeesTheEarlierEnd(t *testing.T) {
	s := serveTLS(t, nil)
	b := visitor(t, s)
	b.hide()
	s.send(t, "DELETE /auth/sessions", "Cookie: "+s.elsewhereFrom(t, "user-42", "phone", "")+"\r\n\r\n")
	// The page begins to watch, and does not look by itself: as if the end had come between its last look and this.
	eval[bool](b, "document.getElementById('ask').showModal() || delete document.hidden && document.dispatchEvent(new Event('visibilitychange'))")
	b.sees("Your session has ended.")
	assert.Equal(t, "You are not signed in", b.focused())
	assert.False(t, eval[bool](b, "document.getElementById('ask').open"))
}

// A row says each thing once: where a session was last seen, where it began if that is elsewhere, since when, until when.
func TestPageRows(t *testing.T) {
	s := serveTLS(t, func(cfg *server.Config) {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Policy.TTL, cfg.Policy.MaxLifetime = 14*24*time.Hour, 30*24*time.Hour
	})
	now := s.clock.now()
	s.clock.step(now.Truncate(time.Minute).Sub(now)) // the page tells minutes
	s.clock.step(-3 * 24 * time.Hour)
	began := s.clock.now()
	phone := s.elsewhereFrom(t, "user-42", "phone", "203.0.113.7")
	s.clock.step(2 * 24 * time.Hour)
	s.comesFrom(t, phone, "2001:db8:2::7")
	s.clock.step(24 * time.Hour)
	b := newProfile(t)
	b.visit(s.url(page))
	b.login()
	b.visit(s.url(page))
	b.sees("Signed in as user-42")
	rows := b.rows()
	require.Len(t, rows, 2)
	ends := began.Add(2*24*time.Hour + 14*24*time.Hour)
	assert.Regexp(t, fmt.Sprintf(`^Safari on iPhone \| Last seen yesterday from 2001:db8:2::7 \| Signed in %s [A-Z][a-z]+(?: \d{4})?, %s from 203\.0\.113\.7 \| Valid until %s [A-Z][a-z]+(?: \d{4})?, %s \| End$`,
		began.Format("2"), began.Format("15:04"), ends.Format("2"), ends.Format("15:04")), rows[1])

	eval[bool](b, `(() => { const real = fetch; window.fetch = async (path, init) => {
		const resp = await real(path, init);
		if (path !== 'sessions' || init.method !== 'GET') return resp;
		const list = await resp.json();
		list.sessions[0].bound = true;
		list.sessions[1].created_ip = null;
		return new Response(JSON.stringify(list), {status: 200});
	}; return true; })()`)
	b.comeBack()
	b.sees("Bound to its device")
	rows = b.rows()
	assert.Regexp(t, `^Chrome on Linux This session Bound to its device \| `, rows[0])
	assert.NotContains(t, rows[1], "Bound")
	assert.Contains(t, rows[1], "from unknown address | Valid until")
}

func TestPageLoginForm(t *testing.T) {
	s := serveTLS(t, nil)
	b := newProfile(t)
	b.visit(s.url(page))
	b.sees("You are not signed in")
	b.press("Sign in")
	b.sees("Enter a user ID: 1 to 256 bytes")
	assert.Equal(t, "true", eval[string](b, "document.activeElement.ariaInvalid"), "the field has the focus, and says that it is wrong")
	b.types("#user-id", "Jürgen <b>\"&\r")
	b.sees("You are signed in.")
	assert.Equal(t, `Jürgen <b>"&`, eval[string](b, "document.getElementById('user').textContent"))
	assert.Equal(t, "Where you are signed in", b.focused())
}

// noForm is a login mode that no page can serve.
type noForm struct{}

func (noForm) Check(context.Context, *login.Attempt) (string, error) { return "", login.ErrRefused }
func (noForm) UserOf(a *login.Attempt) string                        { return a.UserID }
func (noForm) Traits() login.Traits                                  { return login.Traits{Guesses: login.GuessesNothing} }

// How one signs in is said; a form there is only where any user ID is believed.
func TestPageSignedOut(t *testing.T) {
	for name, tt := range map[string]struct {
		url, says string
		mode      login.Mode
	}{
		"a login page": {"https://login.test/in?a=1&b=2", "Sign in", struct{ login.Open }{}}, // a mode that is not the open one
		"ours":         {"", "Sign in", &asking{}},
		"none known":   {"", "Sign in at app.test:", noForm{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveTLS(t, func(cfg *server.Config) {
				cfg.VerifyLoginURL = tt.url
				cfg.Login = tt.mode
			})
			b := newProfile(t)
			b.visit(s.url(page))
			b.sees(tt.says)
			assert.False(t, eval[bool](b, "!!document.getElementById('user-id')"))
			link := eval[string](b, "[...document.querySelectorAll('main a')].find((e) => e.checkVisibility()).href")
			assert.Equal(t, map[string]string{
				"a login page": tt.url + "&rd=" + url.QueryEscape(s.url(page)),
				"ours":         s.url("/auth/login?rd=" + url.QueryEscape(page)),
				"none known":   s.url("/"),
			}[name], link)
		})
	}
}

// What the server refuses is explained, and what had the focus keeps it.
func TestPageRefusals(t *testing.T) {
	s := serveTLS(t, func(cfg *server.Config) { cfg.ReauthWithin = 5 * time.Minute })
	b := visitor(t, s)

	s.clock.step(6 * time.Minute)
	eval[bool](b, `(() => { window.said = [];
		new MutationObserver(() => said.push(document.getElementById('failed').textContent)).observe(document.getElementById('failed'), {childList: true});
		return true; })()`)
	const refusal = "Nothing was ended: for this you must have signed in a short time ago. Sign out, sign in again, then try once more."
	for _, ask := range []struct{ name, question string }{
		{"End Safari on iPhone", "End Safari on iPhone?"},
		{"End all other sessions", "End the 3 other sessions?"},
	} {
		eval[bool](b, "said.splice(0) && true")
		eval[bool](b, button(ask.name)+".focus() || true")
		b.confirm(ask.name, ask.question)
		b.until(fmt.Sprintf("said.at(-1) === %q", refusal)) // and not what the page has said before
		assert.Contains(t, b.focused(), ask.name)
	}
	assert.Equal(t, []string{"", refusal}, eval[[]string](b, "said"), "a screen reader says a refusal once more only if it was gone")
	assert.Len(t, b.rows(), 4)

	for answer, says := range map[answer]string{
		{429, `{"code":"login_throttled"}`}:      "Too many sign-ins failed. Try again in 7 seconds.",
		{429, `{"code":"too_many_connections"}`}: "Too many requests come from your address. Nothing has changed. Try again in 7 seconds.",
		{429, `{"code":"a_proxys_own"}`}:         "Too many requests. Nothing has changed. Try again in 7 seconds.",
		{429, "<html>nginx</html>"}:              "Too many requests. Nothing has changed. Try again in 7 seconds.",
		{503, "<html>nginx</html>"}:              "The server cannot do that now. Try again in 7 seconds.",
		{404, "<html>nginx</html>"}:              "The server cannot be reached. Check your connection, then try again.",
		{429, `{"code":"binding_pending"}`}:      "Your browser could not renew your session yet. Nothing has changed. Try again in a few minutes.",
	} {
		b.answersNext(answer)
		b.press("Sign out")
		b.sees(says)
	}

	s.store.down.Store(true)
	b.press("Sign out")
	b.sees("The server cannot do that now. Try again in a moment. It may have been done all the same.")
	assert.Len(t, b.cookies(), 1, "an outage logs nobody out")
	b.comeBack()
	b.sees("Your sessions cannot be shown")
	s.store.down.Store(false)
	b.press("Try again")
	b.sees("Signed in as user-42")
	assert.Empty(t, eval[string](b, "document.getElementById('failed').textContent"))

	b.hide() // or the page is told of the end before it asks for anything
	s.clock.step(time.Hour)
	b.confirm("End Safari on iPhone", "End Safari on iPhone?")
	b.sees("You are no longer signed in.")
	b.sees("You are not signed in")
}

func TestNames(t *testing.T) {
	s := serveTLS(t, nil)
	b := newProfile(t)
	b.visit(s.url(page))
	for agent, want := range map[string]string{
		"": "Unknown browser",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36":                                  "Chrome on Linux",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36":                         "Chrome on ChromeOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 Edg/156.0.0.0":          "Edge on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 OPR/120.0.0.0":          "Opera on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Safari/605.1.15":                  "Safari on macOS",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:152.0) Gecko/20100101 Firefox/152.0":                                                   "Firefox on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/156.0 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"Mozilla/5.0 (iPad; CPU OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/152.0 Mobile/15E148 Safari/605.1.15":       "Firefox on iPad",
		"Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/30.0 Chrome/140.0.0.0 Mobile Safari/537.36":    "Samsung Internet on Android",
		"Mozilla/5.0 (Android 16; Mobile; rv:152.0) Gecko/152.0 Firefox/152.0":                                                                   "Firefox on Android",
		"Mozilla/5.0 (compatible; something/1.0)": "Unknown browser",
		"Mozilla/5.0 (Linux; U) unheard-of":       "A browser on Linux",
		"curl/8.14.1":                             "curl",
		"python-requests/2.32":                    "python-requests",
		"node":                                    "node",
		"Go-http-client/2.0":                      "Go-http-client",
		"<script>alert(1)</script>":               "Unknown browser",
		strings.Repeat("x", 100) + "/1":           "Unknown browser",
		"Mozilla/5.0 (X11; Linux x86_64) Firefox/" + strings.Repeat("9", 200): "Firefox on Linux",
	} {
		assert.Equal(t, want, eval[string](b, fmt.Sprintf("import('/auth/devices.js').then((m) => m.nameOf(%q))", agent)), agent)
	}
	for minutes, want := range map[float64]string{
		-5: "just now", 0.9: "just now", 1: "1 minute ago", 59.9: "59 minutes ago", 60: "1 hour ago", 23*60 + 59: "23 hours ago", 24 * 60: "yesterday", 49 * 60: "2 days ago",
	} {
		assert.Equal(t, want, eval[string](b, fmt.Sprintf("import('/auth/devices.js').then((m) => m.ago(0, %f * 60000))", minutes)))
	}
}

// The browser has nothing to complain about: no error, no warning, and nothing that the page's policy had to stop.
func TestPageIsQuiet(t *testing.T) {
	s := serveTLS(t, nil)
	b := newProfile(t)
	said := new(testoutput.Buffer) // Listen calls from a goroutine of its own
	require.NoError(t, chromedp.Listen(b.ctx, func(ev any) {
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			_, _ = fmt.Fprintln(said, ev.Entry.Text, ev.Entry.URL)
		case *runtime.EventConsoleAPICalled:
			_, _ = fmt.Fprintln(said, "console", ev.Type)
		case *runtime.EventExceptionThrown:
			_, _ = fmt.Fprintln(said, ev.ExceptionDetails.Text)
		}
	}))
	call(b, log.Enable, cdp.Empty{})
	b.visit(s.url(page))
	b.sees("You are not signed in")
	b.types("#user-id", "user-42\r")
	b.sees("You are signed in.")
	b.press("Sign out")
	b.sees("You are signed out.")
	// And the policy does stop things. What the browser said before came before that.
	eval[bool](b, "void document.body.append(Object.assign(document.createElement('style'), {textContent: 'x{}'})) || true")
	require.Eventually(t, func() bool { return strings.Contains(said.String(), "Content Security Policy") }, patience, 20*time.Millisecond, "%v", said)
	assert.Equal(t, 1, strings.Count(said.String(), "\n"), said)
}
