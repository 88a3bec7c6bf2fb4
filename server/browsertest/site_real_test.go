//go:build real

package browsertest_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// site is a server under test.
type site struct {
	store *store
	clock *clock
	port  string
}

// url is where the site with TLS is; http is the one without, by a name of one's choice: all lead there.
func (s *site) url(path string) string  { return "https://app.test:" + s.port + path }
func (s *site) http(host string) string { return "http://" + host + ":" + s.port }

// serveTLS starts a site that speaks TLS.
func serveTLS(t *testing.T, edit func(*server.Config)) *site {
	t.Helper()
	cert, key, err := fasthttp.GenerateTestCertificate("localhost")
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	return serve(t, edit, func(ln net.Listener) net.Listener {
		return tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	})
}

// servePlain starts a site without TLS.
func servePlain(t *testing.T, edit func(*server.Config)) *site {
	t.Helper()
	return serve(t, edit, func(ln net.Listener) net.Listener { return ln })
}

func serve(t *testing.T, edit func(*server.Config), wrap func(net.Listener) net.Listener) *site {
	t.Helper()
	memory, err := shardstore.New(shardstore.Options{Shards: 4, JanitorEvery: time.Hour})
	require.NoError(t, err)
	s := &site{store: &store{Store: memory}, clock: new(clock)}
	cfg := server.Config{Login: login.Open{}, ReadTimeout: patience, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	cfg.Policy.Now = s.clock.now
	if edit != nil {
		edit(&cfg)
	}
	srv, err := server.New(s.store, cfg)
	require.NoError(t, err)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, s.port, err = net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(t, srv.Serve(wrap(ln))) })
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx) // the browser keeps connections, and nobody waits for them
		served.Wait()
		assert.NoError(t, memory.Close())
	})
	return s
}

// clock is the real time, moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) step(d time.Duration) { c.ahead.Add(int64(d)) }

// store counts the sessions that requests brought along, and can be out of reach.
type store struct {
	coatcheck.Store
	down  atomic.Bool
	loads atomic.Int32
}

func (s *store) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	s.loads.Add(1)
	if s.down.Load() {
		return coatcheck.ErrUnavailable
	}
	return s.Store.Load(ctx, key, id, now, rec)
}

// cookieCame reports whether a request that f causes brought the session cookie.
func (s *site) cookieCame(f func()) bool {
	before := s.store.loads.Load()
	f()
	return s.store.loads.Load() > before
}

// as is a User-Agent of a device.
var as = map[string]string{
	"phone":   "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1",
	"desktop": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:152.0) Gecko/20100101 Firefox/152.0",
	"script":  "curl/8.14.1",
}

// elsewhere logs a user in from another device, without the browser.
func (s *site) elsewhere(t *testing.T, user, device string) {
	t.Helper()
	s.elsewhereFrom(t, user, device, "")
}

// elsewhereFrom is elsewhere from an address that a proxy tells. It returns the session's cookie.
func (s *site) elsewhereFrom(t *testing.T, user, device, address string) string {
	t.Helper()
	body := `{"user_id":"` + user + `"}`
	answer := s.send(t, "POST /auth/login", "X-Forwarded-For: "+address+"\r\nUser-Agent: "+as[device]+"\r\nContent-Type: application/json\r\n"+
		"Content-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
	_, cookie, ok := strings.Cut(answer, "\r\nSet-Cookie: ")
	require.True(t, ok, answer)
	cookie, _, _ = strings.Cut(cookie, ";")
	return cookie
}

// comesFrom sends a request with a session's cookie from an address that a proxy tells.
func (s *site) comesFrom(t *testing.T, cookie, address string) {
	t.Helper()
	s.send(t, "GET /auth/me", "X-Forwarded-For: "+address+"\r\nCookie: "+cookie+"\r\n\r\n")
}

// send sends a request without the browser, and returns the answer, which must be a 200.
func (s *site) send(t *testing.T, route, rest string) string {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a certificate that the test made for itself
	conn, err := dialer.DialContext(t.Context(), "tcp", "127.0.0.1:"+s.port)
	require.NoError(t, err)
	_, err = io.WriteString(conn, route+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+rest)
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 200 "), "%s", answer)
	require.NoError(t, conn.Close())
	return string(answer)
}
