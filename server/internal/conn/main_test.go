package conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp starts one goroutine for the Date header with its first server, and has no way to stop it.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// It looks every ten seconds for workers to stop, and only then sees that its server has stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// patience bounds each wait for something that must happen.
const patience = 20 * time.Second

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // MPTCP takes no socket filter
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// connect returns the client's end of a connection to ln. It is closed when the test ends.
func connect(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// newServer returns a Server that answers "ok" and logs nothing.
func newServer(opts Options) *Server {
	opts.Log = slog.New(slog.DiscardHandler)
	return New(&fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") },
		Logger:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}, opts)
}

// start serves ln, over TLS if cfg is not nil. stop drains the server and expects success; it is called at the end of the test too.
func start(t *testing.T, s *Server, ln net.Listener, cfg *tls.Config) (stop func()) {
	t.Helper()
	served := make(chan error, 1)
	go func() {
		if cfg == nil {
			served <- s.Serve(ln)
		} else {
			served <- s.ServeTLS(ln, cfg)
		}
	}()
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, s.drain(ctx))
		assert.NoError(t, <-served)
	})
	t.Cleanup(stop)
	return stop
}

// eventually polls until ok.
func eventually(t *testing.T, ok func() bool, msg ...any) {
	t.Helper()
	require.Eventually(t, ok, patience, time.Millisecond, msg...)
}

// localhost returns a TLS configuration with a certificate for localhost, and one of a client that trusts it.
func localhost(t *testing.T) (serverSide, clientSide *tls.Config) {
	t.Helper()
	cert, key, err := fasthttp.GenerateTestCertificate("localhost")
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(cert))
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}
