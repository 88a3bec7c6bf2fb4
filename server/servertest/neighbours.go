package servertest

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// neighbourRules are the rules about what stands between the server and its users (proxies, other origins, TLS), and about
// access to the admin API.
var neighbourRules = []rule{
	{name: "the client's address", config: behindProxies, transport: true, check: checkClientAddress},
	{name: "the client's address without proxies", transport: true, check: checkForgedAddress},
	{name: "CORS", config: trusting, transport: true, check: checkCORS},
	{name: "no CORS without trusted origins", transport: true, check: checkNoCORS},
	{name: "HSTS where TLS ends here", transport: true, check: checkHSTS},
	{name: "the admin API asks for its key", unserved: true, transport: true, check: checkAdminKeys},
	{name: "a login with a key is asked for as Bearer", unserved: true, transport: true, check: checkTrustedChallenge},
}

func behindProxies(cfg *server.Config) {
	cfg.TrustedProxies = []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48"),
	}
}

func (h *harness) addressOf(head ...string) string {
	h.Helper()
	token := h.Login(h.User(), head...)
	var list struct {
		Sessions []struct {
			IP *string `json:"ip"`
		} `json:"sessions"`
	}
	h.Get("/auth/sessions", h.Cookie(token)).Decode(h.T, &list)
	require.Len(h, list.Sessions, 1)
	require.NotNil(h, list.Sessions[0].IP)
	return *list.Sessions[0].IP
}

