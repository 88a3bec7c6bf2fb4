//go:build real

package browsertest_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/httpsession"
)

// An application with the middleware, whose login is a form that another site's page sends: the session is bound, although the
// browser sends the registration without the Lax cookie; and it is renewed for a link from there.
func TestLoginFromAnotherSite(t *testing.T) {
	for name, open := range openStores {
		t.Run(name, func(t *testing.T) {
			n := newNodes(t)
			n.stores = open(t)
			n.serve(n.application(loginForm(n)))
			b, _ := newDeviceBrowser(n, t.TempDir())
			form := n.url("other.example", "/form")
			b.visit(form)
			b.leaves(`document.querySelector("button").click()`, "user=ann.")
			b.waits(func() bool { return b.said.count("created ") == 1 })
			b.at("/who")
			b.sees("user=ann.")

			b.visit(form)
			b.expire()
			n.clock.step(tooOld)
			b.leaves(`document.querySelector("a").click()`, "user=ann.")
			assert.Equal(t, 1, n.events("device_proved"))
		})
	}
}

// loginForm is the application, and the page of the other site.
func loginForm(n *nodes) http.Handler {
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
	return mux
}
