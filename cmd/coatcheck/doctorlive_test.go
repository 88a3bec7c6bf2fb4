package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor/doctortest"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// between starts a proxy to the server and returns its address. The proxy spoils answers.
func between(t *testing.T, p *process, spoil func(*http.Response)) string {
	t.Helper()
	target, err := url.Parse(p.url)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ModifyResponse = func(r *http.Response) error {
		spoil(r)
		return nil
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	return front.URL
}

func TestDoctorOnAServer(t *testing.T) {
	t.Parallel()
	p := start(t, unhurried...)
	admin := "--admin-listen=" + strings.TrimPrefix(p.admin, "http://")
	through := func(at string, more ...string) doctortest.Diagnosis {
		code, out, errs := command(t, nil, append([]string{"doctor", "--json", "--dev", admin, "--url", at}, more...)...)
		require.Empty(t, errs)
		return diagnosed(t, code, out)
	}
	d := through(p.url)
	assert.Empty(t, d.With(doctor.Problem), d.Texts)
	d.Says("server", doctor.Fine, "is ready")
	for _, check := range []string{"server-writes", "server-reload"} {
		assert.NotContains(t, d.By, check)
	}
	d.Says("url-proxy", doctor.Fine, "nothing between")
	for _, check := range []string{"url", "url-cache", "url-cookie", "url-admin"} {
		d.Says(check, doctor.Fine, "")
	}
	assert.Empty(t, through(between(t, p, func(*http.Response) {})).With(doctor.Problem))

	for name, tt := range map[string]struct {
		spoil       func(*http.Response)
		args        []string
		check, text string
	}{
		"Set-Cookie dropped": {
			spoil: func(r *http.Response) { r.Header.Del("Set-Cookie") }, check: "url-cookie", text: "drops it",
		},
		"the cookie rewritten": {
			spoil: func(r *http.Response) {
				r.Header.Set("Set-Cookie", strings.Replace(r.Header.Get("Set-Cookie"), "Path=/;", "Path=/x; Secure;", 1))
			},
			check: "url-cookie", text: "with another Secure, Path",
		},
		"another configuration": {
			spoil: func(*http.Response) {}, args: []string{"--cookie-name=sid"}, check: "url-cookie", text: "name sid",
		},
		"a cache": {
			spoil: func(r *http.Response) { r.Header.Set("Age", "3") }, check: "url-cache", text: "one person may get another's",
		},
		"a header for caches": {
			spoil: func(r *http.Response) { r.Header.Set("Cache-Control", "max-age=60") }, check: "url-cache", text: "turn caching off",
		},
		"a proxy that nobody trusts": {
			spoil: func(r *http.Response) { r.Header.Set("Server", "nginx/1.22.1") }, check: "url-proxy", text: "--trusted-proxies is empty",
		},
		"another server": {
			spoil: func(r *http.Response) { r.StatusCode = http.StatusNotFound }, check: "url", text: "leads elsewhere",
		},
		"a redirect": {
			spoil: func(r *http.Response) {
				r.StatusCode = http.StatusMovedPermanently
				r.Header.Set("Location", "https://login.example.com/auth/me")
			},
			check: "url", text: "redirects to https://login.example.com/",
		},
	} {
		d := through(between(t, p, tt.spoil), tt.args...)
		d.Says(tt.check, doctor.Problem, tt.text)
		assert.Equal(t, []string{tt.check}, d.With(doctor.Problem), name)
	}
	through(between(t, p, func(r *http.Response) { r.Header.Set("Via", "1.1 varnish") }), "--trusted-proxies=127.0.0.1").Says("url-proxy", doctor.Fine, "varnish")

	both := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, err := url.Parse(p.url)
		if !strings.HasPrefix(r.URL.Path, "/auth/") {
			target, err = url.Parse(p.admin)
		}
		assert.NoError(t, err)
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.Transport = &http.Transport{DisableKeepAlives: true}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(both.Close)
	through(both.URL).Says("url-admin", doctor.Problem, "the public address leads to the admin listener")

	through("http://127.0.0.1:1").Says("url", doctor.Problem, "refuses connections")
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
	assert.NotContains(t, p.stderr.String(), "event=logout", "nobody was logged out")
}

// issue writes a certificate for 127.0.0.1 that is its own authority.
func issue(t *testing.T, ends time.Time) (pair tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "doctor's test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: ends,
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestDoctorOnCertificates(t *testing.T) {
	t.Parallel()
	p := start(t)
	target, err := url.Parse(p.url)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		left         time.Duration
		known        bool
		result, text string
	}{
		"a good one":      {60 * 24 * time.Hour, true, doctor.Fine, "is good until"},
		"one that ends":   {13 * 24 * time.Hour, true, doctor.Warning, "within two weeks"},
		"one that ended":  {-time.Hour, true, doctor.Problem, "browsers refuse"},
		"one of somebody": {60 * 24 * time.Hour, false, doctor.Problem, "unknown authority"},
	} {
		pair, authority := issue(t, time.Now().Add(tt.left))
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.Transport = &http.Transport{DisableKeepAlives: true}
		front := httptest.NewUnstartedServer(proxy)
		front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		front.Config.ErrorLog = log.New(io.Discard, "", 0)
		front.StartTLS()
		cmd := exec.CommandContext(t.Context(), program(t), "doctor", "--json", "--dev", "--admin-listen=127.0.0.1:1", "--url", front.URL)
		cmd.Env = environment()
		if tt.known {
			cmd.Env = environment("SSL_CERT_FILE=" + authority)
		}
		out, _ := cmd.Output() // the exit code says it
		front.Close()
		t.Log(name)
		diagnosed(t, cmd.ProcessState.ExitCode(), string(out)).Says("url-tls", tt.result, tt.text)
	}
}

func TestDoctorAndHealthcheckWithAKey(t *testing.T) {
	t.Parallel()
	file := keyFile(t, 0o600)
	p := start(t, "--admin-key-file", file)
	admin := "--admin-listen=" + strings.TrimPrefix(p.admin, "http://")
	code, out, _ := command(t, nil, "doctor", "--json", "--dev", admin, "--admin-key-file", file)
	diagnosed(t, code, out).Says("server", doctor.Fine, "is ready")
	code, out, _ = command(t, nil, "doctor", "--json", "--dev", admin)
	diagnosed(t, code, out).Says("server", doctor.Problem, "asks for a key")

	code, out, _ = command(t, nil, "healthcheck", "--dev", admin, "--admin-key-file", file)
	assert.Zero(t, code)
	assert.Equal(t, "alive\n", out)
	code, _, errs := command(t, nil, "healthcheck", "--dev", admin)
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "asks for a key")
}

// A server whose Redis is away is alive, so that nobody restarts it, and not ready.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := start(t, "--store", redis.URL())
	environ := []string{"COATCHECK_DEV=true", "COATCHECK_STORE=" + redis.URL(), "COATCHECK_ADMIN_LISTEN=" + strings.TrimPrefix(p.admin, "http://")}
	redis.Kill()
	code, _, errs := command(t, environ, "healthcheck")
	assert.Zero(t, code, errs)
	code, _, errs = command(t, environ, "healthcheck", "--ready")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "The session store cannot be reached")
	code, out, _ := command(t, environ, "doctor", "--json")
	diagnosed(t, code, out).Says("server", doctor.Problem, "The session store cannot be reached")

	p.signal(t, syscall.SIGTERM)
	p.wait(t)
	code, _, errs = command(t, environ, "healthcheck")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "nobody listens")
	for _, args := range [][]string{{"--admin-listen=off"}, {"--admin-listen=x"}, {"--admin-key-file=/none"}} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 1, run(append([]string{"healthcheck"}, args...), environ, daemon.Signals{}, nil, &stdout, &stderr), args)
		assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "a line")
	}
}
