package httpsession_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
)

func TestInformational(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		assert.NoError(t, httpsession.Get(r).Authenticate("u"), "the header has not left")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "body")
	}, nil)
	var got []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		assert.Equal(t, "</style.css>", header.Get("Link"))
		assert.Empty(t, header["Set-Cookie"])
		got = append(got, code)
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, "GET", s.url, http.NoBody)
	require.NoError(t, err)
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, []int{103, 102}, got)
	assert.Equal(t, 201, resp.StatusCode)
	s.shows(reply{header: resp.Header}.token(), "u ")
}

// A status that is none panics in net/http, and a panic persists nothing.
func TestNoStatus(t *testing.T) {
	for _, status := range []int{-1, 0, 99, 1000} {
		s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
			assert.Panics(t, func() { w.WriteHeader(status) })
			panic(http.ErrAbortHandler)
		}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { _ = recover() }()
				next.ServeHTTP(w, r)
			})
		})
		s.get("/", "")
		assert.Zero(t, s.store.called("Create"), status)
	}
}

// A flush that the writer below cannot do sends nothing, so that a login is still possible.
func TestFlushOfAWriterThatCannot(t *testing.T) {
	s := newSiteWith(t, func(w http.ResponseWriter, r *http.Request) {
		assert.ErrorIs(t, http.NewResponseController(w).Flush(), http.ErrNotSupported)
		w.(http.Flusher).Flush()
		assert.NoError(t, httpsession.Get(r).Authenticate("u"))
		_, _ = io.WriteString(w, "body")
		assert.ErrorIs(t, http.NewResponseController(w).Flush(), http.ErrNotSupported)
	}, func(next http.Handler) http.Handler { return http.TimeoutHandler(next, time.Minute, "") }, func(*httptest.Server) {})
	s.shows(s.get("/", "").token(), "u ")

	// So it is through another middleware of sessions, which has a Flush of its own.
	outer, err := httpsession.New(newStore(t), httpsession.Config{Cookie: httpsession.Cookie{Name: "outer", Insecure: true}})
	require.NoError(t, err)
	inner, err := httpsession.New(newStore(t), httpsession.Config{Cookie: httpsession.Cookie{Name: "inner", Insecure: true}})
	require.NoError(t, err)
	w := struct{ http.ResponseWriter }{httptest.NewRecorder()} // hides the recorder's Flush
	outer(inner(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.ErrorIs(t, http.NewResponseController(w).Flush(), http.ErrNotSupported)
		assert.NoError(t, httpsession.Named(r, "outer").Authenticate("u"))
		assert.NoError(t, httpsession.Named(r, "inner").Authenticate("u"))
	}))).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", http.NoBody))
	assert.Len(t, w.Header()["Set-Cookie"], 2)
}

func TestAfterTheHeader(t *testing.T) {
	const notRotated = `msg="the session's token was not rotated, its changes were persisted" error="the response's header has been sent`
	for name, c := range map[string]struct {
		stored bool // there is a session when the request begins
		change func(t *testing.T, r *http.Request)
		shows  string
		logs   string
	}{
		"a value": {true, func(t *testing.T, r *http.Request) {
			assert.NoError(t, httpsession.Get(r).Insert("v", "late"))
		}, "u late", ""},
		"a value and its commit": {true, func(t *testing.T, r *http.Request) {
			assert.NoError(t, errors.Join(httpsession.Get(r).Insert("v", "late"), httpsession.Get(r).Commit(r.Context())))
		}, "u late", ""},
		"an end": {true, func(_ *testing.T, r *http.Request) { httpsession.Get(r).Destroy() }, " ", ""},
		"a rotation": {true, func(t *testing.T, r *http.Request) {
			httpsession.Get(r).Rotate()
			assert.ErrorIs(t, httpsession.Get(r).Commit(r.Context()), coatcheck.ErrHeaderSent)
		}, "u ", ""},
		"a rotation that nobody asked about": {true, func(_ *testing.T, r *http.Request) { httpsession.Get(r).CycleID() }, "u ", notRotated},
		"a rotation, and a value": {true, func(t *testing.T, r *http.Request) {
			httpsession.Get(r).Rotate()
			assert.NoError(t, httpsession.Get(r).Insert("v", "late"))
		}, "u late", notRotated},
		"a login": {true, func(t *testing.T, r *http.Request) {
			assert.ErrorIs(t, httpsession.Get(r).Authenticate("v"), coatcheck.ErrHeaderSent)
		}, "u ", ""},
		"a new session": {false, func(t *testing.T, r *http.Request) {
			assert.ErrorIs(t, httpsession.Get(r).Insert("v", "late"), coatcheck.ErrHeaderSent)
		}, " ", ""},
		"a new session after an end": {true, func(t *testing.T, r *http.Request) {
			httpsession.Get(r).Destroy()
			assert.ErrorIs(t, httpsession.Get(r).Insert("v", "late"), coatcheck.ErrHeaderSent)
		}, " ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "begin ")
				assert.NoError(t, http.NewResponseController(w).Flush())
				c.change(t, r)
				_, _ = io.WriteString(w, "end")
			}, nil)
			cookie := ""
			if c.stored {
				cookie = s.login("u")
			}
			answer := s.get("/", cookie)
			assert.Equal(t, 200, answer.status)
			assert.Equal(t, "begin end", answer.body)
			assert.Empty(t, answer.header.Values("Set-Cookie"))
			s.shows(cookie, c.shows)
			if c.logs == "" {
				assert.Empty(t, s.log.String())
			} else {
				assert.Contains(t, s.log.String(), c.logs)
			}
		})
	}
}

