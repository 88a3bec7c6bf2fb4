// Package certificate reads the TLS certificate of a listener, and reads it again when its files change.
package certificate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Certificate is a certificate with its key, for a listener. At a handshake, and at most once in lookEvery, its files are
// read again and compared by their content: a Kubernetes volume swaps a link, other tools rename, and not every change moves
// the modification time. When a new pair is not valid, the previous one stays in use. Safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger // set before the first handshake
	now               func() time.Time

	current atomic.Pointer[tls.Certificate] // written by take, under mu

	mu        sync.Mutex        // held while the files are read; a handshake does not wait for it
	looked    time.Time         // guarded by mu: when the files were last read
	content   [sha256.Size]byte // guarded by mu: sum of the files when they were last read, valid or not
	failure   error             // guarded by mu: what was wrong with the files when they were last read
	complaint string            // guarded by mu: what was last logged about the files
}

// lookEvery is the minimum time between two reads of the files.
const lookEvery = time.Second

// Open reads the pair in the two files. Its error is a *PairError, or several, joined. SetLog must be called before the first handshake.
func Open(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, now: time.Now}
	pair, content, err := c.read()
	if err != nil {
		return nil, err
	}
	c.looked, c.content = c.now(), content
	c.current.Store(pair)
	c.complaint = staleness(pair.Leaf, c.looked)
	return c, nil
}

// Note is a remark on the certificate that is no mistake, such as that it has expired; empty: no remark.
func (c *Certificate) Note() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.complaint
}

// Files are the names of the certificate's file and of its key's.
func (c *Certificate) Files() []string { return []string{c.certFile, c.keyFile} }

// NotAfter is when the certificate in use ends.
func (c *Certificate) NotAfter() time.Time { return c.current.Load().Leaf.NotAfter }

// Failure is what is wrong with the files, if the pair before them is still in use because of it; nil: nothing is.
func (c *Certificate) Failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// SetLog sets the log of changes and of what is wrong with them.
func (c *Certificate) SetLog(log *slog.Logger) { c.log = log }

// ServerConfig is the TLS configuration of a listener with this certificate: TLS 1.2 and up.
func (c *Certificate) ServerConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// get returns the certificate for a handshake. At most one handshake a second checks whether the files have changed.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if since := c.now().Sub(c.looked); since >= lookEvery || since < 0 {
			failed := c.failure != nil
			if err := c.look(); err != nil {
				c.complain(slog.LevelError, "the new certificate is not used, the one before stays: "+err.Error())
			} else if failed && c.failure == nil {
				c.log.Info("re-read, which had failed before", "setting", "tls-cert")
			}
		}
	}
	return c.current.Load(), nil
}

// Reread reads the files at once. Its error says what is wrong with them, even if that was logged before.
func (c *Certificate) Reread() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = [sha256.Size]byte{}
	return c.look()
}

// look takes the pair in the files if their content has changed. The caller holds mu.
func (c *Certificate) look() error {
	c.looked = c.now()
	pair, content, err := c.read()
	if content == c.content && content != ([sha256.Size]byte{}) {
		err, pair = nil, c.current.Load() // what is wrong with this content was said before
	} else {
		if err == nil && c.failure != nil {
			c.complaint = "" // the mistake is over: one that comes back is said again
		}
		c.failure = err
	}
	c.content = content
	if err != nil {
		return err
	}
	if before := c.current.Swap(pair); !bytes.Equal(before.Leaf.Raw, pair.Leaf.Raw) {
		c.log.Info("the certificate was re-read", "file", c.certFile, "not_after", pair.Leaf.NotAfter)
		c.complaint = ""
	}
	if note := staleness(pair.Leaf, c.looked); note != "" {
		c.complain(slog.LevelWarn, note)
	}
	return nil
}

// complain logs a text once. The caller holds mu.
func (c *Certificate) complain(level slog.Level, text string) {
	if text != c.complaint {
		c.complaint = text
		c.log.Log(context.Background(), level, text)
	}
}

// PairError says which of the two settings, tls-cert or tls-key, is wrong.
type PairError struct {
	Setting string
	Err     error
}

func (e *PairError) Error() string { return "--" + e.Setting + ": " + e.Err.Error() }
func (e *PairError) Unwrap() error { return e.Err }

// read returns the pair and the sum of the files' content, which is zero if they could not be read. Its error is as that of Open.
func (c *Certificate) read() (*tls.Certificate, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	var unread []error
	chain, err := os.ReadFile(c.certFile)
	if err != nil {
		unread = append(unread, &PairError{"tls-cert", err})
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		unread = append(unread, &PairError{"tls-key", err})
	}
	if len(unread) > 0 {
		return nil, none, errors.Join(unread...)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(chain), chain, key))
	if err := checkChain(chain); err != nil {
		return nil, sum, &PairError{"tls-cert", err}
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, sum, &PairError{"tls-key", fmt.Errorf("with --tls-cert %.100q: %w", c.certFile, err)}
	}
	return &pair, sum, nil
}

// checkChain finds mistakes in the chain alone, so that the key is not blamed for them. It looks at every certificate:
// tls.X509KeyPair takes what stands behind the first one as it is, and clients would find it damaged.
func checkChain(chain []byte) error {
	begun, n := bytes.Count(append([]byte{'\n'}, chain...), []byte("\n-----BEGIN CERTIFICATE-----")), 0
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d of the chain: %w", n, err)
		}
	}
	switch {
	case n == 0:
		return errors.New("holds no certificate in PEM")
	case n < begun: // Decode leaves out what is damaged
		return fmt.Errorf("of its %d certificates only %d are PEM", begun, n)
	}
	return nil
}

// staleness says that a certificate has expired or is not valid yet; empty: it is valid now.
func staleness(leaf *x509.Certificate, now time.Time) string {
	switch {
	case now.After(leaf.NotAfter):
		return "the certificate in --tls-cert expired on " + leaf.NotAfter.UTC().Format(time.RFC3339)
	case now.Before(leaf.NotBefore):
		return "the certificate in --tls-cert is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339)
	default:
		return ""
	}
}
