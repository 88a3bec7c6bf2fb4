package traces

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestReportsOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	r := &reports{log: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }}
	refused := &url.Error{Op: "Post", URL: "http://user:s3cret@x", Err: context.DeadlineExceeded}
	for range 1000 {
		r.Handle(refused)
		r.Error(refused, "a complaint", "input", "s3cret")
	}
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
	now = now.Add(reportEvery)
	r.Handle(refused)
	assert.Equal(t, 2, strings.Count(out.String(), "\n"))
	assert.Contains(t, out.String(), "count=2000")
	assert.NotContains(t, out.String(), "s3cret")
	now = now.Add(4 * 365 * 24 * time.Hour)
	r.Handle(refused)
	now = now.Add(-4 * 365 * 24 * time.Hour)
	r.Handle(refused)
	assert.Equal(t, 4, strings.Count(out.String(), "\n"), "a clock that was ahead for a moment")
}

// The owner of a certificate writes its text, so the text is not quoted.
func TestCauseQuotesNoCertificate(t *testing.T) {
	certificate := &x509.Certificate{DNSNames: []string{"s3cret.example"}}
	cause := causeOf(&url.Error{Op: "Post", URL: "https://x", Err: &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: certificate, Host: "x"}}})
	assert.Equal(t, "the collector has a certificate for another name", cause)
}

// causeOf reads the exporter's texts; this is what the real one says today.
func TestCausesOfTheRealExporter(t *testing.T) {
	for answer, want := range map[int]string{http.StatusForbidden: "the collector answered 403", http.StatusInternalServerError: "the collector answered 500"} {
		to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "s3cret", answer) }))
		sender, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(to.URL+"/v1/traces"))
		require.NoError(t, err)
		err = sender.ExportSpans(t.Context(), tracetest.SpanStubs{{Name: "x"}}.Snapshots())
		require.Error(t, err)
		assert.Equal(t, want, causeOf(err))
		require.NoError(t, sender.Shutdown(t.Context()))
		to.Close()
	}
}
