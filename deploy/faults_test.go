package deploy_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// liveToken is the cookie's value of the one session that what stands in for coatcheck knows: a well-formed one, because a proxy may hand on
// no other.
var liveToken = strings.Repeat("l", 42) + "A"

// namelessToken is answered with 200 and without a word about who it is, as coatcheck never does.
var namelessToken = strings.Repeat("n", 42) + "A"

// verdict is what stands in for coatcheck says of it.
var verdict = map[string]string{
	"Remote-User": "ann", "Remote-Name": "Ann%20A", "Remote-Email": "ann@example.com", "Remote-Groups": "staff,ops", "Remote-Session-Id": strings.Repeat("i", 22),
}

// asked stands in for coatcheck, and notes what it is asked and over which connections.
type asked struct {
	mu       sync.Mutex
	requests []*http.Request     // guarded by mu
	asking   map[net.Conn]string // guarded by mu: the open connections on which something was asked
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/auth/me" { // HAProxy looks here whether it answers
		return
	}
	a.mu.Lock()
	a.requests = append(a.requests, r)
	if a.asking == nil {
		a.asking = make(map[net.Conn]string)
	}
	a.asking[r.Context().Value(connection{}).(net.Conn)] = r.RequestURI
	a.mu.Unlock()
	for _, c := range r.CookiesNamed(cookie) {
		if c.Value == namelessToken {
			return
		}
		if c.Value == liveToken {
			for name, value := range verdict {
				w.Header().Set(name, value)
			}
			return
		}
	}
	http.Error(w, "who is there?", http.StatusUnauthorized)
}

// connection is the key under which a request's context has its connection.
type connection struct{}

// serve starts a server of it, which closes no idle connection by itself.
func (a *asked) serve(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(a)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) }
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.asking, c)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// connections returns how many connections are open on which something was asked.
func (a *asked) connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asking)
}

// taken returns the questions since the last call.
func (a *asked) taken() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	requests := a.requests
	a.requests = nil
	return requests
}

// C1: the proxy closes idle connections to coatcheck by itself, and those of clients that send half a header. The sample's times are
// replaced by shorter ones.
func checkIdle(t *testing.T, how proxied) {
	upstream := new(asked)
	s := open(t, how, variant{asked: upstream, edit: func(config string) string {
		return strings.NewReplacer(slices.Concat(how.idle, how.header)...).Replace(config)
	}})
	require.Equal(t, 200, s.status("GET", "/hello", "Cookie: "+cookie+"="+liveToken))
	require.Eventually(t, func() bool { return upstream.connections() == 0 }, patience, 10*time.Millisecond, "an idle connection to coatcheck stays open")
	s.reached()
	if how.header != nil {
		s.checkHalfHeader()
	}
}

// C6 and what follows: requests are refused while coatcheck does not answer, and served again once it does, without anybody's help.
func (s *site) checkHang() {
	session := s.login("user-42")
	require.NoError(s, s.coatcheck.Process.Signal(syscall.SIGSTOP))
	s.Cleanup(func() { _ = s.coatcheck.Process.Signal(syscall.SIGCONT) })
	// The signal stops it soon, not at once.
	require.Eventually(s, func() bool { return s.status("GET", "/hello", session) >= 500 }, patience, time.Millisecond, "it does not answer")
	s.reached()
	assert.GreaterOrEqual(s, s.status("GET", "/hello", "X: y"), 500, "within the client's patience: the sample has a time limit of its own")
	assert.Empty(s, s.reached(), "nothing reached the application")
	require.NoError(s, s.coatcheck.Process.Signal(syscall.SIGCONT))
	require.Eventually(s, func() bool { return s.status("GET", "/hello", session) == 200 }, patience, 10*time.Millisecond, "it answers again")
}

// A restart of coatcheck: no request gets through meanwhile, and a session from before lives afterwards.
func (s *site) checkRestart() {
	session := s.login("user-42")
	require.NoError(s, s.coatcheck.Process.Signal(syscall.SIGTERM))
	s.gone()
	s.reached()
	assert.GreaterOrEqual(s, s.status("GET", "/hello", session), 500)
	assert.GreaterOrEqual(s, s.status("GET", "/hello", "X: y"), 500)
	assert.Empty(s, s.reached())
	_ = s.coatcheck.Wait() // its port is closed before its folder is free
	s.again()
	require.Eventually(s, func() bool { return s.status("GET", "/hello", session) == 200 }, patience, 10*time.Millisecond, "it answers again")
	s.reached()
	assert.Equal(s, 401, s.status("GET", "/hello", "X: y"))
	assert.Empty(s, s.reached())
}

// again starts coatcheck as it was started.
func (s *site) again() {
	s.Helper()
	args := s.coatcheck.Args
	_, port, err := net.SplitHostPort(s.listens())
	require.NoError(s, err)
	s.coatcheck = start(s.outermost, port, args...)
}

// A reload of the proxy while requests come: none gets past the check. HAProxy's old process refuses what it has not yet asked about.
func (s *site) checkReload(reload func(*site)) {
	session := s.login("user-42")
	reload(s)
	for range 50 {
		assert.Contains(s, []int{200, 503}, s.status("GET", "/hello", session))
		s.reached()
		assert.Contains(s, []int{401, 503}, s.status("GET", "/hello", "X: y"))
		assert.Empty(s, s.reached())
	}
	for end := time.Now().Add(patience); ; {
		status := s.status("GET", "/hello", session)
		if status == 200 {
			break
		}
		require.Equal(s, 503, status)
		require.True(s, time.Now().Before(end), "the old process is still there")
	}
	s.reached()
}

// The last check: it takes coatcheck away.
func (s *site) checkOutage() {
	session := s.login("user-42")
	require.NoError(s, s.coatcheck.Process.Kill())
	s.gone()
	for _, head := range [][]string{{session}, {session, asBrowser}, {"X: y"}, {"Remote-User: admin"}} {
		status := s.status("GET", "/hello", head...)
		assert.GreaterOrEqual(s, status, 500, "%q", head)
	}
	assert.Empty(s, s.reached(), "nothing reached the application")
	assert.Equal(s, 200, s.status("GET", "/login"), "it is there, and was not asked")
}

// listens returns coatcheck's address.
func (s *site) listens() string { return strings.TrimPrefix(s.coatcheck.Args[3], "--listen=") }

// gone waits until nothing listens there.
func (s *site) gone() {
	s.Helper()
	require.Eventually(s, func() bool {
		conn, err := new(net.Dialer).DialContext(context.WithoutCancel(s.Context()), "tcp", s.listens())
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}, patience, 10*time.Millisecond)
}
