// Package deploy_test runs the samples of this folder as they are, with only ports and paths replaced: nginx here, the
// other proxies where the build tag real is set.
package deploy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/internal/testprogram"
)

const (
	patience = time.Minute
	host     = "app.example.com"
	cookie   = "__Host-coatcheck"
)

// site is a proxy by one of the samples, with coatcheck and an application behind it.
type site struct {
	*testing.T
	proxy     string     // where it listens
	outermost *testing.T // what T is outside of with
	coatcheck *exec.Cmd
	roots     *x509.CertPool
	// The proxy can take no cookie out of a header.
	allCookies bool

	process *exec.Cmd // the proxy's
	dir     string    // of its configuration

	mu   sync.Mutex
	seen []*http.Request // guarded by mu: the requests that reached the application
}

// proxied is how a sample is run.
type proxied struct {
	sample  []string // files, the configuration first
	command func(dir, config string) []string
	wrap    func(dir, config string) string // nil: the sample is all of the configuration
	paths   map[string]string               // of the sample, and what the test has in their place
	idle    []string                        // how long idle connections are kept, and a shorter time, as pairs
	header  []string                        // how long a header may take to arrive, and a shorter time, as pairs; nil: the sample does not say
	limits  []string                        // times that are too short on a busy machine, where late answers are refused, and longer ones, as pairs
	reload  func(s *site)                   // nil: it has no way to read its configuration again
	// The proxy can take no cookie out of a header.
	allCookies bool
	// The sample has lines for a Unix socket.
	socket bool
}

// flags returns those that the sample says coatcheck needs.
func (how proxied) flags(t *testing.T) []string {
	t.Helper()
	for _, name := range how.sample {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if _, line, ok := strings.Cut(string(text), "coatcheck serve … "); ok {
			line, _, _ = strings.Cut(line, "\n")
			return strings.Fields(line)
		}
	}
	require.Fail(t, "the sample names no flags")
	return nil
}

// variant is what a test changes about a site.
type variant struct {
	asked *asked // instead of coatcheck; nil: the program
	app   string // the application's address; empty: an application of the test's own
	edit  func(config string) string
	flags []string // of coatcheck, beside those that the sample names
	// coatcheck listens on a Unix socket, as the sample's commented lines have it.
	socket bool
}

var nginx = map[string]proxied{
	"nginx": {
		sample:  []string{"nginx/coatcheck.conf"},
		command: func(dir, config string) []string { return []string{"nginx", "-p", dir, "-c", config} },
		wrap: func(dir, config string) string {
			temp := ""
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				temp += kind + "_temp_path " + dir + "/" + kind + ";\n"
			}
			return "daemon off;\nworker_processes 1;\nuser root;\npid " + dir + "/pid;\nerror_log stderr warn;\nevents {}\nhttp {\naccess_log off;\n" + temp + config + "}\n"
		},
		paths: map[string]string{"/etc/nginx/tls/": "/"},
		idle:  []string{"keepalive_timeout 30s", "keepalive_timeout 1s"},
		limits: []string{
			"proxy_connect_timeout 1s", "proxy_connect_timeout 5s", "proxy_send_timeout    2s", "proxy_send_timeout    5s",
			"proxy_read_timeout    2s", "proxy_read_timeout    5s",
		},
		reload: func(s *site) { require.NoError(s, s.process.Process.Signal(syscall.SIGHUP)) },
		socket: true,
	},
}

