// Package certtest issues certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// CA issues certificates for 127.0.0.1.
type CA struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// New returns a CA of its own.
func New(t testing.TB) *CA {
	t.Helper()
	ca := new(CA)
	ca.cert, ca.key = ca.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)})
	return ca
}

func (ca *CA) sign(t testing.TB, tmpl *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca.serial++
	tmpl.SerialNumber, tmpl.Subject = big.NewInt(ca.serial), pkix.Name{CommonName: "test"}
	if tmpl.IsCA {
		tmpl.Subject.CommonName = "test CA" // OpenSSL takes a certificate that is named as its issuer for one that signed itself
	}
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

// Issue returns a new pair in PEM, valid until the given time, and its serial number.
func (ca *CA) Issue(t testing.TB, until time.Time) (cert, key []byte, serial int64) {
	t.Helper()
	c, k := ca.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: until, NotBefore: time.Now().Add(-48 * time.Hour)})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), c.SerialNumber.Int64()
}

// PEM is the CA's own certificate.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// Files names the files of a pair.
type Files struct{ Cert, Key string }

// NewFiles names the files of a pair in a folder of their own; they are not written yet.
func NewFiles(t testing.TB) Files {
	dir := t.TempDir()
	t.Helper()
	return Files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
}

// Write writes both files.
func (f Files) Write(t testing.TB, cert, key []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(f.Cert, cert, 0o600))
	require.NoError(t, os.WriteFile(f.Key, key, 0o600))
}

// Flags are the flags of serve that name the files.
func (f Files) Flags() []string { return []string{"--tls-cert", f.Cert, "--tls-key", f.Key} }

// Client returns a client that trusts the CA, and opens a connection for each request.
func (ca *CA) Client() *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}}
}
