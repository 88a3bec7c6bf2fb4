package conn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// failing is a listener whose Accept returns errors first.
type failing struct {
	net.Listener
	mu     sync.Mutex
	errors []error // guarded by mu
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errors) > 0 {
		err := f.errors[0]
		f.errors = f.errors[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	return f.Listener.Accept()
}

var errBroken = errors.New("the listener is broken")

func TestAcceptRetriesWithoutDescriptors(t *testing.T) {
	ln := listenLocal(t)
	f := &failing{Listener: ln, errors: []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED}}
	l := newListener(newServer(Options{}), f, nil)
	connect(t, ln)
	conn, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	assert.Empty(t, l.server.open, "a connection that was closed is not tracked")

	f.errors = []error{errBroken}
	_, err = l.Accept()
	require.ErrorIs(t, err, errBroken)
	require.NoError(t, l.Close())
}

// A flood of connections writes no flood of lines.
func TestAcceptWarnsOnceASecond(t *testing.T) {
	const n = 50
	var log bytes.Buffer
	s := newServer(Options{})
	s.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	f := &failing{Listener: listenLocal(t)}
	l := newListener(s, f, nil)
	began := time.Now()
	for range n {
		f.errors = []error{syscall.EMFILE}
		connect(t, f.Listener)
		conn, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	lines := strings.Count(log.String(), "could not be accepted")
	assert.Positive(t, lines)
	assert.LessOrEqual(t, lines, 1+int(time.Since(began)/time.Second))
	require.NoError(t, l.Close())
}

// ask sends a request over TLS and returns the first line of the response.
func ask(t *testing.T, conn net.Conn, client *tls.Config) string {
	t.Helper()
	secure := tls.Client(conn, client)
	_, err := io.WriteString(secure, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	text := make([]byte, len("HTTP/1.1 200 OK"))
	_, err = io.ReadFull(secure, text)
	require.NoError(t, err)
	return string(text)
}

// readToEnd returns what comes until the server closes the connection, which it may do by a reset.
func readToEnd(t *testing.T, conn net.Conn) string {
	t.Helper()
	text, err := io.ReadAll(conn)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET, "it is closed")
	}
	return string(text)
}

// Running out of descriptors is retried, and a connection that nobody uses is drained, over TLS too.
func TestAcceptRetriesOverTLS(t *testing.T) {
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	stop := start(t, newServer(Options{RequestTimeout: time.Minute}), &failing{Listener: ln, errors: []error{syscall.EMFILE, syscall.ENFILE}}, serverSide)
	assert.Equal(t, "HTTP/1.1 200 OK", ask(t, connect(t, ln), client))
	connect(t, ln) // sends nothing
	stop()
}

// Connections whose handshake is slow delay no others, and are closed after the request timeout.
func TestSlowTLSHandshake(t *testing.T) {
	t.Parallel()
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	start(t, newServer(Options{RequestTimeout: 5 * time.Second, IdleTimeout: time.Minute}), ln, serverSide)
	var slow []net.Conn
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
		readToEnd(t, conn)
	}
}

// A handshake that does not end is cut off also where the listener itself speaks TLS.
func TestSlowHandshakeOfAListenerThatIsTLS(t *testing.T) {
	t.Parallel()
	ln := listenLocal(t)
	serverSide, _ := localhost(t)
	start(t, newServer(Options{RequestTimeout: 50 * time.Millisecond, IdleTimeout: time.Minute}), tls.NewListener(ln, serverSide), nil)
	for _, first := range []string{"", "\x16\x03\x01\x02\x00\x01\x00"} {
		conn := connect(t, ln)
		_, err := io.WriteString(conn, first)
		require.NoError(t, err)
		readToEnd(t, conn)
	}
}

// recording is a listener whose connection records its deadlines.
type recording struct {
	net.Listener
	conn *recorder
}

func (l *recording) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.conn = &recorder{Conn: conn}
	return l.conn, err
}

// A pause between two requests may be as long as the idle timeout also where the listener itself speaks TLS, which would take a request's
// deadline that has passed for its own.
func TestListenerThatIsTLS(t *testing.T) {
	serverSide, clientSide := localhost(t)
	below := &recording{Listener: listenLocal(t)}
	l := newListener(newServer(Options{RequestTimeout: time.Minute, IdleTimeout: time.Hour}), tls.NewListener(below, serverSide), nil)
	client := tls.Client(connect(t, below), clientSide)
	conn, err := l.Accept()
	require.NoError(t, err)
	c := tracked(conn)
	c.tlsHandshake(t, conn, client)
	last := func(times []time.Time) time.Duration { return time.Until(times[len(times)-1]) }
	for range 2 {
		for _, idle := range []bool{false, true} {
			if idle {
				setState(conn, fasthttp.StateIdle)
			}
			_, err = io.WriteString(client, "request")
			require.NoError(t, err)
			_, err = c.Read(make([]byte, 16))
			require.NoError(t, err)
			if idle {
				assert.Greater(t, last(below.conn.read), 30*time.Minute, "of the pause, until the request arrives")
			} else {
				assert.LessOrEqual(t, last(below.conn.read), time.Minute, "of the request")
			}
		}
		_, writes := below.conn.times()
		_, err = io.WriteString(conn, "response")
		require.NoError(t, err)
		_, more := below.conn.times()
		assert.Greater(t, more, writes, "each response has a deadline of its own")
	}
	require.NoError(t, errors.Join(c.Close(), l.Close()))
}

// HTTP/1.1 is what is offered, to clients that ask for more as well; versions before TLS 1.2 are refused.
func TestTLSVersions(t *testing.T) {
	serverSide, client := localhost(t)
	serverSide.MinVersion, serverSide.NextProtos = tls.VersionTLS10, []string{"h2"}
	ln := listenLocal(t)
	start(t, newServer(Options{}), ln, serverSide)
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
	assert.Equal(t, uint16(tls.VersionTLS10), serverSide.MinVersion, "the caller's configuration is not changed")
}