// built is the program, made once.
var built = sync.OnceValues(func() (string, error) { return testprogram.Shipped(scratch) })

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "coatcheck-deploy-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(scratch); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// start runs a program until the test ends, and waits until it listens on a port or, where that is a path, on a Unix socket. What it says is shown if the test fails.
func start(t *testing.T, port string, args ...string) *exec.Cmd {
	t.Helper()
	logs, err := os.CreateTemp(t.TempDir(), "log")
	require.NoError(t, err)
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its workers, too
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(logs.Name())
			t.Logf("%s:\n%s", args[0], text)
		}
		_ = logs.Close()
	})
	require.Eventually(t, func() bool {
		network, address := "tcp", "127.0.0.1:"+port
		if strings.HasPrefix(port, "/") {
			network, address = "unix", port
		}
		conn, err := new(net.Dialer).DialContext(t.Context(), network, address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond, "%s does not listen", args[0])
	return cmd
}

// certificate is a new one for the host, signed by itself, with its key as OpenSSL reads it.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	cert, raw, err := fasthttp.GenerateTestCertificate(host)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, raw)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// onSocket is a line of a sample with the commented one below it that takes its place where coatcheck listens on a Unix socket.
var onSocket = regexp.MustCompile(`(?m)^([ \t]*)\S.*\n[ \t]*# Unix socket: (.*)$`)

func open(t *testing.T, how proxied, with variant) *site {
	t.Helper()
	s := &site{T: t, outermost: t, roots: x509.NewCertPool(), allCookies: how.allCookies}
	app := with.app
	if app == "" {
		own := httptest.NewServer(s.application())
		t.Cleanup(own.Close)
		app = own.Listener.Addr().String()
	}
	port, front := strconv.Itoa(testport.Free(t)), strconv.Itoa(testport.Free(t))
	s.proxy = "127.0.0.1:" + front
	behind := "127.0.0.1:" + port
	dir := t.TempDir()
	socket := filepath.Join(dir, "auth.sock")
	if with.asked == nil {
		program, err := built()
		require.NoError(t, err)
		at, listen := port, behind
		if with.socket {
			at, listen = socket, "unix:"+socket
		}
		s.coatcheck = start(t, at, slices.Concat([]string{
			program, "serve", "--dev", "--listen=" + listen, "--admin-listen=off", "--cookie-name=" + cookie, "--cookie-secure", "--data-dir=" + t.TempDir(),
		}, how.flags(t), with.flags)...)
	} else {
		behind = strings.TrimPrefix(with.asked.serve(t).URL, "http://")
	}

	cert, key := certificate(t)
	require.True(t, s.roots.AppendCertsFromPEM(cert))
	for name, content := range map[string][]byte{"app.crt": cert, "app.key": key, "app.pem": append(slices.Clone(cert), key...)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	pairs := []string{
		"/run/coatcheck/coatcheck.sock", socket, "127.0.0.1:3000", behind, "127.0.0.1:8000", app, "127.0.0.1:3080", testport.Address(t),
		host + ":443", host + ":" + front, "listen 443", "listen 127.0.0.1:" + front, "bind :443", "bind 127.0.0.1:" + front,
		`address: ":443"`, `address: "127.0.0.1:` + front + `"`,
	}
	pairs = append(pairs, how.limits...)
	for _, upstream := range []struct{ sample, address string }{{"port_value: 3000", behind}, {"port_value: 8000", app}, {"0.0.0.0, port_value: 443", s.proxy}} {
		_, number, err := net.SplitHostPort(upstream.address)
		require.NoError(t, err)
		pairs = append(pairs, upstream.sample, strings.Replace(upstream.sample[:strings.LastIndex(upstream.sample, " ")+1], "0.0.0.0", "127.0.0.1", 1)+number)
	}
	for _, of := range slices.Backward(slices.Sorted(maps.Keys(how.paths))) { // a folder in another one first
		pairs = append(pairs, of, dir+how.paths[of])
	}
	replace := strings.NewReplacer(pairs...)
	sample := ""
	for i, name := range how.sample {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		config := string(text)
		sample += config
		if with.edit != nil {
			config = with.edit(config)
		}
		if with.socket {
			config = onSocket.ReplaceAllString(config, "$1$2")
		}
		config = replace.Replace(config)
		if i == 0 && how.wrap != nil {
			config = how.wrap(dir, config)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(config), 0o600))
	}
	for i := 0; i < len(how.limits); i += 2 {
		require.Contains(t, sample, how.limits[i])
	}
	s.dir = dir
	s.process = start(t, front, how.command(dir, filepath.Join(dir, filepath.Base(how.sample[0])))...)
	// Traefik listens before it has read its routes.
	require.Eventually(t, func() bool {
		resp, err := s.try("GET", "/login") //nolint:bodyclose // read and closed by try
		return err == nil && resp.StatusCode == http.StatusOK
	}, patience, 10*time.Millisecond, "it serves nothing")
	s.reached()
	return s
}

// ask sends a request as it stands over a connection of its own.
func (s *site) ask(method, path string, head ...string) *http.Response {
	s.Helper()
	resp, err := s.try(method, path, head...)
	require.NoError(s, err, "%s %s %q", method, path, head)
	return resp
}

// try is ask, with the error where there was no answer.
func (s *site) try(method, path string, head ...string) (*http.Response, error) {
	s.Helper()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: s.roots, ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
	conn, err := dialer.DialContext(s.Context(), "tcp", s.proxy)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // all that matters was read
	require.NoError(s, conn.SetDeadline(time.Now().Add(patience)))
	body, lines := "", "Host: "+host+"\r\n"
	for _, line := range head {
		if text, ok := strings.CutPrefix(line, "body "); ok {
			body = text
			line = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d", len(text))
		}
		lines += line + "\r\n"
	}
	if _, err = io.WriteString(conn, method+" "+path+" HTTP/1.1\r\n"+lines+"\r\n"+body); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		require.NotErrorIs(s, err, os.ErrDeadlineExceeded, "%s %q is not answered", method, path)
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(strings.NewReader(string(text)))
	return resp, nil
}

// send is try where any answer will do, an error too.
func (s *site) send(method, path string, head ...string) {
	s.Helper()
	_, _ = s.try(method, path, head...) //nolint:bodyclose // read and closed by try
}

// status is ask for its status.
func (s *site) status(method, path string, head ...string) int {
	s.Helper()
	return s.ask(method, path, head...).StatusCode //nolint:bodyclose // read and closed by ask
}

// requests returns the requests that reached the application since the last call.
func (s *site) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// reached returns the headers of the requests that reached the application since the last call.
func (s *site) reached() []http.Header {
	var headers []http.Header
	for _, r := range s.requests() {
		headers = append(headers, r.Header)
	}
	return headers
}

func (s *site) login(user string) (line string) {
	s.Helper()
	resp := s.ask("POST", "/auth/login", `body {"user_id":"`+user+`"}`) //nolint:bodyclose // read and closed by ask
	require.Equal(s, 200, resp.StatusCode)
	for _, c := range resp.Cookies() {
		if c.Name == cookie {
			return "Cookie: " + cookie + "=" + c.Value
		}
	}
	require.Fail(s, "no cookie")
	return ""
}
