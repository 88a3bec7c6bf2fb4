//go:build real

package browsertest_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
)

// look makes the tab a screen of that width, in light or dark.
func (b *tab) look(scheme string, width int64) {
	b.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.do(chromedp.EmulateViewport(width, 640))
}

// shoot writes a screenshot to the folder that COATCHECK_SCREENSHOTS names, for a person to look at.
func (b *tab) shoot(name string) {
	b.Helper()
	dir := os.Getenv("COATCHECK_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := b.within()
	defer cancel()
	take := chromedp.FullScreenshot(100)
	if eval[bool](b, "document.getElementById('ask')?.open === true") {
		take = chromedp.CaptureScreenshot() // a question stands on the screen, not on the page
	}
	picture, err := chromedp.Run(ctx, take)
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
}

// What a screen reader is told: landmarks, headings, the list, and buttons whose names say what they end.
func TestAccessibilityTree(t *testing.T) {
	s := serveTLS(t, nil)
	b := visitor(t, s)
	signedIn := b.tree()
	for _, want := range []string{
		"banner", "main", "heading Your sessions", "region Where you are signed in", "heading Where you are signed in", "status", "alert", "list",
		"heading Chrome on Linux This session", "heading Safari on iPhone", "button End all other sessions", "button Sign out",
		"button End Safari on iPhone, 127.0.0.1, last seen just now",
	} {
		assert.Contains(t, signedIn, want)
	}
	assert.Equal(t, 4, count(signedIn, "listitem"), signedIn)
	assert.Equal(t, 3, count(signedIn, "button End ")-1)
	assert.NotContains(t, signedIn, "button", "every button has a name")

	b.press("Sign out")
	b.sees("You are signed out.")
	signedOut := b.tree()
	for _, want := range []string{"region You are not signed in", "textbox User ID", "button Sign in", "status"} {
		assert.Contains(t, signedOut, want)
	}
	assert.Zero(t, count(signedOut, "listitem"), "what is hidden is hidden from everybody")
	assert.Equal(t, "You are signed out.", eval[string](b, "document.querySelector('[role=status]').textContent"), "and said aloud")
}

func count(tree []string, prefix string) (n int) {
	for _, line := range tree {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// tree is the accessibility tree, as "role name".
func (b *tab) tree() []string {
	b.Helper()
	var all []string
	for _, n := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		var role, name string
		require.NoError(b, json.Unmarshal(n.Role.Value, &role))
		if n.Name != nil {
			require.NoError(b, json.Unmarshal(n.Name.Value, &name))
		}
		all = append(all, strings.TrimSpace(role+" "+name))
	}
	return all
}

// All of it without a mouse: Tab reaches every control in the order that it is seen in, and Enter works it.
func TestKeyboard(t *testing.T) {
	s := serveTLS(t, nil)
	b := newProfile(t)
	b.visit(s.url(page))
	b.sees("You are not signed in")
	b.isDrawn()
	b.tabTo("user-id")
	b.do(chromedp.KeyEvent("user-42"), chromedp.KeyEvent(kb.Enter))
	b.sees("You are signed in.")

	for _, device := range []string{"phone", "desktop"} {
		s.elsewhere(t, "user-42", device)
	}
	b.do(chromedp.Reload())
	b.sees("Safari on iPhone")
	b.isDrawn()
	for _, want := range []string{"End Firefox on Windows", "End Safari on iPhone", "End all other sessions", "Sign out"} {
		b.do(chromedp.KeyEvent(kb.Tab))
		assert.Contains(t, b.focused(), want)
		assert.NotEqual(t, "none", eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"), "one sees where one is: %s", want)
	}
	b.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)), chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)))
	b.do(chromedp.KeyEvent(kb.Enter))
	b.answerYes()
	b.sees("Safari on iPhone was signed out.")
	b.do(chromedp.KeyEvent(kb.Tab))
	assert.Contains(t, b.focused(), "End Firefox on Windows", "Tab goes on from the heading that has got the focus")
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(" "))
	b.answerYes()
	b.sees("1 other session was ended.")
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	b.sees("You are signed out.")
	b.do(chromedp.KeyEvent(kb.Tab))
	assert.Equal(t, "user-id", eval[string](b, "document.activeElement.id"))
}

