package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
)

// A proxy that drops what browsers with a device send is found, whichever of it is dropped.
func TestDoctorOnHeadersOfDevices(t *testing.T) {
	t.Parallel()
	secure := []string{"--cookie-secure=true", "--cookie-name=__Host-coatcheck"}
	server := start(t, slices.Concat(secure, unhurried, []string{"--dbsc"})...)
	t.Cleanup(func() { // when all of them are done
		server.signal(t, syscall.SIGTERM)
		assert.Zero(t, server.wait(t))
		assert.NotContains(t, server.stderr.String(), "event=device", "nobody seems to attack")
	})
	for name, tt := range map[string]struct {
		spoil        func(http.Header)
		result, text string
	}{
		"all arrives":             {func(http.Header) {}, doctor.Fine, "arrive"},
		"Secure-Session- dropped": {dropsHeaders, doctor.Problem, "Secure-Session-Skipped"},
		"the skip dropped":        {func(h http.Header) { h.Del("Secure-Session-Skipped") }, doctor.Problem, "Secure-Session-Skipped"},
		"the proof dropped":       {func(h http.Header) { h.Del("Secure-Session-Response") }, doctor.Problem, "Secure-Session-Response"},
		"the proof cut": {func(h http.Header) {
			if len(h.Get("Secure-Session-Response")) > 512 {
				h.Del("Secure-Session-Response")
			}
		}, doctor.Problem, "Secure-Session-Response"},
		"cookies dropped": {func(h http.Header) { h.Del("Cookie") }, doctor.Problem, "cookie __Host-coatcheck-name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, authority := dropping(t, server, tt.spoil)
			args := append([]string{"doctor", "--json", "--dev", "--dbsc", "--admin-listen=127.0.0.1:1", "--url", at}, secure...)
			cmd := exec.CommandContext(t.Context(), program(t), args...)
			cmd.Env = environment("SSL_CERT_FILE=" + authority)
			out, err := cmd.Output()
			if err != nil {
				var exit *exec.ExitError
				require.ErrorAs(t, err, &exit)
				require.Empty(t, string(exit.Stderr))
			}
			d := diagnosed(t, cmd.ProcessState.ExitCode(), string(out))
			d.Says("dbsc", tt.result, tt.text)
			d.Says("url-cookie", doctor.Fine, "") // nothing else is wrong
		})
	}
}

func dropsHeaders(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "Secure-Session-") || strings.HasPrefix(name, "Sec-Secure-Session-") {
			h.Del(name)
		}
	}
}

// dropping starts a proxy with TLS, which changes the headers of requests, and returns its address and its authority's file.
func dropping(t *testing.T, p *process, spoil func(http.Header)) (at, authority string) {
	t.Helper()
	target, err := url.Parse(p.url)
	require.NoError(t, err)
	pair, authority := issue(t, time.Now().Add(60*24*time.Hour))
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			spoil(r.Out.Header)
		},
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	t.Cleanup(front.Close)
	return front.URL, authority
}
