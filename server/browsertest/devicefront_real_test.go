//go:build real

package browsertest_test

import (
	"crypto/sha1" //nolint:gosec // RFC 6455, section 1.3, asks for it
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
)

// front stands before the nodes, and has an application that shares their stores: /auth/ leads to the nodes, another one for
// each request, and /app/ to the application. It can hold requests on their way, and answer in place of the nodes.
type front struct {
	n    *nodes
	next http.Handler

	mu      sync.Mutex
	came    map[string]int           // guarded by mu: requests, by path
	held    map[string]chan struct{} // guarded by mu: closed when the path's requests may go on
	seen    map[string]string        // guarded by mu: who sent what asks for no answer, by path
	last    string                   // guarded by mu: the last challenge that a login has offered
	refused int                      // guarded by mu: the status in place of the answer to a refresh; 0: none
}

// front puts one before the nodes.
func (n *nodes) front() *front {
	n.Helper()
	f := &front{n: n, came: map[string]int{}, held: map[string]chan struct{}{}, seen: map[string]string{}}
	nodes, err := url.Parse("https://127.0.0.1:" + n.direct)
	require.NoError(n, err)
	mux := http.NewServeMux()
	mux.Handle("/app/", n.application(f.routes()))
	mux.Handle("/auth/", &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(nodes)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: f.reads,
		Transport:      believing(),
		ErrorLog:       log.New(io.Discard, "", 0), // browsers give requests up
	})
	f.next = mux
	n.serve(f)
	return f
}

// serve serves a handler in place of the nodes, with their certificate.
func (n *nodes) serve(h http.Handler) {
	n.Helper()
	srv := &http.Server{Handler: h, TLSConfig: n.tls(), ErrorLog: log.New(io.Discard, "", 0)} //nolint:gosec // of a test
	ln := tls.NewListener(n.listen(), srv.TLSConfig)
	var served sync.WaitGroup
	served.Go(func() { assert.ErrorIs(n, srv.Serve(ln), http.ErrServerClosed) })
	n.Cleanup(func() {
		assert.NoError(n, srv.Close())
		served.Wait()
	})
}

// application is a handler behind the session middleware, once for each of the nodes' stores, which take turns.
func (n *nodes) application(h http.Handler) http.Handler {
	n.Helper()
	turns := make(chan http.Handler, len(n.stores))
	for _, s := range n.stores {
		cfg := httpsession.Config{DBSC: "/auth/dbsc", Logger: n.logger(), Policy: coatcheck.Policy{Now: n.clock.now}}
		wrap, err := httpsession.New(s, cfg)
		require.NoError(n, err)
		turns <- wrap(h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next := <-turns
		turns <- next
		next.ServeHTTP(w, r)
	})
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.came[r.URL.Path]++
	held, refused := f.held[r.URL.Path], f.refused
	f.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	if refused != 0 && r.URL.Path == "/auth/dbsc/refresh" {
		w.WriteHeader(refused)
		return
	}
	f.next.ServeHTTP(w, r)
}

// hold keeps the requests for a path on their way until release is called.
func (f *front) hold(path string) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := make(chan struct{})
	f.held[path] = held
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.held, path)
		close(held)
	}
}

// refreshesAnswer makes refreshes answer with a status, until it is 0.
func (f *front) refreshesAnswer(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = status
}

// arrived returns how many requests for a path have come.
func (f *front) arrived(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.came[path]
}

// reads is what a thief on the way could read.
func (f *front) reads(r *http.Response) error {
	if _, text, ok := strings.Cut(r.Header.Get("Secure-Session-Registration"), `challenge="`); ok {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.last = strings.TrimSuffix(text, `"`)
	}
	return nil
}

// offered returns the challenge that the last login has offered.
func (f *front) offered() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// sender returns who sent the last request of those that ask for no answer, and what it was.
func (f *front) sender(path string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[path]
}

// routes are the application's.
func (f *front) routes() http.Handler {
	mux := http.NewServeMux()
	page := func(path, html string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, html)
		})
	}
	page("/app/page", `<form method="post" action="/app/form"><input name="text" value="a plain form"><button>go</button></form>`)
	who := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(f.n, err)
		_, _ = fmt.Fprintf(w, `"user_id":"%s" %d bytes %s`, httpsession.Get(r).UserID(), len(body), r.Header.Get("X-Worker"))
	}
	for _, path := range []string{"GET /app/who", "GET /app/late", "POST /app/large", "POST /app/form"} {
		mux.HandleFunc(path, who)
	}
	for _, path := range []string{"POST /app/beacon", "GET /app/picture"} {
		mux.HandleFunc(path, func(_ http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.seen[r.URL.Path] = "by " + httpsession.Get(r).UserID()
		})
	}
	mux.HandleFunc("GET /app/socket", f.socket)
	mux.HandleFunc("GET /app/worker.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = io.WriteString(w, `self.addEventListener("activate", (e) => e.waitUntil(clients.claim()));
			self.addEventListener("fetch", (e) => {
				if (new URL(e.request.url).pathname === "/app/through")
					e.respondWith(fetch("/app/who", {headers: {"X-Worker": "by the worker"}}));
			});`)
	})
	return mux
}

// socket is a WebSocket (RFC 6455) that says who has opened it.
func (f *front) socket(w http.ResponseWriter, r *http.Request) {
	text := fmt.Sprintf(`"user_id":"%s"`, httpsession.Get(r).UserID())
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // section 4.2.2
	conn, buf, err := http.NewResponseController(w).Hijack()
	if !assert.NoError(f.n, err) {
		return
	}
	_, _ = fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n\x81%c%s\x88\x00",
		base64.StdEncoding.EncodeToString(sum[:]), len(text), text)
	_ = buf.Flush()
	_, _ = io.Copy(io.Discard, buf) // until the browser closes
	_ = conn.Close()
}
