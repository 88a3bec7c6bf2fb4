package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testCA issues certificates for 127.0.0.1.
type testCA struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	ca := new(testCA)
	ca.cert, ca.key = ca.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)})
	return ca
}

func (ca *testCA) sign(t *testing.T, tmpl *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca.serial++
	tmpl.SerialNumber, tmpl.Subject = big.NewInt(ca.serial), pkix.Name{CommonName: "test"}
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-time.Hour)
	}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// issue returns a new pair in PEM, good until then, and its serial number.
func (ca *testCA) issue(t *testing.T, until time.Time) (cert, key []byte, serial int64) {
	t.Helper()
	c, k := ca.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: until, NotBefore: time.Now().Add(-48 * time.Hour)})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), c.SerialNumber.Int64()
}

// pairFiles are the files of a pair.
type pairFiles struct{ cert, key string }

func newPairFiles(t *testing.T) pairFiles {
	dir := t.TempDir()
	return pairFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
}

func (f pairFiles) write(t *testing.T, cert, key []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(f.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(f.key, key, 0o600))
}

func (f pairFiles) flags() []string { return []string{"--tls-cert", f.cert, "--tls-key", f.key} }

// client trusts the CA, and makes a connection for each request.
func (ca *testCA) client() *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}}
}

// fetched is what a request over TLS found.
type fetched struct {
	status      int
	proto, hsts string
	serial      int64 // of the certificate
}

func (p *process) fetch(t *testing.T, client *http.Client) fetched {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/auth/me", http.NoBody)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return fetched{resp.StatusCode, resp.Proto, resp.Header.Get("Strict-Transport-Security"), resp.TLS.PeerCertificates[0].SerialNumber.Int64()}
}

// The built program over TLS, while its certificate is replaced: by rename, by link as Kubernetes does it, by rubbish.
func TestTLS(t *testing.T) {
	ca := newTestCA(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	volume := t.TempDir()
	release := func(name string) (serial int64) {
		dir := filepath.Join(volume, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		cert, key, serial := ca.issue(t, tomorrow)
		pairFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}.write(t, cert, key)
		next := filepath.Join(volume, "next")
		require.NoError(t, os.Symlink(name, next))
		require.NoError(t, os.Rename(next, filepath.Join(volume, "data")))
		return serial
	}
	files := pairFiles{filepath.Join(volume, "data", "tls.crt"), filepath.Join(volume, "data", "tls.key")}
	first := release("1")
	p := start(t, files.flags()...)
	require.True(t, strings.HasPrefix(p.url, "https://"), p.url)
	client := ca.client()
	// HTTP/1.1, to a client that also speaks HTTP/2.
	assert.Equal(t, fetched{http.StatusOK, "HTTP/1.1", "max-age=63072000", first}, p.fetch(t, client))

	kept := ca.client()
	kept.Transport.(*http.Transport).DisableKeepAlives = false
	defer kept.CloseIdleConnections()
	p.fetch(t, kept)

	second := release("2")
	require.Eventually(t, func() bool { return p.fetch(t, client).serial == second }, patience, 20*time.Millisecond, "it is re-read by itself")
	assert.Equal(t, 1, strings.Count(p.stderr.String(), "the certificate was re-read"))
	assert.Equal(t, first, p.fetch(t, kept).serial, "a connection is not dropped for it")

	cert, _, _ := ca.issue(t, tomorrow)
	require.NoError(t, os.WriteFile(files.cert, cert, 0o600))
	require.Eventually(t, func() bool {
		require.Equal(t, second, p.fetch(t, client).serial, "a bad pair leaves the one before in use")
		return strings.Contains(p.stderr.String(), "the new certificate is not used")
	}, patience, 20*time.Millisecond)
	assert.Contains(t, p.stderr.String(), "private key does not match public key")

	third := release("3")
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "re-read keys, users, certificates")
	assert.Equal(t, third, p.fetch(t, client).serial, "HUP does it at once")

	require.NoError(t, os.Remove(files.key))
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "not re-read")
	assert.Equal(t, third, p.fetch(t, client).serial)
	assert.NotContains(t, p.stderr.String(), "PRIVATE")

	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
}

// A request in flight over TLS is answered before the server ends, and a connection without one does not keep it.
func TestStopOverTLS(t *testing.T) {
	ca := newTestCA(t)
	files := newPairFiles(t)
	cert, key, _ := ca.issue(t, time.Now().Add(time.Hour))
	files.write(t, cert, key)
	p := start(t, append(files.flags(), "--shutdown-timeout=15s")...)
	dialer := tls.Dialer{Config: ca.client().Transport.(*http.Transport).TLSClientConfig}
	dial := func() net.Conn {
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "https://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		return conn
	}
	dial() // says no more than its handshake
	conn := dial()
	const body = `{"user_id":"user-42"}`
	_, err := fmt.Fprintf(conn, "POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", len(body))
	require.NoError(t, err)
	p.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool { return p.ready(t) != http.StatusOK }, patience, time.Millisecond)
	_, err = io.WriteString(conn, body[1:])
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "HTTP/1.1 200 OK\r\n")
	assert.Contains(t, string(answer), "\r\nConnection: close\r\n")
	assert.Zero(t, p.wait(t))
}

// configured is a configuration with a good pair, whose clock and log are the test's.
func configured(t *testing.T, files pairFiles) (c *certificate, now *time.Time, log *bytes.Buffer) {
	t.Helper()
	cfg, err := load(append([]string{"--dev"}, files.flags()...), nil)
	require.NoError(t, err)
	log, now = new(bytes.Buffer), new(time.Time)
	*now = time.Now()
	cfg.certificate.log = slog.New(slog.NewTextHandler(log, nil))
	cfg.certificate.now = func() time.Time { return *now }
	return cfg.certificate, now, log
}

