//go:build real

package browsertest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// deviceBrowser is a tab of a browser that binds sessions, at a site.
type deviceBrowser struct {
	*tab
	n      *nodes
	said   *deviceEvents
	dir    string // the profile's folder; set for the browser's first tab only
	killed bool
}

// deviceEvents is what a browser said of its bound sessions, in the words of its developer tools.
type deviceEvents struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (e *deviceEvents) note(ev any) {
	was, ok := ev.(*network.EventDeviceBoundSessionEventOccurred)
	if !ok {
		return
	}
	text := ""
	switch {
	case was.CreationEventDetails != nil:
		text = "created " + string(was.CreationEventDetails.FetchResult)
	case was.RefreshEventDetails != nil:
		text = "refreshed " + string(was.RefreshEventDetails.RefreshResult)
	case was.TerminationEventDetails != nil:
		text = "ended " + string(was.TerminationEventDetails.DeletionReason)
	default:
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, text)
}

// count returns how often the browser said something that begins like this.
func (e *deviceEvents) count(prefix string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, text := range e.all {
		if strings.HasPrefix(text, prefix) {
			n++
		}
	}
	return n
}

func (e *deviceEvents) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.all, ", ")
}

// newDeviceBrowser starts a browser that binds sessions and renews as often as it needs to, with a profile in dir; end closes it
// as a user does.
func newDeviceBrowser(n *nodes, dir string) (b *deviceBrowser, end func()) {
	n.Helper()
	return newBrowserWith(n, dir, "DeviceBoundSessions:RefreshQuota/false")
}

func newBrowserWith(n *nodes, dir, feature string) (b *deviceBrowser, end func()) {
	n.Helper()
	said := new(testoutput.Buffer)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox,
		chromedp.UserDataDir(dir),
		chromedp.Flag("ignore-certificate-errors-spki-list", n.spki),
		chromedp.Flag("host-resolver-rules", "MAP * 127.0.0.1"),
		chromedp.Flag("enable-features", feature+",EnableBoundSessionCredentialsSoftwareKeysForManualTesting"),
		chromedp.Flag("password-store", "basic"),
		chromedp.CombinedOutput(said))...)
	ctx, cancel := chromedp.NewContext(alloc)
	require.NoError(n, chromedp.Do(ctx), "%s", said)
	var once sync.Once
	end = func() {
		once.Do(func() {
			if err := chromedp.Cancel(ctx); !b.killed {
				assert.NoError(n, err)
			}
			cancel()
			stop()
			n.profileIsFree(dir)
		})
	}
	n.Cleanup(end)
	b = n.watched(&tab{n.T, ctx})
	b.dir = dir
	return b, end
}

// kill ends the browser without giving it time to write anything.
func (b *deviceBrowser) kill() {
	b.Helper()
	require.NotEmpty(b, b.dir)
	b.killed = true
	process := chromedp.FromContext(b.ctx).Browser.Process()
	require.NoError(b, process.Kill())
	b.waits(func() bool { return b.ctx.Err() != nil || process.Signal(syscall.Signal(0)) != nil })
	b.n.profileIsFree(b.dir)
}

// profileIsFree waits until no process of the browser is left. Its helpers may write to the profile after the browser has ended.
func (n *nodes) profileIsFree(dir string) {
	n.Helper()
	require.Eventually(n, func() bool {
		processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		return !slices.ContainsFunc(processes, func(path string) bool {
			line, err := os.ReadFile(path)
			return err == nil && bytes.Contains(line, []byte("--user-data-dir="+dir))
		})
	}, patience, 20*time.Millisecond, "a browser's process still uses %s", dir)
}

// watched returns a tab whose browser says what it does with bound sessions.
func (n *nodes) watched(b *tab) *deviceBrowser {
	n.Helper()
	d := &deviceBrowser{tab: b, n: n, said: new(deviceEvents)}
	require.NoError(n, chromedp.Listen(b.ctx, d.said.note))
	call(b, network.EnableDeviceBoundSessions, network.EnableDeviceBoundSessionsParams{Enable: true})
	return d
}

