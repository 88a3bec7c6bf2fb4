package conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// localhost is a certificate for it, and what a client that trusts it is configured with.
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

// serveTLS serves "ok" over TLS on ln until the test ends.
func serveTLS(t *testing.T, l Timeouts, ln net.Listener) (d *Server, client *tls.Config, served <-chan error) {
	t.Helper()
	srv := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") }}
	serverSide, client := localhost(t)
	d = &Server{HTTP: srv, Timeouts: l}
	done := make(chan error, 1)
	go func() { done <- d.Serve(ln, serverSide, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = d.Drain(ctx)
	})
	return d, client, done
}

// ask sends a request over a connection and returns the answer's first bytes.
func ask(t *testing.T, conn net.Conn, client *tls.Config) string {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	secure := tls.Client(conn, client)
	_, err := io.WriteString(secure, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	text := make([]byte, 15)
	_, err = io.ReadFull(secure, text)
	require.NoError(t, err)
	return string(text)
}

// A client that takes its time over the handshake holds nobody up, whoever came later, and is cut within the read timeout.
func TestSlowTLSHandshake(t *testing.T) {
	ln := listenLocal(t)
	_, client, _ := serveTLS(t, Timeouts{Request: 300 * time.Millisecond, Idle: time.Minute}, ln)
	var slow []net.Conn
	received := time.Now()
	for _, first := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00"} { // nothing, and parts of a ClientHello
		for range 50 {
			conn := connect(t, ln)
			_, err := io.WriteString(conn, first)
			require.NoError(t, err)
			slow = append(slow, conn)
		}
	}
	assert.Equal(t, "HTTP/1.1 200 OK", ask(t, connect(t, ln), client))
	for _, conn := range slow {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := io.Copy(io.Discard, conn)
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET, "it is closed")
		}
	}
	assert.Less(t, time.Since(received), 10*time.Second)
}

// One whose connection is one too many is closed without a word over TLS, and nobody waits for him.
func TestConnLimitOverTLS(t *testing.T) {
	ln := listenLocal(t)
	srv := &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}}
	serverSide, client := localhost(t)
	d := &Server{HTTP: srv, Timeouts: Timeouts{Request: time.Minute}, ConnLimit: ConnLimit{Max: 1, Refusal: func() []byte { return []byte("plain text") }}}
	served := make(chan error, 1)
	go func() { served <- d.Serve(ln, serverSide, slog.New(slog.DiscardHandler)) }()
	one := connect(t, ln)
	assert.Equal(t, "HTTP/1.1 200 OK", ask(t, one, client))
	two := connect(t, ln)
	require.NoError(t, two.SetReadDeadline(time.Now().Add(20*time.Second)))
	text, err := io.ReadAll(two)
	require.NoError(t, err)
	assert.Empty(t, text)
	require.NoError(t, one.Close())
	require.Eventually(t, func() bool {
		d.ConnLimit.mu.Lock()
		defer d.ConnLimit.mu.Unlock()
		return len(d.ConnLimit.n) == 0
	}, 20*time.Second, time.Millisecond, "who left is forgotten")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, d.Drain(ctx))
	require.NoError(t, <-served)
}

// A shortage of descriptors, and what stands in the kernel's queue when the listener closes, are no different over TLS.
func TestDrainOverTLS(t *testing.T) {
	ln := listenLocal(t)
	d, client, served := serveTLS(t, Timeouts{Request: time.Minute}, &short{Listener: ln, errors: []error{syscall.EMFILE, syscall.ENFILE}})
	conn := connect(t, ln)
	assert.Equal(t, "HTTP/1.1 200 OK", ask(t, conn, client))
	connect(t, ln) // never says a word
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, d.Drain(ctx))
	require.NoError(t, <-served)
}

func TestBacklogOverTLS(t *testing.T) {
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	p := newTestListener(ln)
	p.tls = serverSide
	stateIdle := connect(t, ln)
	require.NoError(t, p.Close())
	conn, err := p.Accept()
	require.NoError(t, err)
	secure, ok := conn.(tlsConn)
	require.True(t, ok, "fasthttp must see that it is TLS")
	done := make(chan error, 1)
	go func() { done <- secure.Handshake() }()
	require.NoError(t, tls.Client(stateIdle, client).HandshakeContext(t.Context()))
	require.NoError(t, <-done)
	require.NoError(t, conn.Close())
}

// HTTP/1.1 is what is offered, to those who ask for more as well; versions before TLS 1.2 are not spoken.
func TestTLSVersions(t *testing.T) {
	var asked atomic.Int32
	d := &Server{HTTP: &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) { asked.Add(1) }}}
	serverSide, client := localhost(t)
	serverSide.MinVersion, serverSide.NextProtos = tls.VersionTLS10, []string{"h2"}
	ln := listenLocal(t)
	served := make(chan error, 1)
	go func() { served <- d.ServeTLS(ln, serverSide, slog.New(slog.DiscardHandler)) }()
	for _, tt := range []struct {
		protocols []string
		version   uint16
		good      bool
	}{
		{nil, tls.VersionTLS13, true},
		{[]string{"h2", "http/1.1"}, tls.VersionTLS13, true},
		{[]string{"http/1.1"}, tls.VersionTLS12, true},
		{[]string{"h2"}, tls.VersionTLS13, false},
		{nil, tls.VersionTLS11, false},
		{nil, tls.VersionTLS10, false},
	} {
		cfg := client.Clone()
		cfg.NextProtos, cfg.MinVersion, cfg.MaxVersion = tt.protocols, tls.VersionTLS10, tt.version
		conn := tls.Client(connect(t, ln), cfg)
		err := conn.HandshakeContext(t.Context())
		if !tt.good {
			require.Error(t, err, tt)
			continue
		}
		require.NoError(t, err, tt)
		assert.Contains(t, []string{"", "http/1.1"}, conn.ConnectionState().NegotiatedProtocol)
		assert.Equal(t, tt.version, conn.ConnectionState().Version)
		require.NoError(t, conn.Close())
	}
	assert.Equal(t, uint16(tls.VersionTLS10), serverSide.MinVersion, "the caller's configuration stays")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, d.Drain(ctx))
	require.NoError(t, <-served)
	assert.Zero(t, asked.Load())
}