func checkClientAddress(h *harness) {
	const local = "127.0.0.1"
	for _, tt := range []struct {
		name string
		xff  []string
		want string
	}{
		{"none", nil, local},
		{"one proxy", []string{"203.0.113.7"}, "203.0.113.7"},
		{"the client's own claim", []string{"1.2.3.4, 203.0.113.7"}, "203.0.113.7"},
		{"two proxies", []string{"1.2.3.4, 203.0.113.7, 10.1.1.1"}, "203.0.113.7"},
		{"three proxies, in lines", []string{"1.2.3.4", "203.0.113.7, 10.1.1.1", "10.2.2.2"}, "203.0.113.7"},
		{"no blanks", []string{"1.2.3.4,203.0.113.7,10.1.1.1"}, "203.0.113.7"},
		{"all of them proxies", []string{"10.3.3.3, 10.1.1.1"}, "10.3.3.3"},
		{"IPv6", []string{"2001:db8:2::7, 2001:db8:1::1"}, "2001:db8:2::7"},
		{"IPv4 in IPv6", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{"IPv6 in brackets", []string{"[2001:db8:2::7], [2001:db8:1::1]"}, "2001:db8:2::7"},
		{"one bracket", []string{"[2001:db8:2::7"}, local},
		{"IPv4 in brackets", []string{"[203.0.113.7]"}, local},
		{"garbage", []string{"garbage"}, local},
		{"garbage behind a proxy", []string{"garbage, 10.1.1.1"}, "10.1.1.1"},
		{"with a port", []string{"203.0.113.7:4711"}, local},
		{"empty", []string{""}, local},
		{"empty element", []string{"203.0.113.7, , 10.1.1.1"}, "10.1.1.1"},
	} {
		var head []string
		for _, line := range tt.xff {
			head = append(head, "X-Forwarded-For: "+line)
		}
		assert.Equal(h, tt.want, h.addressOf(head...), tt.name)
	}
	assert.Equal(h, local, h.addressOf("X_Forwarded_For: 203.0.113.7", "X-Real-IP: 203.0.113.8", "Forwarded: for=203.0.113.9"), "other headers are not read")
}

func checkForgedAddress(h *harness) {
	assert.Equal(h, "127.0.0.1", h.addressOf("X-Forwarded-For: 203.0.113.7"))
}

func checkCORS(h *harness) {
	const good = "https://app.trusted.example"
	for _, origin := range []string{
		good, "http://localhost:5173", "https://evil.example", "null", "*", "http://app.trusted.example", good + ":443",
		good + ".evil.example", "https://APP.trusted.example", good + "/",
	} {
		trusted := origin == good || origin == "http://localhost:5173"
		for _, route := range []string{"GET /auth/me", "POST /auth/refresh", "GET /auth/sessions", "GET /nothing", "PUT /auth/me"} {
			method, path, _ := strings.Cut(route, " ")
			resp := h.Do(method, path, "Origin: "+origin)
			h.checkCORS(resp, origin, trusted)
		}
		resp := h.Do("OPTIONS", "/auth/login", "Origin: "+origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type,traceparent,x-of-the-application")
		h.checkCORS(resp, origin, trusted)
		if trusted {
			assert.Equal(h, 204, resp.Status)
			assert.Contains(h, resp.Header["Access-Control-Allow-Methods"][0], "POST")
			assert.Equal(h, []string{"content-type,traceparent,x-of-the-application"}, resp.Header["Access-Control-Allow-Headers"], "whatever it asks for")
		} else {
			assert.Equal(h, 405, resp.Status)
			assert.NotContains(h, resp.Header, "Access-Control-Allow-Methods")
		}
	}
	resp := h.sendAll(h.Wire, "POST /auth/login HTTP/1.1\r\nHost: x\r\nOrigin: "+good+"\r\nContent-Length: 20000\r\n\r\n", "too large")
	h.checkCORS(resp, good, true)
	assert.Equal(h, 413, resp.Status)
	many := strings.Repeat("x-one,", 200) + "x-last"
	resp = h.Do("OPTIONS", "/auth/login", "Origin: "+good, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: "+many)
	assert.Equal(h, []string{many}, resp.Header["Access-Control-Allow-Headers"])
	resp = h.Do("GET", "/auth/me", "Origin: "+good, "Origin: https://evil.example")
	h.checkCORS(resp, "two origins", false)
	assert.Equal(h, 405, h.Do("OPTIONS", "/auth/login", "Origin: "+good).Status, "OPTIONS that asks for nothing is no preflight")
	// FWD-01: the application's preflight, as a proxy that keeps the method asks about it, is like any other request of nobody.
	asking := []string{"Origin: " + good, "Access-Control-Request-Method: POST"}
	for target, status := range map[string]int{
		"/auth/verify": 401, "/auth/verify?group=admins": 401, "/auth/verify?x": 400, "http://x/auth/verify": 401,
		"/auth/verify/": 404, "/auth/verify/auth/me": 404, "/auth/verify%2f": 404,
	} {
		assert.Equal(h, status, h.Do("OPTIONS", target, asking...).Status, target)
	}
	assert.Equal(h, 200, h.Do("OPTIONS", "/auth/verify", append(asking, h.Cookie(h.Login("u")))...).Status)
}

func (h *harness) checkCORS(resp response, origin string, trusted bool) {
	h.Helper()
	assert.Contains(h, strings.Join(resp.Header["Vary"], ", "), "Origin", origin)
	assert.Contains(h, strings.Join(resp.Header["Vary"], ", "), "Cookie", origin)
	if !trusted {
		assert.NotContains(h, resp.Header, "Access-Control-Allow-Origin", origin)
		assert.NotContains(h, resp.Header, "Access-Control-Allow-Credentials", origin)
		return
	}
	assert.Equal(h, []string{origin}, resp.Header["Access-Control-Allow-Origin"])
	assert.Equal(h, []string{"true"}, resp.Header["Access-Control-Allow-Credentials"])
}

func checkNoCORS(h *harness) {
	for _, head := range [][]string{{"Origin: https://example.com:8443"}, {"Origin: null"}} {
		resp := h.Get("/auth/me", head...)
		assert.NotContains(h, resp.Header, "Access-Control-Allow-Origin")
	}
}

func checkHSTS(h *harness) {
	assert.NotContains(h, h.Get("/auth/me").Header, "Strict-Transport-Security")

	conn := h.dialTLS(nil)
	for origin, status := range map[string]string{"https://localhost:8443": "200", "http://localhost:8443": "403"} {
		_, err := conn.Write([]byte("POST /auth/refresh HTTP/1.1\r\nHost: localhost:8443\r\nOrigin: " + origin + "\r\n\r\n"))
		require.NoError(h, err)
		text := make([]byte, 2048)
		n, err := conn.Read(text)
		require.NoError(h, err)
		assert.Contains(h, string(text[:n]), "HTTP/1.1 "+status, origin)
		assert.Contains(h, string(text[:n]), "\r\nStrict-Transport-Security: max-age=63072000\r\n")
	}
	require.NoError(h, conn.Close())
}

// dialTLS starts a server of the same store that speaks TLS itself, and connects to it.
func (h *harness) dialTLS(edit func(*server.Config)) net.Conn {
	h.Helper()
	cert, key, err := fasthttp.GenerateTestCertificate("localhost")
	require.NoError(h, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(h, err)
	srv, err := server.New(h.Store, h.config(edit))
	require.NoError(h, err)
	ln := httpcontract.Listen(h.T)
	var served sync.WaitGroup
	served.Go(func() {
		assert.NoError(h, srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})))
	})
	h.Cleanup(func() {
		stop(srv)
		served.Wait()
	})
	// The certificate is made for this connection, so no authority has signed it.
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(h.Context(), "tcp", ln.Addr().String())
	require.NoError(h, err)
	return conn
}

func checkTrustedChallenge(h *harness) {
	file := filepath.Join(h.TempDir(), "keys")
	const key = "login-key-0123456789-0123456789-0123"
	h.Canaries = append(h.Canaries, key)
	require.NoError(h, os.WriteFile(file, []byte(key+"\n"), 0o600))
	trusted, err := login.NewTrusted(file)
	require.NoError(h, err)
	ledger := login.NewMemoryLedger(login.AddressRule())
	h.trusted = true
	throttle, err := login.NewThrottle(trusted, ledger, ledger, nil)
	require.NoError(h, err)
	for _, mode := range []login.Mode{trusted, throttle} { // the program uses the second
		h.serve(func(cfg *server.Config) { cfg.Login = mode })
		assert.Equal(h, answer{Status: 401, Code: "login_refused"}, h.Answer(h.TryLogin("u")), "%T", mode)
		assert.Equal(h, 200, h.TryLogin("u", "Authorization: Bearer "+key).Status, "%T", mode)
		h.Store.Failing(coatcheck.ErrRevoked, httpcontract.OpCreate)
		assert.Equal(h, answer{Status: 401, Code: "login_revoked"}, h.Answer(h.TryLogin("u", "Authorization: Bearer "+key)), "%T", mode)
		h.Store.On(nil)
	}
}

func checkAdminKeys(h *harness) {
	file := filepath.Join(h.TempDir(), "keys")
	const first, second = "first-key-0123456789-0123456789-0123", "second-key-0123456789-0123456789-012"
	h.Canaries = append(h.Canaries, first, second)
	require.NoError(h, os.WriteFile(file, []byte(first+"\n"+second+"\n"), 0o600))
	keys, err := login.LoadKeys(file)
	require.NoError(h, err)
	h.serve(func(cfg *server.Config) { cfg.AdminKeys = keys })
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/heap", "/admin/users/u/sessions", "/nothing"} {
		for _, head := range [][]string{
			nil,
			{"Authorization: Bearer wrong"},
			{"Authorization: " + first},
			{"Authorization: Basic " + first},
			{"Authorization: Bearer " + first, "Authorization: Bearer " + second},
		} {
			resp := h.adminDo("GET", path, head...)
			assert.Equal(h, answer{Status: 401, Code: "unauthenticated", Cookie: ""}, h.Answer(resp), "%s %s", path, head)
		}
	}
	for _, key := range []string{first, second} {
		auth := "Authorization: Bearer " + key
		assert.Equal(h, 200, h.adminDo("GET", "/healthz", auth).Status)
		assert.Equal(h, 200, h.adminDo("GET", "/admin/users/u/sessions", auth, "Host: admin.example.com").Status, "the name does not matter with a key")
	}
	require.NoError(h, os.WriteFile(file, []byte(second+"\n"), 0o600))
	require.NoError(h, keys.Reload())
	assert.Equal(h, 401, h.adminDo("GET", "/healthz", "Authorization: Bearer "+first).Status)
	assert.Equal(h, 200, h.adminDo("GET", "/healthz", "Authorization: Bearer "+second).Status)
}
