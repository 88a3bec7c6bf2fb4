//go:build real

package browsertest_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// An application with the middleware, whose login is a form that another site's page sends: the session is bound, although the
// browser sends the registration without the Lax cookie; and it is renewed for a link from there.
func TestLoginFromAnotherSite(t *testing.T) {
	n := &nodes{T: t, clock: new(clock), log: new(testoutput.Buffer)}
	cfg := httpsession.Config{DBSC: "/auth/dbsc", Logger: slog.New(slog.NewJSONHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	cfg.Policy = coatcheck.Policy{Now: n.clock.now}
	wrap, err := httpsession.New(memory(t), cfg)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/dbsc/register", httpsession.RegisterDevice)
	mux.HandleFunc("POST /auth/dbsc/refresh", httpsession.RefreshDevice)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if err := httpsession.Get(r).Authenticate(r.FormValue("user")); err != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, "/who", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "user=%s.", httpsession.Get(r).UserID())
	})
	mux.HandleFunc("GET /form", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<form method="post" action="%s"><input name="user" value="ann"><button>in</button></form><a href="%s">there</a>`,
			n.url("app.test", "/login"), n.url("app.test", "/who"))
	})
	srv := httptest.NewTLSServer(wrap(mux))
	t.Cleanup(srv.Close)
	at, err := url.Parse(srv.URL)
	require.NoError(t, err)
	sum := sha256.Sum256(srv.Certificate().RawSubjectPublicKeyInfo)
	n.port, n.spki = at.Port(), base64.StdEncoding.EncodeToString(sum[:])

	b, end := newDeviceBrowser(n, t.TempDir())
	defer end() // before the server, which waits for connections
	form := n.url("other.example", "/form")
	b.visit(form)
	b.leaves(`document.querySelector("button").click()`, "user=ann.")
	n.waitsBound(1)
	b.visit(n.url("app.test", "/who"))
	b.sees("user=ann.")

	b.visit(form)
	b.expire(n.url("app.test", "/who"))
	n.clock.step(tooOld)
	b.leaves(`document.querySelector("a").click()`, "user=ann.")
	assert.Equal(t, 1, n.events("device_proved"))
}

// leaves runs a script that leads to another page, and waits until that shows a text.
func (b *tab) leaves(script, text string) {
	b.Helper()
	_ = eval[bool](b, fmt.Sprintf(`(setTimeout(() => { %s }, 50), true)`, script))
	require.Eventually(b, func() bool { // the page goes away meanwhile
		ctx, cancel := b.within()
		defer cancel()
		shown, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
		return err == nil && strings.Contains(shown, text)
	}, patience, 100*time.Millisecond)
}