func serialOf(t *testing.T, c *certificate) int64 {
	t.Helper()
	pair, err := c.get(nil)
	require.NoError(t, err)
	return pair.Leaf.SerialNumber.Int64()
}

// What is wrong is said once, not at each handshake; what is good again is taken; and nothing is read more than once a second.
func TestCertificateIsLookedAt(t *testing.T) {
	ca, files := newTestCA(t), newPairFiles(t)
	cert, key, first := ca.issue(t, time.Now().Add(time.Hour))
	files.write(t, cert, key)
	c, now, log := configured(t, files)
	newer, newerKey, second := ca.issue(t, time.Now().Add(3*time.Hour))
	files.write(t, newer, newerKey)
	assert.Equal(t, first, serialOf(t, c), "not yet")
	*now = now.Add(lookEvery)
	assert.Equal(t, second, serialOf(t, c))
	assert.Contains(t, log.String(), "the certificate was re-read")
	log.Reset()
	for _, bad := range [][2][]byte{{newer, key}, {[]byte("rubbish"), newerKey}, {newer, nil}, {nil, nil}} {
		files.write(t, bad[0], bad[1])
		for range 5 {
			*now = now.Add(lookEvery)
			require.Equal(t, second, serialOf(t, c))
		}
		assert.Equal(t, 1, strings.Count(log.String(), "the new certificate is not used"), log)
		require.Error(t, c.reread(), "who asks is told again")
		log.Reset()
	}
	require.NoError(t, os.Remove(files.cert))
	for range 3 {
		*now = now.Add(lookEvery)
		require.Equal(t, second, serialOf(t, c))
	}
	assert.Equal(t, 1, strings.Count(log.String(), "no such file"), log)
	files.write(t, newer, newerKey)
	log.Reset()
	*now = now.Add(4 * time.Hour)
	require.Equal(t, second, serialOf(t, c))
	*now = now.Add(lookEvery)
	require.Equal(t, second, serialOf(t, c))
	assert.Equal(t, 1, strings.Count(log.String(), "expired on"), "it has run out meanwhile, which is said once: %s", log)
	*now = now.Add(-24 * time.Hour)
	files.write(t, cert, key)
	assert.Equal(t, first, serialOf(t, c), "a clock that was set back stops nothing")
}

// Handshakes at once: one looks at the files, and none waits for it.
func TestCertificateUnderLoad(t *testing.T) {
	ca, files := newTestCA(t), newPairFiles(t)
	cert, key, first := ca.issue(t, time.Now().Add(time.Hour))
	files.write(t, cert, key)
	c, _, _ := configured(t, files)
	c.mu.Lock()
	assert.Equal(t, first, serialOf(t, c))
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = c.get(nil)
		}
	}()
	for range 20 {
		cert, key, serial := ca.issue(t, time.Now().Add(time.Hour))
		files.write(t, cert, key)
		require.NoError(t, c.reread())
		assert.Equal(t, serial, serialOf(t, c))
	}
	cancel()
	<-done
}

func TestCertificateMistakes(t *testing.T) {
	ca, good := newTestCA(t), newPairFiles(t)
	cert, key, _ := ca.issue(t, time.Now().Add(time.Hour))
	good.write(t, cert, key)
	other := newPairFiles(t)
	_, otherKey, _ := ca.issue(t, time.Now().Add(time.Hour))
	other.write(t, []byte("no PEM"), otherKey)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"only a certificate":   {[]string{"--tls-cert", good.cert}, "--tls-key: --tls-cert needs it"},
		"only a key":           {[]string{"--tls-key", good.key}, "--tls-cert: --tls-key needs it"},
		"no such file":         {[]string{"--tls-cert=/nowhere/tls.crt", "--tls-key", good.key}, `--tls-cert "/nowhere/tls.crt": open /nowhere/tls.crt: no such file or directory (command line)`},
		"no such key":          {[]string{"--tls-cert", good.cert, "--tls-key=/nowhere/tls.key"}, `--tls-key "/nowhere/tls.key": open /nowhere/tls.key: no such file or directory (command line)`},
		"a directory":          {[]string{"--tls-cert", filepath.Dir(good.cert), "--tls-key", good.key}, "is a directory"},
		"no PEM":               {[]string{"--tls-cert", other.cert, "--tls-key", good.key}, "holds no certificate in PEM"},
		"a key as well":        {[]string{"--tls-cert", good.key, "--tls-key", good.key}, "holds no certificate in PEM"},
		"a certificate as key": {[]string{"--tls-cert", good.cert, "--tls-key", good.cert}, "found a certificate rather than a key"},
		"another's key":        {[]string{"--tls-cert", good.cert, "--tls-key", other.key}, "--tls-key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(append([]string{"--dev"}, tt.args...), nil)
			require.ErrorContains(t, err, tt.want)
			assert.Len(t, leaves(err), 1)
			assert.NotContains(t, err.Error(), "PRIVATE")
		})
	}
	_, err := load([]string{"--dev", "--tls-cert", good.cert, "--tls-key", other.key}, nil)
	require.ErrorContains(t, err, good.cert)
	require.ErrorContains(t, err, "private key does not match public key")

	expired := newPairFiles(t)
	cert, key, _ = ca.issue(t, time.Now().Add(-time.Hour))
	expired.write(t, cert, key)
	c, err := load(append([]string{"--dev"}, expired.flags()...), nil)
	require.NoError(t, err)
	require.Len(t, c.notes, 1)
	assert.Contains(t, c.notes[0], "the certificate in --tls-cert expired on ")
}
