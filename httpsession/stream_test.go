package httpsession_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
)

// A stream of events begins a session with its first byte, reads it while it runs, and changes it without a cookie. Afterwards
// what it kept is detached.
func TestEvents(t *testing.T) {
	for version, serve := range map[string]func(*testing.T, http.HandlerFunc, func(http.Handler) http.Handler) *site{"HTTP/1.1": newSite, "HTTP/2": newSite2} {
		t.Run(version, func(t *testing.T) {
			more, ended := make(chan struct{}), make(chan *coatcheck.Session, 1)
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				session := httpsession.Get(r)
				assert.NoError(t, session.Insert("v", "begun"))
				w.Header().Set("Content-Type", "text/event-stream")
				out := http.NewResponseController(w)
				for range more {
					v, err := coatcheck.Get[string](session, "v")
					_, _ = fmt.Fprintf(w, "data: %s %s %v\n\n", session.UserID(), v, err)
					assert.NoError(t, out.Flush())
				}
				assert.NoError(t, session.Insert("v", "ended"))
				go func() { ended <- session }()
			}, nil)
			cookie := s.login("u")
			go func() { more <- struct{}{} }()
			req, err := http.NewRequestWithContext(t.Context(), "GET", s.url, http.NoBody)
			require.NoError(t, err)
			req.Header.Set("Cookie", cookie)
			resp, err := s.client.Do(req)
			require.NoError(t, err)
			assert.Equal(t, cookie, reply{header: resp.Header}.token())
			lines := bufio.NewReader(resp.Body)
			for range 3 {
				line, err := lines.ReadString('\n')
				require.NoError(t, err)
				assert.Equal(t, "data: u begun <nil>\n", line)
				_, err = lines.ReadString('\n')
				require.NoError(t, err)
				s.shows(cookie, "u begun", "it was stored before the first byte")
				more <- struct{}{}
			}
			close(more)
			_, err = io.Copy(io.Discard, lines)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			s.shows(cookie, "u ended")
			kept := <-ended
			assert.Empty(t, kept.UserID())
			assert.ErrorIs(t, kept.Insert("v", "late"), coatcheck.ErrDetached)
		})
	}
}

// upgrade asks for another protocol and returns the answer, whose body is what follows it.
func (s *site) upgrade(path, cookie string) reply {
	s.Helper()
	conn, err := new(net.Dialer).DialContext(s.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(s, err)
	defer conn.Close() //nolint:errcheck // it was read
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nCookie: %s\r\n\r\n", path, cookie)
	require.NoError(s, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(s, err)
	defer resp.Body.Close() //nolint:errcheck // it was read
	var rest io.Reader = in
	if resp.StatusCode != http.StatusSwitchingProtocols {
		rest = resp.Body
	}
	text, err := io.ReadAll(rest)
	require.NoError(s, err)
	return reply{resp.StatusCode, resp.Header, string(text)}
}

// talk is what an upgraded connection does: it says something, and the handler changes the session.
func talk(t *testing.T, r *http.Request, conn net.Conn, buf *bufio.ReadWriter) {
	defer conn.Close() //nolint:errcheck // the client reads to the end
	s := httpsession.Get(r)
	assert.ErrorIs(t, s.Authenticate("v"), coatcheck.ErrHeaderSent)
	_, _ = buf.WriteString("hello " + s.UserID())
	assert.NoError(t, buf.Flush())
	assert.NoError(t, s.Insert("v", "talked"))
}

// upgrades are the ways in which handlers take a connection over.
func upgrades(t *testing.T) map[string]http.HandlerFunc {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Upgrade", "echo")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			_, _ = conn.Write([]byte("hello u"))
			_ = conn.Close()
		}
	}))
	t.Cleanup(backend.Close)
	target, err := url.Parse(backend.URL)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: &http.Transport{DisableKeepAlives: true}}
	hijack := func(w http.ResponseWriter, r *http.Request, header func(http.Header, io.Writer)) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			http.Error(w, "cannot upgrade", http.StatusInternalServerError) // as libraries do
			return
		}
		header(w.Header(), buf)
		talk(t, r, conn, buf)
	}
	return map[string]http.HandlerFunc{
		// As github.com/gorilla/websocket, given w.Header(), and others that write the answer themselves.
		"written by the library": func(w http.ResponseWriter, r *http.Request) {
			hijack(w, r, func(h http.Header, out io.Writer) {
				_, _ = io.WriteString(out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n")
				_ = h.Write(out)
				_, _ = io.WriteString(out, "\r\n")
			})
		},
		// As github.com/coder/websocket.
		"after WriteHeader": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", "echo")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			hijack(w, r, func(http.Header, io.Writer) {})
		},
		"passed on": func(w http.ResponseWriter, r *http.Request) {
			proxy.ServeHTTP(w, r)
			_ = httpsession.Get(r).Insert("v", "talked")
		},
	}
}

func TestUpgrade(t *testing.T) {
	for name, handler := range upgrades(t) {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/rotate" {
					httpsession.Get(r).Rotate()
				}
				handler(w, r)
			}, nil)
			first := s.login("u")
			answer := s.upgrade("/", first)
			assert.Equal(t, 101, answer.status)
			assert.Equal(t, "hello u", answer.body)
			assert.Empty(t, answer.header["Set-Cookie"])
			s.eventuallyShows(first, "u talked")

			next := s.upgrade("/rotate", first).token()
			require.NotEmpty(t, next, "the new cookie goes out with the 101")
			assert.NotEqual(t, first, next)
			s.shows(next, "u talked")
		})
	}
}

// CASES.md, B10: an upgrade whose commit fails does not happen.
func TestUpgradeFails(t *testing.T) {
	for name, handler := range upgrades(t) {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				assert.NoError(t, httpsession.Get(r).Insert("v", "upgrading"))
				handler(w, r)
			}, secured)
			cookie := s.login("u")
			s.store.fail("Swap")
			answer := s.upgrade("/", cookie)
			s.store.fail()
			assert.Equal(t, 503, answer.status)
			assert.Contains(t, answer.body, "store_unavailable")
			assert.NotContains(t, answer.body, "hello")
			assert.Empty(t, answer.header["Upgrade"])
			assert.Equal(t, "7", answer.header.Get("X-Request-Id"))
			assert.Equal(t, []string{"outer=1", "outer2=2"}, answer.header["Set-Cookie"])
			s.shows(cookie, "u ")
		})
	}
}

// Over HTTP/2 no connection can be taken over; the handler answers in another way, with one cookie.
func TestUpgradeNotSupported(t *testing.T) {
	s := newSite2(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "HTTP/2.0", r.Proto)
		httpsession.Get(r).Rotate()
		_, _, err := w.(http.Hijacker).Hijack()
		assert.ErrorIs(t, err, http.ErrNotSupported)
		assert.NoError(t, httpsession.Get(r).Authenticate("v"), "the header has not left")
		http.Error(w, "no upgrade", http.StatusNotImplemented)
	}, nil)
	first := s.login("u")
	answer := s.get("/", first)
	assert.Equal(t, 501, answer.status)
	require.Len(t, answer.header["Set-Cookie"], 1)
	s.shows(answer.token(), "v ")
	s.shows(first, " ")
}