// An audit event is written when the header leaves, and not once more at the end.
func TestOneEvent(t *testing.T) {
	log := new(testoutput.Buffer)
	wrap, err := httpsession.New(newStore(t), httpsession.Config{
		Policy: coatcheck.Policy{MaxPerUser: 1}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	require.NoError(t, err)
	for range 2 {
		wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, httpsession.Get(r).Authenticate("u"))
			w.WriteHeader(http.StatusOK)
			assert.NoError(t, httpsession.Get(r).Insert("v", "late"))
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "POST", "/", http.NoBody))
	}
	assert.Equal(t, 1, strings.Count(log.String(), "reason=limit"), log)
}

// When the commit at the end fails the answer stands, and the log has it.
func TestLateCommitFails(t *testing.T) {
	var s *site
	s = newSite(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Insert("v", "early"))
		_, _ = io.WriteString(w, "the answer")
		assert.NoError(t, httpsession.Get(r).Insert("v", "late"))
		s.store.fail("Swap")
	}, nil)
	cookie := s.login("u")
	answer := s.get("/", cookie)
	assert.Equal(t, 200, answer.status)
	assert.Equal(t, "the answer", answer.body)
	s.eventuallyLogs("store_error")
	s.store.fail()
	s.shows(cookie, "u early")
}

// A body that has no first byte sends nothing, as with net/http itself: the handler may still answer in another way.
func TestSourceWithoutAByte(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(w, onlyReader{strings.NewReader("")})
		assert.NoError(t, err)
		assert.Zero(t, n)
		_, err = io.Copy(w, brokenReader{})
		assert.ErrorIs(t, err, os.ErrClosed)
		n, err = io.Copy(w, &resumingReader{text: "nobody asked for more"})
		assert.NoError(t, err)
		assert.Zero(t, n)
		assert.NoError(t, httpsession.Get(r).Authenticate("u"))
		w.WriteHeader(http.StatusAccepted)
	}, nil)
	answer := s.get("/", "")
	assert.Equal(t, 202, answer.status)
	assert.Empty(t, answer.body)
	s.shows(answer.token(), "u ")
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, os.ErrClosed }

// resumingReader has more after an end, as a terminal has.
type resumingReader struct {
	text   string
	resume bool
}

func (r *resumingReader) Read(p []byte) (int, error) {
	if !r.resume {
		r.resume = true
		return 0, io.EOF
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// sources is a listener whose connections note what net/http hands them to send on its own.
type sources struct {
	net.Listener

	mu   sync.Mutex
	seen []string // guarded by mu
}

type sourceConn struct {
	net.Conn
	of *sources
}

func (l *sources) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &sourceConn{conn, l}, err
}

func (c *sourceConn) ReadFrom(src io.Reader) (int64, error) {
	c.of.mu.Lock()
	kind := fmt.Sprintf("%T", src)
	if limited, ok := src.(*io.LimitedReader); ok {
		kind += fmt.Sprintf(" of %T", limited.R)
	}
	c.of.seen = append(c.of.seen, kind)
	c.of.mu.Unlock()
	return io.Copy(c.Conn, src)
}

// A file reaches the connection as a file, so that the system can send it (sendfile), with the same type as without the middleware.
func TestSendfile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, bytes.Repeat([]byte("x"), 1<<20), 0o600))
	handlers := map[string]http.HandlerFunc{
		"ServeFile": func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) },
		"io.Copy": func(w http.ResponseWriter, _ *http.Request) {
			f, err := os.Open(name) //nolint:gosec // its own
			assert.NoError(t, err)
			defer f.Close() //nolint:errcheck // only read
			w.Header().Set("Content-Length", "1048576")
			_, _ = io.Copy(w, f)
		},
	}
	for way, handler := range handlers {
		kinds := map[string][]string{}
		wrap, err := httpsession.New(newStore(t), httpsession.Config{})
		require.NoError(t, err)
		for which, h := range map[string]http.Handler{"bare": handler, "wrapped": wrap(handler)} {
			server := httptest.NewUnstartedServer(h)
			listener := &sources{Listener: server.Listener}
			server.Listener = listener
			server.Start()
			resp, err := server.Client().Get(server.URL) //nolint:noctx // it ends with the server
			require.NoError(t, err)
			n, err := io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, int64(1<<20), n)
			server.Close()
			kinds[which] = listener.seen
		}
		assert.NotEmpty(t, kinds["bare"], way)
		assert.Equal(t, kinds["bare"], kinds["wrapped"], way)
	}
}

// What net/http offers beside writing is there, and what the writer below has not is not.
func TestResponseController(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		assert.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		assert.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Minute)))
		assert.NoError(t, c.EnableFullDuplex())
		assert.NoError(t, c.Flush())
	}, nil)
	s.get("/", "")

	wrap, err := httpsession.New(newStore(t), httpsession.Config{})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		assert.ErrorIs(t, c.Flush(), http.ErrNotSupported)
		assert.ErrorIs(t, c.SetReadDeadline(time.Time{}), http.ErrNotSupported)
		_, _, err := c.Hijack()
		assert.ErrorIs(t, err, http.ErrNotSupported)
	})).ServeHTTP(struct{ http.ResponseWriter }{w}, httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody))
	assert.Equal(t, 200, w.Code)
}
