package cause_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/cause"
	"github.com/coatcheck/coatcheck/internal/testserver"
)

func TestOf(t *testing.T) {
	named := &x509.Certificate{DNSNames: []string{"s3cret"}}
	refused := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	for want, err := range map[string]error{
		"was not waited for":                                           context.Canceled,
		"did not answer in time":                                       context.DeadlineExceeded,
		"has a name that cannot be resolved":                           &net.OpError{Op: "dial", Err: &net.DNSError{Err: "s3cret", Name: "s3cret"}},
		"refuses connections":                                          &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"closed the connection before the end of its answer":           fmt.Errorf("s3cret: %w", io.ErrUnexpectedEOF),
		"cannot be reached: no route to host":                          &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH},
		"gave an answer that is not understood":                        errors.New("s3cret"),
		"ended the TLS handshake: tls: protocol version not supported": &net.OpError{Op: "remote error", Err: tls.AlertError(70)},
		"does not speak TLS":                                           tls.RecordHeaderError{Msg: "s3cret"},
		"has a certificate of an unknown authority":                    refused(x509.UnknownAuthorityError{Cert: named}),
		"has a certificate for another name":                           refused(x509.HostnameError{Certificate: named, Host: "s3cret"}),
		"has a certificate that has expired, or is not valid yet":      refused(x509.CertificateInvalidError{Cert: named, Reason: x509.Expired, Detail: "s3cret"}),
		"has a certificate that is not valid":                          refused(x509.CertificateInvalidError{Cert: named, Reason: x509.NotAuthorizedToSign, Detail: "s3cret"}),
	} {
		assert.Equal(t, want, cause.Of(&url.Error{Op: "Post", URL: "https://u:s3cret@x/?k=s3cret", Err: err}))
	}
}

// Whatever a server answers, none of it is quoted: each answer has a canary where net/http or its parsers may quote it.
func TestOfHostileAnswers(t *testing.T) {
	const canary = "CANARYb4d5"
	for name, answer := range hostile(canary) {
		t.Run(name, func(t *testing.T) {
			address := answering(t, answer)
			client := &http.Client{Transport: &http.Transport{MaxResponseHeaderBytes: 4 << 10}, Timeout: time.Minute}
			defer client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://u:"+canary+"@"+address+"/"+canary+"?k="+canary, strings.NewReader(canary))
			require.NoError(t, err)
			resp, err := client.Do(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				require.NoError(t, resp.Body.Close())
			}
			require.Error(t, err)
			assert.NotContains(t, cause.Of(err), canary)
			assert.NotContains(t, cause.Of(err), address)
		})
	}
}

// hostile returns answers that no client understands, each with the text where an error may quote it.
func hostile(text string) map[string]string {
	const ok = "HTTP/1.1 200 OK\r\n"
	return map[string]string{
		"protocol":           text + "/1.1 200 OK\r\n\r\n",
		"version":            "HTTP/" + text + " 200 OK\r\n\r\n",
		"status":             "HTTP/1.1 " + text + "\r\n\r\n",
		"status code":        "HTTP/1.1 2" + text + " OK\r\n\r\n",
		"header line":        ok + text + "\r\n\r\n",
		"header value":       ok + "X: \x00" + text + "\r\n\r\n",
		"folded first":       ok + " " + text + ": x\r\n\r\n",
		"content length":     ok + "Content-Length: " + text + "\r\n\r\n",
		"content lengths":    ok + "Content-Length: 1\r\nContent-Length: " + text + "\r\n\r\n",
		"transfer encoding":  ok + "Transfer-Encoding: " + text + "\r\n\r\n",
		"transfer encodings": ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: " + text + "\r\n\r\n",
		"chunk size":         ok + "Transfer-Encoding: chunked\r\n\r\n" + text + "\r\n",
		"chunk end":          ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na" + text + "\r\n",
		"trailer":            ok + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n" + text + "\r\n\r\n",
		"large header":       ok + "X: " + strings.Repeat(text, 1000) + "\r\n\r\n",
		"too short":          ok + "Content-Length: 1000\r\n\r\n" + text,
		"switching":          "HTTP/1.1 101 " + text + "\r\nContent-Length: " + text + "\r\n\r\n",
		"location":           "HTTP/1.1 302 Found\r\nLocation: http://%zz" + text + "/\r\n\r\n",
		"nothing":            "",
	}
}

// answering returns the address of a server that answers each request with these bytes and closes the connection.
func answering(t *testing.T, answer string) string {
	t.Helper()
	return testserver.Serve(t, func(conn net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, answer)
		}
	})
}

// What a real TLS server does.
func TestOfTLS(t *testing.T) {
	var quiet bytes.Buffer
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	s.Config.ErrorLog = log.New(&quiet, "", 0)
	s.StartTLS()
	defer s.Close()
	get := func(address string) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}, Timeout: time.Minute}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if err == nil {
			require.NoError(t, resp.Body.Close())
		}
		return err
	}
	assert.Equal(t, "ended the TLS handshake: tls: protocol version not supported", cause.Of(get(s.URL)))
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	assert.Regexp(t, "does not speak TLS|not understood", cause.Of(get(strings.Replace(plain.URL, "http", "https", 1))))
	s.TLS.MaxVersion = tls.VersionTLS13
	valid := httptest.NewTLSServer(http.NotFoundHandler())
	valid.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer valid.Close()
	assert.Equal(t, "has a certificate of an unknown authority", cause.Of(get(valid.URL)))
}