// anotherTab opens one more tab of the browser's own profile.
func (b *deviceBrowser) anotherTab() *deviceBrowser {
	b.Helper()
	ctx, end := chromedp.NewContext(b.ctx)
	b.Cleanup(end)
	require.NoError(b, chromedp.Do(ctx))
	return b.n.watched(&tab{b.T, ctx})
}

// at visits a page of the site.
func (b *deviceBrowser) at(path string) {
	b.Helper()
	b.visit(b.n.url("app.test", path))
}

// signIn logs a user in, and waits until the browser has bound the session.
func (b *deviceBrowser) signIn(user string) {
	b.Helper()
	before := b.said.count("created ")
	b.loginAs(user)
	b.waits(func() bool { return b.said.count("created ") > before })
	require.Equal(b, user, b.me())
}

// isBound is what most scenarios begin with: Ann's session is bound, and the page is one of the site's.
func (b *deviceBrowser) isBound() {
	b.Helper()
	b.at("/auth/devices")
	b.signIn("ann")
}

// waits waits for a state.
func (b *deviceBrowser) waits(until func() bool) {
	b.Helper()
	require.Eventually(b, until, patience, 20*time.Millisecond, "the browser: %v\nthe server: %s", b.said, b.n.log)
}

// waitsForMe waits until the browser is not told to come back later, and returns who it is.
func (b *deviceBrowser) waitsForMe() string {
	b.Helper()
	b.waits(func() bool { return b.statusOfMe() == 200 })
	return b.me()
}

// expire takes the token from the browser, as its end does.
func (b *deviceBrowser) expire() {
	b.Helper()
	call(b.tab, network.DeleteCookies, network.DeleteCookiesParams{Name: "__Host-coatcheck", URL: b.n.url("app.test", "/")})
}

// elsewhere visits another site, whose pages may ask for what they like.
func (b *deviceBrowser) elsewhere() {
	b.Helper()
	call(b.tab, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: true})
	b.visit(b.n.url("other.example", "/auth/devices"))
}

// token returns the value of the browser's session cookie, and name that of its name cookie.
func (b *deviceBrowser) token() string { return b.cookie("__Host-coatcheck") }
func (b *deviceBrowser) name() string  { return b.cookie("__Host-coatcheck-name") }

func (b *deviceBrowser) cookie(name string) string {
	b.Helper()
	all := b.cookies()
	i := slices.IndexFunc(all, func(c *network.Cookie) bool { return c.Name == name })
	if i < 0 {
		return ""
	}
	return all[i].Value
}

func (b *deviceBrowser) loginAs(user string) {
	b.Helper()
	status, text := b.ask("POST", "/auth/login", fmt.Sprintf(`{"user_id":%q}`, user))
	require.Equal(b, 200, status, text)
}

func (b *deviceBrowser) statusOfMe() int {
	b.Helper()
	status, _ := b.ask("GET", "/auth/me")
	return status
}

// atOnce asks me so many times at once, and returns the users of the answers.
func (b *deviceBrowser) atOnce(times int) []string {
	b.Helper()
	return eval[[]string](b.tab, fmt.Sprintf(`Promise.all(Array.from({length: %d}, () => fetch("/auth/me").then((r) => r.text()).then(%s)))`, times, userIn))
}

// userIn is a JavaScript function that finds the user in the text of an answer.
const userIn = `(text) => (text.match(/"user_id":"(\w+)"/) || ["", "nobody"])[1]`

// leaves runs a script that leads to another page, and waits until that shows a text.
func (b *deviceBrowser) leaves(script, text string) {
	b.Helper()
	_ = eval[bool](b.tab, fmt.Sprintf(`(setTimeout(() => { %s }, 50), true)`, script))
	shown := ""
	b.waits(func() bool { // the page goes away meanwhile
		ctx, cancel := b.within()
		defer cancel()
		var err error
		shown, err = chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
		return err == nil && strings.Contains(shown, text)
	})
}
