//go:build real

package browsertest_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/testoutput"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// tooOld is how long after its last proof the token of a bound session opens nothing.
const tooOld = 11*time.Minute + time.Second

// nodes are servers that share a store, at one address: each connection goes to another one.
type nodes struct {
	*testing.T
	port  string
	spki  string // of their certificate, as Chromium's flag wants it
	clock *clock
	log   *testoutput.Buffer
	down  []*store
}

// serveNodes starts a server for each store.
func serveNodes(t *testing.T, edit func(*server.Config), stores ...coatcheck.Store) *nodes {
	t.Helper()
	cert, key, err := fasthttp.GenerateTestCertificate("localhost")
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	require.NoError(t, err)
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	n := &nodes{T: t, port: port, spki: base64.StdEncoding.EncodeToString(sum[:]), clock: new(clock), log: new(testoutput.Buffer)}
	var served sync.WaitGroup
	var parts []chan net.Conn
	for _, under := range stores {
		s := &store{Store: under}
		n.down = append(n.down, s)
		cfg := server.Config{Login: login.Open{}, DBSC: true, Logger: slog.New(slog.NewJSONHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		cfg.Policy.Now = n.clock.now
		if edit != nil {
			edit(&cfg)
		}
		srv, err := server.New(s, cfg)
		require.NoError(t, err)
		part := make(chan net.Conn)
		parts = append(parts, part)
		served.Go(func() {
			assert.NoError(t, srv.Serve(tls.NewListener(&partListener{ln, part, make(chan struct{}), sync.Once{}},
				&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})))
		})
		t.Cleanup(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = srv.Shutdown(ctx)
		})
	}
	stop := make(chan struct{})
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			select {
			case parts[i%len(parts)] <- c:
			case <-stop:
				_ = c.Close()
			}
		}
	})
	t.Cleanup(func() { // the first of all
		close(stop)
		_ = ln.Close()
		accepting.Wait()
	})
	t.Cleanup(func() { _ = ln.Close() })
	return n
}

// partListener is the part of a listener's connections that come from a channel.
type partListener struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *partListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *partListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func memory(t *testing.T) coatcheck.Store {
	t.Helper()
	s, err := shardstore.New(shardstore.Options{Shards: 4, JanitorEvery: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func (n *nodes) url(host, path string) string { return "https://" + host + ":" + n.port + path }

// events returns how often an audit event was written.
func (n *nodes) events(name string) int {
	return strings.Count(n.log.String(), `"event":"`+name+`"`)
}

// waitsBound waits until so many sessions were bound.
func (n *nodes) waitsBound(times int) {
	n.Helper()
	require.Eventually(n, func() bool { return n.events("device_bound") >= times }, patience, 20*time.Millisecond, "%s", n.log)
}

// asCopy returns what a client that has a copy of the cookie is told by me.
func (n *nodes) asCopy(token string) string {
	n.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}} //nolint:gosec // a certificate that the test made for itself
	req, err := http.NewRequestWithContext(n.Context(), http.MethodGet, "https://127.0.0.1:"+n.port+"/auth/me", http.NoBody)
	require.NoError(n, err)
	req.Header.Set("Cookie", "__Host-coatcheck="+token)
	resp, err := client.Do(req)
	require.NoError(n, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(n, err)
	require.NoError(n, resp.Body.Close())
	return string(body)
}

// newDeviceBrowser starts a browser that binds sessions and renews as often as it needs to, with a profile in dir; end closes it
// as a user does.
func newDeviceBrowser(n *nodes, dir string) (b *tab, end func()) {
	n.Helper()
	return newBrowserWith(n, dir, "DeviceBoundSessions:RefreshQuota/false")
}

func newBrowserWith(n *nodes, dir, feature string) (b *tab, end func()) {
	n.Helper()
	said := new(testoutput.Buffer)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox,
		chromedp.UserDataDir(dir),
		chromedp.Flag("ignore-certificate-errors-spki-list", n.spki),
		chromedp.Flag("host-resolver-rules", "MAP * 127.0.0.1"),
		chromedp.Flag("enable-features", feature+",EnableBoundSessionCredentialsSoftwareKeysForManualTesting"),
		chromedp.Flag("password-store", "basic"),
		chromedp.CombinedOutput(said))...)
	ctx, cancel := chromedp.NewContext(alloc)
	require.NoError(n, chromedp.Do(ctx), "%s", said)
	var once sync.Once
	end = func() {
		once.Do(func() {
			assert.NoError(n, chromedp.Cancel(ctx))
			cancel()
			stop()
		})
	}
	n.Cleanup(end)
	return &tab{n.T, ctx}, end
}

// expire takes the token from the browser, as its end does.
func (b *tab) expire(url string) {
	b.Helper()
	call(b, network.DeleteCookies, network.DeleteCookiesParams{Name: "__Host-coatcheck", URL: url})
}

// elsewhere visits another site, whose pages may ask for what they like.
func (b *tab) elsewhere(n *nodes) {
	b.Helper()
	call(b, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: true})
	b.visit(n.url("other.example", "/auth/devices"))
}

// token returns the value of the browser's session cookie.
func (b *tab) token() string {
	b.Helper()
	for _, c := range b.cookies() {
		if c.Name == "__Host-coatcheck" {
			return c.Value
		}
	}
	return ""
}

func (b *tab) loginAs(user string) {
	b.Helper()
	status, text := b.ask("POST", "/auth/login", fmt.Sprintf(`{"user_id":%q}`, user))
	require.Equal(b, 200, status, text)
}

// fourAtOnce asks me four times at once.
func (b *tab) fourAtOnce() []string {
	b.Helper()
	return eval[[]string](b, `Promise.all([1, 2, 3, 4].map(() => fetch("/auth/me").then((r) => r.json()).then((v) => v.user_id || "nobody")))`)
}
