//go:build real

package browsertest_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/testoutput"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// tooOld is how long after its last proof the token of a bound session opens nothing.
const tooOld = 11*time.Minute + time.Second

// nodes are servers that share a store, at one address: each connection goes to another one.
type nodes struct {
	*testing.T
	port    string
	direct  string // the port without a front
	spki    string // of their certificate, as Chromium's flag wants it
	pair    tls.Certificate
	clock   *clock
	log     *testoutput.Buffer
	stores  []coatcheck.Store // as the nodes see them
	trouble trouble
}

// trouble is what goes wrong with the stores of all nodes.
type trouble struct {
	down   atomic.Bool  // nothing can be read
	losing atomic.Int32 // so many of the next Swaps lose their answers; they happened
}

type troubledStore struct {
	coatcheck.Store
	*trouble
}

func (s troubledStore) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if s.down.Load() {
		return coatcheck.ErrUnavailable
	}
	return s.Store.Load(ctx, key, id, now, rec)
}

func (s troubledStore) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	err := s.Store.Swap(ctx, rec, old, now, cur)
	if err == nil && s.losing.Load() > 0 {
		s.losing.Add(-1)
		return coatcheck.ErrUnavailable
	}
	return err
}

// openStores opens the stores of the nodes of a scenario, by the scenario's name.
var openStores = map[string]func(t *testing.T) []coatcheck.Store{
	"memory":                 func(t *testing.T) []coatcheck.Store { return []coatcheck.Store{memory(t)} },
	"Redis":                  func(t *testing.T) []coatcheck.Store { return onRedis(t, 1) },
	"two nodes on one Redis": func(t *testing.T) []coatcheck.Store { return onRedis(t, 2) },
}

// everywhere runs a scenario in memory, on Redis, and with two nodes on one Redis, each with a browser of its own that binds
// sessions.
func everywhere(t *testing.T, scenario func(t *testing.T, n *nodes, b *deviceBrowser)) {
	t.Helper()
	everywhereWith(t, nil, scenario)
}

// everywhereWith is everywhere with settings of the nodes.
func everywhereWith(t *testing.T, edit func(*server.Config), scenario func(t *testing.T, n *nodes, b *deviceBrowser)) {
	t.Helper()
	for name, open := range openStores {
		t.Run(name, func(t *testing.T) {
			n := serveNodes(t, edit, open(t)...)
			b, _ := newDeviceBrowser(n, t.TempDir())
			scenario(t, n, b)
		})
	}
}

// onRedis opens stores for so many nodes on one Redis.
func onRedis(t *testing.T, nodes int) (all []coatcheck.Store) {
	t.Helper()
	redis := redistest.Start(t)
	for range nodes {
		s := redistest.Store(t, redisstore.Options{URL: redis.URL()})
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		all = append(all, s)
	}
	return all
}

// newNodes returns nodes that nobody serves yet, with their certificate.
func newNodes(t *testing.T) *nodes {
	t.Helper()
	cert, key, err := fasthttp.GenerateTestCertificate("localhost")
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	require.NoError(t, err)
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return &nodes{T: t, spki: base64.StdEncoding.EncodeToString(sum[:]), pair: pair, clock: new(clock), log: new(testoutput.Buffer)}
}

// listen takes a port, which is where browsers find the nodes from then on.
func (n *nodes) listen() net.Listener {
	n.Helper()
	ln, err := new(net.ListenConfig).Listen(n.Context(), "tcp", "127.0.0.1:0")
	require.NoError(n, err)
	_, n.port, err = net.SplitHostPort(ln.Addr().String())
	require.NoError(n, err)
	return ln
}

func (n *nodes) tls() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{n.pair}, MinVersion: tls.VersionTLS12}
}

// believing returns a client's transport that asks for no authority, and connects for each request.
func believing() *http.Transport {
	//nolint:gosec // it meets the certificate that the test made for itself
	return &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
}

// logger writes what the nodes say, for events.
func (n *nodes) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// serveNodes starts a server for each store.
func serveNodes(t *testing.T, edit func(*server.Config), stores ...coatcheck.Store) *nodes {
	t.Helper()
	n := newNodes(t)
	ln := n.listen()
	n.direct = n.port
	var served sync.WaitGroup
	var parts []chan net.Conn
	for _, under := range stores {
		s := troubledStore{under, &n.trouble}
		n.stores = append(n.stores, s)
		cfg := server.Config{Login: login.Open{}, DBSC: true, ReadTimeout: patience, Logger: n.logger()}
		cfg.Policy.Now = n.clock.now
		if edit != nil {
			edit(&cfg)
		}
		srv, err := server.New(s, cfg)
		require.NoError(t, err)
		part := make(chan net.Conn)
		parts = append(parts, part)
		served.Go(func() {
			assert.NoError(t, srv.Serve(tls.NewListener(&partListener{ln, part, make(chan struct{}), sync.Once{}}, n.tls())))
		})
		t.Cleanup(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = srv.Shutdown(ctx)
		})
	}
	n.share(ln, parts)
	return n
}

// share gives each connection of a listener to another part.
func (n *nodes) share(ln net.Listener, parts []chan net.Conn) {
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
	n.Cleanup(func() { // the first of all
		close(stop)
		_ = ln.Close()
		accepting.Wait()
	})
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
