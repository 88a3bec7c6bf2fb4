package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate/certtest"
)

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
	t.Parallel()
	ca := certtest.New(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	volume := t.TempDir()
	release := func(name string) (serial int64) {
		dir := filepath.Join(volume, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		cert, key, serial := ca.Issue(t, tomorrow)
		certtest.Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}.Write(t, cert, key)
		next := filepath.Join(volume, "next")
		require.NoError(t, os.Symlink(name, next))
		require.NoError(t, os.Rename(next, filepath.Join(volume, "data")))
		return serial
	}
	files := certtest.Files{Cert: filepath.Join(volume, "data", "tls.crt"), Key: filepath.Join(volume, "data", "tls.key")}
	first := release("1")
	p := start(t, files.Flags()...)
	require.True(t, strings.HasPrefix(p.url, "https://"), p.url)
	client := ca.Client()
	// HTTP/1.1, to a client that also speaks HTTP/2.
	assert.Equal(t, fetched{http.StatusOK, "HTTP/1.1", "max-age=63072000", first}, p.fetch(t, client))

	kept := ca.Client()
	kept.Transport.(*http.Transport).DisableKeepAlives = false
	defer kept.CloseIdleConnections()
	p.fetch(t, kept)

	second := release("2")
	require.Eventually(t, func() bool { return p.fetch(t, client).serial == second }, patience, 20*time.Millisecond, "it is re-read by itself")
	p.logged(t, "the certificate was re-read") // just after it is used
	assert.Equal(t, 1, strings.Count(p.stderr.String(), "the certificate was re-read"))
	assert.Equal(t, first, p.fetch(t, kept).serial, "a connection is not dropped for it")

	cert, _, _ := ca.Issue(t, tomorrow)
	require.NoError(t, os.WriteFile(files.Cert, cert, 0o600))
	require.Eventually(t, func() bool {
		require.Equal(t, second, p.fetch(t, client).serial, "a bad pair leaves the one before in use")
		return strings.Contains(p.stderr.String(), "the new certificate is not used")
	}, patience, 20*time.Millisecond)
	p.logged(t, "private key does not match public key")

	third := release("3")
	p.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return p.fetch(t, client).serial == third }, patience, 20*time.Millisecond)

	require.NoError(t, os.Remove(files.Key))
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "not re-read")
	assert.Equal(t, third, p.fetch(t, client).serial)
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
	assert.NotContains(t, p.stderr.String(), "PRIVATE")
}

// Plain http to the port of https is answered in plain text, and promises nothing.
func TestPlainHTTPOnThePortOfHTTPS(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	files := certtest.NewFiles(t)
	cert, key, _ := ca.Issue(t, time.Now().Add(time.Hour))
	files.Write(t, cert, key)
	p := start(t, append(files.Flags(), "--log-level", "debug")...)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+strings.TrimPrefix(p.url, "https")+"/auth/me", http.NoBody)
	require.NoError(t, err)
	resp, err := ca.Client().Do(req)
	require.NoError(t, err)
	defer func() { assert.NoError(t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
	assert.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	assert.Contains(t, string(body), `"code":"bad_request"`)
	assert.Contains(t, string(body), "This port takes https only.")
	assert.True(t, resp.Close)
	assert.Empty(t, resp.Header.Get("Strict-Transport-Security"))
	p.logged(t, "a client speaks http to a port of https")
}

// A request in flight over TLS is answered before the server ends, and a connection without one does not delay the end.
func TestStopOverTLS(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	files := certtest.NewFiles(t)
	cert, key, _ := ca.Issue(t, time.Now().Add(time.Hour))
	files.Write(t, cert, key)
	p := start(t, append(files.Flags(), unhurried...)...)
	dialer := tls.Dialer{Config: ca.Client().Transport.(*http.Transport).TLSClientConfig}
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

// When the certificate ends is a metric. A bad pair is counted and shown without a HUP, and no longer when the pair is right.
func TestCertificateShows(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	files := certtest.NewFiles(t)
	ends := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	cert, key, _ := ca.Issue(t, ends)
	files.Write(t, cert, key)
	p := start(t, files.Flags()...)
	_, page := p.scrape(t)
	assert.Contains(t, page, "\ncoatcheck_certificate_expiry_timestamp_seconds "+strconv.FormatFloat(float64(ends.Unix()), 'g', -1, 64)+"\n")
	assert.Contains(t, page, "\n"+`coatcheck_reload_failed{setting="tls-cert"} 0`+"\n")
	assert.JSONEq(t, `{"status":"ready","writes":"ok","reload":"ok"}`, p.readiness(t))

	other, _, _ := ca.Issue(t, ends)
	require.NoError(t, os.WriteFile(files.Cert, other, 0o600))
	require.Eventually(t, func() bool {
		p.fetch(t, ca.Client())
		return p.readiness(t) == `{"status":"ready","writes":"ok","reload":"failed"}`
	}, patience, 50*time.Millisecond)
	_, page = p.scrape(t)
	assert.Contains(t, page, "\n"+`coatcheck_reload_failed{setting="tls-cert"} 1`+"\n")
	assert.NotContains(t, page, "\n"+`coatcheck_reload_failures_total{setting="tls-cert"} 0`+"\n")

	require.NoError(t, os.WriteFile(files.Cert, cert, 0o600))
	require.Eventually(t, func() bool {
		p.fetch(t, ca.Client())
		return p.readiness(t) == `{"status":"ready","writes":"ok","reload":"ok"}`
	}, patience, 50*time.Millisecond)
}
