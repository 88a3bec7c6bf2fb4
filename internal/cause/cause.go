// Package cause says why a request to another server got no answer, in words of its own. An error of net/http, crypto/tls or
// crypto/x509 may quote what the other server sent (a header line that it does not understand, a name in a certificate), the
// address with the secrets in it, or a password that the other server echoed; none of that belongs into a log.
package cause

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
)

// Of returns why a request failed, as the predicate of a sentence about the other server, such as "refuses connections". Its
// words are this package's and the system's, never the other server's.
func Of(err error) string {
	var timeout net.Error
	var resolver *net.DNSError
	var number syscall.Errno
	switch {
	case errors.Is(err, context.Canceled):
		return "was not waited for"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "did not answer in time"
	case errors.As(err, &resolver):
		return "has a name that cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses connections"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed the connection before the end of its answer"
	case errors.As(err, &number):
		return "cannot be reached: " + number.Error() // the system's text for the number
	}
	if text := ofTLS(err); text != "" {
		return text
	}
	return "gave an answer that is not understood"
}

// ofTLS returns why TLS failed; empty: it did not.
func ofTLS(err error) string {
	var alert *net.OpError
	var header tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return ofCertificate(certificate.Err)
	case errors.As(err, &alert) && alert.Op == "remote error":
		return "ended the TLS handshake: " + alert.Err.Error() // crypto/tls's text for the number of an alert
	case errors.As(err, &header):
		return "does not speak TLS"
	}
	return ""
}

func ofCertificate(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "has a certificate of an unknown authority"
	case errors.As(err, &name):
		return "has a certificate for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "has a certificate that has expired, or is not valid yet"
	default:
		return "has a certificate that is not valid"
	}
}
