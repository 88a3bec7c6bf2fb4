package oidc_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testserver"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// One rule holds for each of the four requests to a provider: one that cannot be reached, takes too long, or says that it cannot
// answer now is not available; one that answers otherwise, and not as it must, gave a bad answer.
func TestBadAnswers(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = w.Write([]byte("{}"))
		}
	}
	body := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(text))
		}
	}
	// begun says that more follows than what it sends.
	begun := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that the client has gone
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush() // the client may be gone
	}
	// After an answer 101 the body is the connection, of which no timeout of net/http's ends a read.
	switches := func(w http.ResponseWriter, _ *http.Request) {
		_ = testserver.SwitchProtocols(w) // the client closes it
	}
	handlers := map[string]struct {
		handler http.HandlerFunc
		want    oidc.Kind
	}{
		"500": {status(500), oidc.Unavailable}, "502": {status(502), oidc.Unavailable}, "503": {status(503), oidc.Unavailable}, "429": {status(429), oidc.Unavailable},
		"404": {status(404), oidc.BadAnswer}, "400": {status(400), oidc.BadAnswer}, "302": {status(302), oidc.BadAnswer}, "101": {switches, oidc.BadAnswer},
		"HTML": {body("<html>"), oidc.BadAnswer}, "a text": {body(`"x"`), oidc.BadAnswer}, "nothing": {body(""), oidc.BadAnswer},
		"too long":            {body(strings.Repeat(" ", 300<<10) + "{}"), oidc.BadAnswer},
		"nothing at all":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, oidc.Unavailable},
		"the end is missing":  {func(w http.ResponseWriter, r *http.Request) { begun(w, r); panic(http.ErrAbortHandler) }, oidc.Unavailable},
		"stalls, the headers": {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, oidc.Unavailable},
		"stalls, the body":    {func(w http.ResponseWriter, r *http.Request) { begun(w, r); <-r.Context().Done() }, oidc.Unavailable},
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/token", "/userinfo"} {
		for name, tt := range handlers {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				p := oidctest.New(t)
				p.Edit(func(b *oidctest.Behaviour) { b.Handlers[path] = tt.handler })
				timeout := time.Minute
				if strings.HasPrefix(name, "stalls") {
					timeout = 200 * time.Millisecond // a request before it that takes longer is Unavailable too
				}
				_, err := login(t, newClient(t, p, func(o *oidc.Options) { o.Timeout = timeout }), oidc.Wanted{})
				require.Error(t, err)
				assert.Equal(t, tt.want, kindOf(t, err), "%v", err)
			})
		}
	}
}

// A failure says that an answer was too long also where a library tells only a text of its own.
func TestAnswersThatAreTooLong(t *testing.T) {
	for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/token", "/userinfo"} {
		t.Run(path, func(t *testing.T) {
			p := oidctest.New(t)
			p.Edit(func(b *oidctest.Behaviour) {
				b.Handlers[path] = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte(strings.Repeat(" ", 300<<10) + "{}"))
				}
			})
			_, err := login(t, newClient(t, p, nil), oidc.Wanted{})
			require.Error(t, err)
			assert.Equal(t, oidc.BadAnswer, kindOf(t, err))
			assert.Contains(t, err.Error(), "the answer is too long")
		})
	}
}