// answerYes goes from Cancel, which has the focus in a question, to the button behind it, and presses that.
func (b *tab) answerYes() {
	b.Helper()
	b.until("document.getElementById('ask').open")
	assert.Equal(b, "Cancel", b.focused())
	b.do(chromedp.KeyEvent(kb.Tab))
	assert.Equal(b, "yes", eval[string](b, "document.activeElement.id"))
	assert.NotEqual(b, "none", eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"))
	b.do(chromedp.KeyEvent(kb.Enter))
}

func (b *tab) tabTo(id string) {
	b.Helper()
	b.do(chromedp.KeyEvent(kb.Tab))
	require.Equal(b, id, eval[string](b, "document.activeElement.id"))
}

// lowContrast lists the visible texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3).
const lowContrast = `(() => {
	const parse = (c) => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } };
	return [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).flatMap((e) => {
		const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		return ratio < 4.5 ? [e.textContent + ' ' + ratio] : [];
	});
})()`

// eightSessions is a profile on the page of somebody who is signed in at eight places, since some days.
func eightSessions(t *testing.T, s *site) *tab {
	t.Helper()
	s.clock.step(-9 * 24 * time.Hour)
	phone := s.elsewhereFrom(t, "user-42", "phone", "203.0.113.7")
	for i, device := range []string{"desktop", "script", "phone", "script", "phone", "script"} {
		s.clock.step(26*time.Hour + 17*time.Minute)
		s.elsewhereFrom(t, "user-42", device, []string{"198.51.100.23", "2001:db8:4711:2:a::15"}[i%2])
	}
	s.comesFrom(t, phone, "2001:db8:90:1::c3")
	s.clock.step(9*24*time.Hour - 6*(26*time.Hour+17*time.Minute))
	b := newProfile(t)
	b.visit(s.url(page))
	b.login()
	b.visit(s.url(page))
	b.until("document.querySelectorAll('#list > li').length === 8")
	return b
}

// Light and dark, wide and as narrow as phones are: nothing is cut off or faint, and what is pressed is as large as a finger.
func TestLooks(t *testing.T) {
	s := serveTLS(t, func(cfg *server.Config) {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Policy.TTL, cfg.Policy.MaxLifetime, cfg.ReauthWithin = 14*24*time.Hour, 30*24*time.Hour, 15*time.Minute
	})
	b := eightSessions(t, s)
	states := []struct {
		name string
		make func()
	}{
		{"eight", func() {}},
		{"question", func() { b.press("End Firefox"); b.until("document.getElementById('ask').open") }},
		{"ended", func() {
			eval[bool](b, "document.getElementById('yes').click() || true")
			b.sees("Firefox on Windows was signed out.")
		}},
		{"reauth", func() {
			s.clock.step(16 * time.Minute)
			b.confirm("End all other sessions", "End the 6 other sessions?")
			b.sees("Nothing was ended")
			s.clock.step(-16 * time.Minute)
		}},
		{"alone", func() {
			b.confirm("End all other sessions", "End the 6 other sessions?")
			b.sees("6 other sessions were ended.")
		}},
		{"down", func() { s.store.down.Store(true); b.press("Sign out"); b.sees("It may have been done all the same.") }},
		{"out", func() { s.store.down.Store(false); b.press("Sign out"); b.sees("You are signed out.") }},
		{"wrong", func() { b.press("Sign in"); b.sees("Enter a user ID") }},
		{"unknown", func() {
			s.store.down.Store(true)
			b.login()
			b.comeBack()
			b.sees("Your sessions cannot be shown")
		}},
	}
	for _, state := range states {
		state.make()
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int64{1280, 320} {
				at := fmt.Sprintf("%s-%s-%d", state.name, scheme, width)
				b.look(scheme, width)
				assert.Empty(t, eval[[]string](b, lowContrast), at)
				assert.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), width, "%s: nothing to scroll sideways", at)
				assert.GreaterOrEqual(t, eval[float64](b, "Math.min(...[...document.querySelectorAll('button, input')].filter((e) => "+
					"e.checkVisibility()).map((e) => e.getBoundingClientRect().height))"), 44.0, at)
				b.shoot(at)
			}
		}
	}
}
