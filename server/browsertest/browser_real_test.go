//go:build real

package browsertest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// patience bounds what a test waits for; nothing waits that long unless it is broken.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(withBrowser{m}, noLeaks...)
}

// noLeaks are goroutines that stay.
var noLeaks = []goleak.Option{
	// fasthttp starts one goroutine for the Date header with its first server, and has no way to stop it.
	goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	// It looks every ten seconds for workers to stop, and only then sees that its server has stopped.
	goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
}

var chromium context.Context // of the one browser; set before any test runs

// withBrowser runs the tests with one browser, which has ended when goroutines are counted.
type withBrowser struct{ *testing.M }

func (b withBrowser) Run() int {
	said := new(testoutput.Buffer)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // its pages are our own
		chromedp.IgnoreCertErrors,
		chromedp.Flag("host-resolver-rules", "MAP * 127.0.0.1"), // all names are this machine's, and nothing leaves it
		chromedp.Flag("allow-pre-commit-input", true),           // or keys are dropped until a page has been drawn
		chromedp.CombinedOutput(said))...)
	defer stop()
	var end context.CancelFunc
	chromium, end = chromedp.NewContext(alloc)
	defer end()
	if err := chromedp.Do(chromium); err != nil {
		fmt.Fprintf(os.Stderr, "these tests need Chromium (make tools): %v\n%s\n", err, said)
		return 1
	}
	code := b.M.Run()
	if err := chromedp.Cancel(chromium); err != nil {
		fmt.Fprintln(os.Stderr, "Chromium did not end:", err)
		return 1
	}
	// The connections that Chromium kept end with it, and goleak waits for less than half a second.
	for deadline := time.Now().Add(patience); code == 0 && goleak.Find(noLeaks...) != nil && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	return code
}

// tab is one tab of a browser profile.
type tab struct {
	*testing.T
	ctx context.Context
}

// newProfile opens a tab with a cookie store of its own; both go when the test ends.
func newProfile(t *testing.T) *tab {
	t.Helper()
	return open(chromium, t, chromedp.WithNewBrowserContext())
}

// another opens one more tab of the same profile.
func (b *tab) another() *tab {
	b.Helper()
	return open(b.ctx, b.T, chromedp.WithExistingBrowserContext(chromedp.FromContext(b.ctx).BrowserContextID))
}

func open(parent context.Context, t *testing.T, opt chromedp.ContextOption) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(parent, opt)
	t.Cleanup(end)
	b := &tab{t, ctx}
	require.NoError(t, chromedp.Do(ctx))
	return b
}

// within bounds one step.
func (b *tab) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, patience)
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := b.within()
	defer cancel()
	require.NoError(b, chromedp.Do(ctx, steps...))
}

func (b *tab) visit(url string) {
	b.Helper()
	b.do(chromedp.Navigate(url))
}

// eval returns what a JavaScript expression, or the promise that it is, comes to.
func eval[V any](b *tab, expression string) V {
	b.Helper()
	v, err := try[V](b, expression)
	require.NoError(b, err, expression)
	return v
}

func try[V any](b *tab, expression string) (V, error) {
	ctx, cancel := b.within()
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[V](expression, chromedp.EvalAwaitPromise))
}

// until waits for an expression to be true. While the page navigates there is nothing that could evaluate it.
func (b *tab) until(expression string) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for {
		is, err := try[bool](b, expression)
		if is {
			return
		}
		if time.Now().After(deadline) {
			require.NoError(b, err, expression)
			require.Fail(b, "it never became true", "%s\nthe page:\n%s", expression, eval[string](b, "document.body.innerText"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sees waits until the page shows a text.
func (b *tab) sees(text string) {
	b.Helper()
	b.until(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// types gives an element the focus, once the page is complete, and presses keys. chromedp.SendKeys would name the element by a number
// that may be out of date by then, while a page is still being read.
func (b *tab) types(selector, keys string) {
	b.Helper()
	b.until(fmt.Sprintf("document.readyState === 'complete' && !!document.querySelector(%q)", selector))
	b.isDrawn()
	b.until(fmt.Sprintf("document.querySelector(%q).focus() || document.activeElement.matches(%q)", selector, selector))
	b.do(chromedp.KeyEvent(keys))
}

// isDrawn waits until the page has been drawn: what has the focus at first has it then.
func (b *tab) isDrawn() {
	b.Helper()
	b.until("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))")
}

// answer is one that the server does not give by itself here, or that a proxy in front gives.
type answer struct {
	status int
	body   string
}

// answersNext makes this the answer to the next request of the page's script.
func (b *tab) answersNext(with answer) {
	b.Helper()
	eval[bool](b, fmt.Sprintf(`(() => { const real = fetch; window.fetch = async () => {
		window.fetch = real;
		return new Response(%q, {status: %d, headers: {'Retry-After': '7'}});
	}; return true; })()`, with.body, with.status))
}

// ask sends a request from the page, as its script would, and returns status and body.
func (b *tab) ask(method, path string, body ...string) (status int, text string) {
	b.Helper()
	init := fmt.Sprintf("{method: %q}", method)
	if len(body) > 0 {
		init = fmt.Sprintf("{method: %q, body: %q, headers: {'Content-Type': 'application/json'}}", method, body[0])
	}
	answer := eval[struct {
		Status int
		Text   string
	}](b, fmt.Sprintf("fetch(%q, %s).then(async (r) => ({Status: r.status, Text: await r.text()}))", path, init))
	return answer.Status, answer.Text
}

// login logs user-42 in from the page.
func (b *tab) login() {
	b.Helper()
	status, text := b.ask("POST", "/auth/login", `{"user_id":"user-42"}`)
	require.Equal(b, 200, status, text)
}

// me is the user whose session the profile has, "" for nobody.
func (b *tab) me() string {
	b.Helper()
	status, text := b.ask("GET", "/auth/me")
	require.Equal(b, 200, status, text)
	_, rest, _ := strings.Cut(text, `"user_id":"`)
	user, _, _ := strings.Cut(rest, `"`)
	return user
}

// cookies is the profile's cookie store.
func (b *tab) cookies() []*network.Cookie {
	b.Helper()
	ctx, cancel := b.within()
	defer cancel()
	got, err := chromedp.CallBrowser(ctx, storage.GetCookies, storage.GetCookiesParams{BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID})
	require.NoError(b, err)
	return got.Cookies
}

func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.Helper()
	ctx, cancel := b.within()
	defer cancel()
	got, err := chromedp.Call(ctx, command, params)
	require.NoError(b, err)
	return got
}
