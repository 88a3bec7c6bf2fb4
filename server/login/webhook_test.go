package login_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testserver"
	"github.com/coatcheck/coatcheck/server/internal/loopback"
	"github.com/coatcheck/coatcheck/server/login"
)

func newWebhook(t *testing.T, address string, opt login.WebhookOptions) *login.Webhook {
	t.Helper()
	w, err := login.NewWebhook(address, opt)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

func TestWebhookAddress(t *testing.T) {
	for _, good := range []string{
		"https://auth.example.com/login", "https://auth.example.com:8443", "https://u:p@auth.example.com/?k=v", "HTTPS://auth.example.com/",
		"http://127.0.0.1:9000/login", "http://127.8.9.1/", "http://[::1]:9000/", "http://localhost/", "http://[::ffff:127.0.0.1]/",
	} {
		_, err := login.NewWebhook(good, login.WebhookOptions{})
		assert.NoError(t, err, good)
	}
	for _, bad := range []string{
		"", "auth.example.com/login", "//auth.example.com", "https://", "https:///login", "ftp://u:hunter2@auth.example.com", "unix:///run/x",
		"http://auth.example.com/?k=hunter2", "http://u:hunter2@10.0.0.1/login", "http://0.0.0.0/", "http://localhost.example.com/", "http://127.0.0.1.example.com/",
		"http://u:hunter2@ex ample/", "https://u:hunter2@auth.example.com:port/", "https://auth.example.com/#hunter2", "https://auth.example.com/%zz?hunter2",
		"http://auth.example.com/hook/hunter2", "ftp://auth.example.com/hunter2", "https:///hunter2", "https:hunter2", "hunter2", "https://auth.example.com/hunter2#x",
	} {
		_, err := login.NewWebhook(bad, login.WebhookOptions{})
		require.Error(t, err, bad)
		assert.NotContains(t, err.Error(), "hunter2")
	}
	_, err := login.NewWebhook("http://u:hunter2@10.0.0.1/login", login.WebhookOptions{})
	assert.ErrorContains(t, err, `"http://10.0.0.1"`)
	_, err = login.NewWebhook("https://auth.example.com", login.WebhookOptions{Timeout: -1})
	assert.Error(t, err)
}

// backEnd answers every request with the handler, and is gone with the test.
func backEnd(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestWebhookRequest(t *testing.T) {
	const body = `{"user_id":"Ann", "password":"pass"}`
	s := backEnd(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		user, pass, _ := r.BasicAuth()
		if err != nil || r.Method != http.MethodPost || r.URL.RequestURI() != "/login?k=v" || string(got) != body ||
			r.Header.Get("Content-Type") != "application/json" || user != "u" || pass != "p" || r.ContentLength != int64(len(body)) {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, `{"user_id":"user-42"}`)
	})
	w := newWebhook(t, strings.Replace(s.URL, "://", "://u:p@", 1)+"/login?k=v", login.WebhookOptions{})
	user, err := w.Check(t.Context(), &login.Attempt{UserID: "Ann", Body: []byte(body), Authorization: []byte("Bearer of the client")})
	require.NoError(t, err)
	assert.Equal(t, "user-42", user)
}

func TestWebhookAnswers(t *testing.T) {
	other := backEnd(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"user_id":"redirected"}`) })
	padded := func(n int) string { return `{"user_id":"ann"}` + strings.Repeat(" ", n-len(`{"user_id":"ann"}`)) }
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   string
		err    error
	}{
		{name: "in", body: `{"user_id":"ann"}`, want: "ann"},
		{name: "in, with more", body: ` {"name":"Ann","user_id":"ann","groups":[{"user_id":"x"}],"USER_ID":"y"} ` + "\n", want: "ann"},
		{name: "in, longest name", body: `{"user_id":"` + strings.Repeat("n", 256) + `"}`, want: strings.Repeat("n", 256)},
		{name: "in, largest answer", body: padded(16384), want: "ann"},
		{name: "in, escapes", body: `{"user_id":"\ud83d\ude00 \u00fc"}`, want: "😀 ü"},
		{name: "in, U+FFFD", body: "{\"user_id\":\"a\ufffd\\ufffd\"}", want: "a\ufffd\ufffd"},
		{name: "refused", status: 401, err: login.ErrRefused},
		{name: "refused, with a name", status: 401, body: `{"user_id":"ann"}`, err: login.ErrRefused},
		{name: "refused at length", status: 401, body: padded(1 << 20), err: login.ErrRefused},

		{name: "201", status: 201, body: `{"user_id":"ann"}`},
		{name: "204", status: 204},
		{name: "301", status: 301},
		{name: "302", status: 302},
		{name: "307", status: 307},
		{name: "308", status: 308},
		{name: "400", status: 400},
		{name: "403", status: 403},
		{name: "404", status: 404},
		{name: "429", status: 429},
		{name: "500", status: 500, body: `{"user_id":"ann"}`},
		{name: "503", status: 503},
		{name: "nothing", body: ""},
		{name: "not JSON", body: "<html>"},
		{name: "not an object", body: `"ann"`},
		{name: "an array", body: `[{"user_id":"ann"}]`},
		{name: "cut off", body: `{"user_id":"ann"`},
		{name: "two", body: `{"user_id":"ann"}{"user_id":"bob"}`},
		{name: "text behind", body: `{"user_id":"ann"}x`},
		{name: "twice", body: `{"user_id":"ann","user_id":"bob"}`},
		{name: "twice, once escaped", body: `{"user_id":"ann","user\u005fid":"bob"}`},
		{name: "twice, once null", body: `{"user_id":null,"user_id":"bob"}`},
		{name: "another case", body: `{"User_ID":"ann"}`},
		{name: "no name", body: `{}`},
		{name: "null", body: `{"user_id":null}`},
		{name: "a number", body: `{"user_id":42}`},
		{name: "empty", body: `{"user_id":""}`},
		{name: "too long", body: `{"user_id":"` + strings.Repeat("n", 257) + `"}`},
		{name: "control character", body: `{"user_id":"a\u0000"}`},
		{name: "C1 control character", body: `{"user_id":"a\u0085"}`},
		{name: "lone surrogate", body: `{"user_id":"a\ud800"}`},
		{name: "not UTF-8", body: "{\"user_id\":\"a\xff\"}"},
		{name: "too large", body: padded(16385)},
		{name: "far too large", body: padded(1 << 20)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := backEnd(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", other.URL)
				if tc.status != 0 {
					w.WriteHeader(tc.status)
				}
				_, _ = io.WriteString(w, tc.body)
			})
			user, err := newWebhook(t, s.URL, login.WebhookOptions{}).Check(t.Context(), &login.Attempt{Body: []byte(`{}`)})
			if tc.want != "" {
				require.NoError(t, err)
				assert.Equal(t, tc.want, user)
				return
			}
			if tc.err == nil {
				tc.err = login.ErrUnavailable
			}
			assert.ErrorIs(t, err, tc.err)
			assert.Empty(t, user)
			assert.NotContains(t, err.Error(), s.URL)
		})
	}
}

// stuckBackEnd begins an answer, or not, and does not finish it before the test ends.
func stuckBackEnd(t *testing.T, begin func(http.ResponseWriter)) *httptest.Server {
	t.Helper()
	over := make(chan struct{})
	s := backEnd(t, func(w http.ResponseWriter, _ *http.Request) {
		begin(w)
		<-over
	})
	t.Cleanup(func() { close(over) }) // before the server is closed, which waits for the handler
	return s
}

func TestWebhookTimeout(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){"no answer": func(http.ResponseWriter) {}, "half of one": half} {
		t.Run(name, func(t *testing.T) {
			s := stuckBackEnd(t, begin)
			w := newWebhook(t, s.URL+"/?k=hunter2", login.WebhookOptions{Timeout: 50 * time.Millisecond})
			_, err := w.Check(t.Context(), &login.Attempt{Body: []byte(`{}`)})
			require.ErrorIs(t, err, login.ErrUnavailable)
			assert.NotContains(t, err.Error(), "hunter2")

			w = newWebhook(t, s.URL, login.WebhookOptions{})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = w.Check(ctx, &login.Attempt{Body: []byte(`{}`)})
			require.ErrorIs(t, err, login.ErrUnavailable)
		})
	}
}

// After an answer 101 nothing of net/http's ends a read: the body is the connection, which is another protocol's.
func TestWebhookThatSwitchesProtocols(t *testing.T) {
	closed := make(chan error, 1)
	s := backEnd(t, func(w http.ResponseWriter, _ *http.Request) {
		closed <- testserver.SwitchProtocols(w)
	})
	w := newWebhook(t, s.URL, login.WebhookOptions{})
	result := make(chan error, 1)
	go func() {
		_, err := w.Check(t.Context(), &login.Attempt{Body: []byte(`{}`)})
		result <- err
	}()
	select {
	case err := <-result:
		require.ErrorIs(t, err, login.ErrUnavailable)
		assert.ErrorContains(t, err, "it answered 101")
	case <-time.After(time.Minute):
		require.Fail(t, "the login hangs")
	}
	require.NoError(t, <-closed, "the connection is closed")
}

// A refusal counts as soon as its status has come, whatever becomes of the rest of the answer.
func TestWebhookRefusesAtOnce(t *testing.T) {
	s := stuckBackEnd(t, func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusUnauthorized)
		half(w)
	})
	for timeout := 100 * time.Millisecond; ; timeout *= 2 { // longer where a machine is so slow that not even the status came in time
		w := newWebhook(t, s.URL, login.WebhookOptions{Timeout: timeout})
		_, err := w.Check(t.Context(), &login.Attempt{Body: []byte(`{}`)})
		if errors.Is(err, login.ErrRefused) {
			return
		}
		require.ErrorIs(t, err, login.ErrUnavailable)
		require.Less(t, timeout, time.Minute, "the login is never refused")
	}
}

func half(w http.ResponseWriter) {
	_, _ = io.WriteString(w, `{"user_`)
	_ = http.NewResponseController(w).Flush()
}

func TestWebhookDown(t *testing.T) {
	s := backEnd(t, nil)
	address := strings.Replace(s.URL, "://", "://u:hunter2@", 1)
	s.Close()
	_, err := newWebhook(t, address, login.WebhookOptions{}).Check(t.Context(), &login.Attempt{})
	require.ErrorIs(t, err, login.ErrUnavailable)
	assert.NotContains(t, err.Error(), "hunter2")
}

// tlsBackEnd lets everybody in.
func tlsBackEnd(t *testing.T, cfg *tls.Config) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"user_id":"ann"}`) }))
	s.TLS = cfg
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestWebhookTLS(t *testing.T) {
	s := tlsBackEnd(t, new(tls.Config))
	_, err := newWebhook(t, s.URL, login.WebhookOptions{}).Check(t.Context(), &login.Attempt{})
	require.ErrorIs(t, err, login.ErrUnavailable, "a certificate of an unknown authority")

	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	user, err := newWebhook(t, s.URL, login.WebhookOptions{RootCAs: roots}).Check(t.Context(), &login.Attempt{})
	require.NoError(t, err)
	assert.Equal(t, "ann", user)
}

func TestWebhookOldTLS(t *testing.T) {
	s := tlsBackEnd(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	_, err := newWebhook(t, s.URL, login.WebhookOptions{RootCAs: roots}).Check(t.Context(), &login.Attempt{})
	assert.ErrorIs(t, err, login.ErrUnavailable)
}

// A proxy that the environment names would see passwords. net/http reads the environment once in a process, and never uses a proxy
// for loopback, so this test looks at the transport.
func TestWebhookHasNoProxy(t *testing.T) {
	assert.Nil(t, newWebhook(t, "https://auth.example.com", login.WebhookOptions{}).Transport().Proxy)
}

// A resolver may give any address for localhost; a password in clear text goes to loopback only.
func TestWebhookConnectsToLoopbackOnly(t *testing.T) {
	_, err := newWebhook(t, "http://localhost/login", login.WebhookOptions{}).Transport().DialContext(t.Context(), "tcp", "192.0.2.1:80")
	assert.ErrorIs(t, err, loopback.ErrNotLoopback)
}

func TestWebhookReusesConnections(t *testing.T) {
	answers := 0
	s := backEnd(t, func(w http.ResponseWriter, _ *http.Request) {
		if answers++; answers%2 == 0 {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `{"user_id":"ann"}`)
	})
	w := newWebhook(t, s.URL, login.WebhookOptions{})
	var reused []bool
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = append(reused, c.Reused) }})
	for range 4 {
		_, err := w.Check(ctx, &login.Attempt{Body: []byte(`{}`)})
		if err != nil {
			require.ErrorIs(t, err, login.ErrRefused)
		}
	}
	assert.Equal(t, []bool{false, true, true, true}, reused)
}

// Once a user has logged in by a name, the mode knows beforehand which user the name stands for. Then the server can tell that all
// of the user's sessions were ended before a login began, and does not refuse that login.
func TestWebhookLearnsNames(t *testing.T) {
	user := "42"
	w := newWebhook(t, backEnd(t, func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		if strings.Contains(string(body), "refused") {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, err = io.WriteString(rw, `{"user_id":"`+user+`"}`)
		assert.NoError(t, err)
	}).URL, login.WebhookOptions{})
	check := func(name string) {
		_, err := w.Check(t.Context(), &login.Attempt{UserID: name, Body: []byte(`{"user_id":"` + name + `"}`)})
		if name != "refused" {
			require.NoError(t, err)
		}
	}
	userOf := func(name string) string { return w.UserOf(&login.Attempt{UserID: name}) }
	assert.Equal(t, "a@example.com", userOf("a@example.com"))
	check("a@example.com")
	assert.Equal(t, "42", userOf("a@example.com"))
	assert.Equal(t, "b@example.com", userOf("b@example.com"))
	check("refused")
	assert.Equal(t, "refused", userOf("refused"))
	user = "43"
	check("a@example.com")
	assert.Equal(t, "43", userOf("a@example.com"), "an address may change hands")
}
