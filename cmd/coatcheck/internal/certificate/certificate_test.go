package certificate

import (
	"bytes"
	"context"
	"encoding/pem"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate/certtest"
)

// configured is a good pair, whose clock and log are the test's.
func configured(t *testing.T, files certtest.Files) (c *Certificate, now *time.Time, log *bytes.Buffer) {
	t.Helper()
	c, err := Open(files.Cert, files.Key)
	require.NoError(t, err)
	log, now = new(bytes.Buffer), new(time.Time)
	*now = time.Now()
	c.SetLog(slog.New(slog.NewTextHandler(log, nil)))
	c.now = func() time.Time { return *now }
	return c, now, log
}

func serialOf(t *testing.T, c *Certificate) int64 {
	t.Helper()
	pair, err := c.get(nil)
	require.NoError(t, err)
	return pair.Leaf.SerialNumber.Int64()
}

// A mistake is logged once, not at each handshake; a pair that is good again is taken; and the files are read once a second at most.
func TestCertificateIsLookedAt(t *testing.T) {
	ca, files := certtest.New(t), certtest.NewFiles(t)
	cert, key, first := ca.Issue(t, time.Now().Add(time.Hour))
	files.Write(t, cert, key)
	c, now, log := configured(t, files)
	newer, newerKey, second := ca.Issue(t, time.Now().Add(3*time.Hour))
	files.Write(t, newer, newerKey)
	assert.Equal(t, first, serialOf(t, c), "not yet")
	*now = now.Add(lookEvery)
	assert.Equal(t, second, serialOf(t, c))
	assert.Contains(t, log.String(), "the certificate was re-read")
	log.Reset()
	for _, bad := range [][2][]byte{{newer, key}, {[]byte("rubbish"), newerKey}, {newer, nil}, {nil, nil}} {
		files.Write(t, bad[0], bad[1])
		for range 5 {
			*now = now.Add(lookEvery)
			require.Equal(t, second, serialOf(t, c))
		}
		assert.Equal(t, 1, strings.Count(log.String(), "the new certificate is not used"), log)
		require.Error(t, c.Reread(), "a caller gets the error again")
		log.Reset()
	}
	require.NoError(t, os.Remove(files.Cert))
	for range 3 {
		*now = now.Add(lookEvery)
		require.Equal(t, second, serialOf(t, c))
	}
	assert.Equal(t, 1, strings.Count(log.String(), "no such file"), log)
	files.Write(t, newer, newerKey)
	log.Reset()
	*now = now.Add(4 * time.Hour)
	require.Equal(t, second, serialOf(t, c))
	*now = now.Add(lookEvery)
	require.Equal(t, second, serialOf(t, c))
	assert.Equal(t, 1, strings.Count(log.String(), "expired on"), "it has run out meanwhile, which is said once: %s", log)
	*now = now.Add(-24 * time.Hour)
	files.Write(t, cert, key)
	assert.Equal(t, first, serialOf(t, c), "a clock that was set back stops nothing")
}

// A chain of which one certificate is damaged is of no use to most clients, although its first certificate fits the key.
func TestDamagedChain(t *testing.T) {
	ca, files := certtest.New(t), certtest.NewFiles(t)
	cert, key, first := ca.Issue(t, time.Now().Add(time.Hour))
	newer, newerKey, _ := ca.Issue(t, time.Now().Add(3*time.Hour))
	issuer := string(ca.PEM())
	damaged := func(der string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)}))
	}
	for _, tc := range []struct{ chain, wrong string }{
		{string(newer) + damaged("\x30\x03abc") + issuer, "certificate 2 of the chain: x509: malformed"},
		{string(newer) + issuer + damaged(""), "certificate 3 of the chain: x509: malformed"},
		{string(newer) + issuer[:len(issuer)/2], "of its 2 certificates only 1 are PEM"},
		{string(newer) + strings.Replace(issuer, "\nM", "\n!", 1) + issuer, "of its 3 certificates only 2 are PEM"},
	} {
		files.Write(t, []byte(tc.chain), newerKey)
		_, err := Open(files.Cert, files.Key)
		require.ErrorContains(t, err, "--tls-cert: "+tc.wrong)
		files.Write(t, cert, key)
		c, _, _ := configured(t, files)
		files.Write(t, []byte(tc.chain), newerKey)
		require.ErrorContains(t, c.Reread(), tc.wrong)
		require.ErrorContains(t, c.Failure(), tc.wrong)
		assert.Equal(t, first, serialOf(t, c), "the pair before stays")
		files.Write(t, slices.Concat(newer, []byte("# "+issuer+issuer)), newerKey) // the first of them is commented out
		require.NoError(t, c.Reread())
	}
}

// A mistake that was mended is logged again when it comes back, and so is its end, although the pair is the one before.
func TestCertificateMistakeComesBack(t *testing.T) {
	ca, files := certtest.New(t), certtest.NewFiles(t)
	cert, key, _ := ca.Issue(t, time.Now().Add(time.Hour))
	other, _, _ := ca.Issue(t, time.Now().Add(time.Hour))
	files.Write(t, cert, key)
	c, now, log := configured(t, files)
	look := func(cert []byte) {
		files.Write(t, cert, key)
		for range 3 {
			*now = now.Add(lookEvery)
			serialOf(t, c)
		}
	}
	for range 2 {
		log.Reset()
		look(other)
		assert.Equal(t, 1, strings.Count(log.String(), "the new certificate is not used"), log)
		assert.NotContains(t, log.String(), "failed before")
		look(cert)
		assert.Equal(t, 1, strings.Count(log.String(), `level=INFO msg="re-read, which had failed before" setting=tls-cert`), log)
	}
	log.Reset()
	look(other)
	files.Write(t, cert, key)
	require.NoError(t, c.Reread())
	assert.NotContains(t, log.String(), "failed before", "who asked for the reading says so")
	look(other)
	assert.Equal(t, 2, strings.Count(log.String(), "the new certificate is not used"), log)
}

// Handshakes at once: one looks at the files, and none waits for it.
func TestCertificateUnderLoad(t *testing.T) {
	ca, files := certtest.New(t), certtest.NewFiles(t)
	cert, key, first := ca.Issue(t, time.Now().Add(time.Hour))
	files.Write(t, cert, key)
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
		cert, key, serial := ca.Issue(t, time.Now().Add(time.Hour))
		files.Write(t, cert, key)
		require.NoError(t, c.Reread())
		assert.Equal(t, serial, serialOf(t, c))
	}
	cancel()
	<-done
}
