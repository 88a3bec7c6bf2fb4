package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/largerequests"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// held is the memory that the process holds: its heap after a collection, and its stacks.
func held() int {
	for range 3 { // what is in a sync.Pool goes with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// DOS-14. Connections that have sent the largest requests that they may, and then small ones, hold less than 16 KiB each. With a larger
// --max-header they do not hold more.
func TestMemoryOfConnections(t *testing.T) {
	bound := 16 << 10
	if raceDetector { // which needs memory of its own
		bound = 48 << 10
	}
	for _, maxHeader := range []int{64 << 10, 8 << 10} {
		t.Run(fmt.Sprint(maxHeader), func(t *testing.T) {
			ln := serveOn(t, server.Config{MaxHeader: maxHeader, ReadTimeout: time.Hour, IdleTimeout: time.Hour, TrustedOrigins: []string{"https://app.example"}})
			sequences := largerequests.Shifting()
			sequences["the largest"] = largerequests.All(maxHeader)
			sequences["small ones"] = nil
			for name, requests := range sequences {
				each := heldByConnections(t, ln, func(conn net.Conn) net.Conn { return conn }, slices.Concat([]string{largerequests.Small}, requests, []string{largerequests.Small}))
				t.Logf("%s: %d bytes a connection, its client's included", name, each)
				assert.Less(t, each, bound, name)
			}
		})
	}
}

// DOS-14. Over TLS they hold less than 64 KiB: crypto/tls keeps the buffers for the largest record and for the messages of the handshake.
func TestMemoryOfTLSConnections(t *testing.T) {
	bound := 64 << 10
	if raceDetector { // which needs memory of its own
		bound = 112 << 10
	}
	conf, older, newer := tlsConfigs(t)
	ln := serveOver(t, conf)
	longHello := older.Clone() // almost as long as it may be
	longHello.NextProtos = append(longProtocols(), "http/1.1")
	for hello, conf := range map[string]*tls.Config{"1.3": newer, "1.2": older, "1.2, a long hello": longHello} {
		for name, requests := range map[string][]string{
			"the largest": largerequests.All(8 << 10), "small ones": nil,
			"growing": {postOf(15500), postOf(16300)}, // a buffer that is a little too small is doubled
		} {
			each := heldByConnections(t, ln, func(conn net.Conn) net.Conn { return tls.Client(conn, conf) },
				slices.Concat([]string{largerequests.Small}, requests, []string{largerequests.Small}))
			t.Logf("%s, %s: %d bytes a connection, its client's socket included", hello, name, each)
			assert.Less(t, each, bound, "%s, %s", hello, name)
		}
	}
}

// tlsConfigs returns the settings of a server, and of its clients with TLS 1.2 and 1.3, which send one record a request.
func tlsConfigs(t *testing.T) (conf, older, newer *tls.Config) {
	t.Helper()
	cert, key, err := fasthttp.GenerateTestCertificate("localhost")
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(cert))
	newer = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
	older = newer.Clone()
	older.MaxVersion = tls.VersionTLS12
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, older, newer
}

// longProtocols are the protocols of a hello of 6 KiB.
func longProtocols() []string { return slices.Repeat([]string{strings.Repeat("x", 250)}, 24) }

// postOf is a request with a body of that size.
func postOf(size int) string {
	return fmt.Sprintf("POST /auth/logout HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
}

// heldByConnections returns how many bytes each of some connections holds that have sent all requests over what over makes of them. They stay open, or what others
// hold could not be told from what these have left.
func heldByConnections(t *testing.T, ln net.Listener, over func(net.Conn) net.Conn, requests []string) int {
	t.Helper()
	n := 100
	if raceDetector {
		n = 12
	}
	if more, err := strconv.Atoi(os.Getenv("COATCHECK_CONNECTIONS")); err == nil {
		n = more
	}
	conns := make([]net.Conn, n)
	before := held()
	var all sync.WaitGroup
	for i := range conns {
		conns[i] = dial(t, ln)
	}
	for worker := range 8 {
		all.Go(func() {
			for i := worker; i < n; i += 8 {
				conn := over(conns[i])
				in := bufio.NewReaderSize(conn, 512)
				for _, text := range requests {
					if !assert.NoError(t, largerequests.RoundTrip(conn, in, text), "%.100q", text) {
						return
					}
				}
			}
		})
	}
	all.Wait()
	require.False(t, t.Failed())
	return (held() - before) / n
}

// DOS-14. A request of which a part has arrived holds less than 128 KiB, whatever was in its memory before: fasthttp gives it to one
// connection after another.
func TestMemoryOfRequestsInFlight(t *testing.T) {
	n, bound := 50, 128<<10
	if raceDetector { // which needs memory of its own
		n, bound = 12, 160<<10
	}
	ln := serveOn(t, server.Config{ReadTimeout: time.Hour, IdleTimeout: time.Hour, TrustedOrigins: []string{"https://app.example"}})
	sequences := largerequests.Shifting()
	sequences["the largest"] = largerequests.All(8 << 10)
	unreadable := largerequests.Unreadable(8 << 10)
	maps.Copy(sequences, unreadable)
	for name, requests := range sequences {
		before := held()
		conns := make([]net.Conn, n)
		readers := make([]*bufio.Reader, n)
		for i := range conns {
			conns[i] = dial(t, ln)
			readers[i] = bufio.NewReaderSize(conns[i], 512)
		}
		begin := func(text string) (rest string) {
			for _, conn := range conns {
				_, err := io.WriteString(conn, text[:len(text)-1])
				require.NoError(t, err)
			}
			return text[len(text)-1:]
		}
		for _, text := range requests {
			rest := begin(text)
			for i, conn := range conns {
				_, err := io.WriteString(conn, rest)
				require.NoError(t, err)
				if unreadable[name] == nil {
					require.NoError(t, largerequests.Receive(readers[i], text), "%.100q", text)
					continue
				}
				tcp := conn.(*net.TCPConn)
				if strings.Contains(text, "Expect") { // the answer to that cannot be written
					require.NoError(t, tcp.SetLinger(0))
				} else {
					require.NoError(t, tcp.CloseWrite())
					_, err = io.Copy(io.Discard, conn)
					require.NoError(t, err)
				}
				require.NoError(t, conn.Close())
				conns[i], err = net.Dial("tcp", ln.Addr().String()) //nolint:noctx // loopback; dial would remember each of them
				require.NoError(t, err)
				require.NoError(t, conns[i].SetDeadline(time.Now().Add(time.Minute)))
			}
		}
		for i, conn := range conns { // the answer shows that the server has the header
			_, err := io.WriteString(conn, "POST /auth/logout HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
			require.NoError(t, err)
			readers[i].Reset(conn)
			line, err := readers[i].ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, line, " 100 ")
		}
		each := (held() - before) / n
		t.Logf("%q: %d bytes a request, its client's included", name, each)
		assert.Less(t, each, bound, name)
		for _, conn := range conns {
			_ = conn.Close() // dial's may be closed already
		}
	}
}

// serveOn serves the public API of a new server until the test ends, and returns its listener.
func serveOn(t *testing.T, cfg server.Config) net.Listener {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	return serveStore(t, store, cfg)
}

// serveOver is serveOn over TLS.
func serveOver(t *testing.T, conf *tls.Config) net.Listener {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	cfg := server.Config{ReadTimeout: time.Hour, IdleTimeout: time.Hour, TrustedOrigins: []string{"https://app.example"}}
	return serve(t, store, cfg, func(s *server.Server, ln net.Listener) error { return s.ServeTLS(ln, conf) })
}

// serveStore is serveOn over a store of the caller's, which it closes in the end.
func serveStore(t *testing.T, store coatcheck.Store, cfg server.Config) net.Listener {
	t.Helper()
	return serve(t, store, cfg, (*server.Server).Serve)
}

func serve(t *testing.T, store coatcheck.Store, cfg server.Config, serve func(*server.Server, net.Listener) error) net.Listener {
	t.Helper()
	cfg.Login = login.Open{}
	s, err := server.New(store, cfg)
	require.NoError(t, err)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- serve(s, ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing has to be drained
		_ = s.Shutdown(ctx)
		assert.NoError(t, <-served)
		assert.NoError(t, store.Close())
	})
	return ln
}

// dial opens a connection that is closed when the test ends.
func dial(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Minute)))
	return conn
}
