package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificate is what the public listener proves its name with. Its files are read again, at a handshake and at most once in
// lookEvery, because their content is what counts: a Kubernetes volume swaps a link, others rename, and not every change moves
// the modification time. A pair that is not good leaves the one before it in use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger // set before the first handshake
	now               func() time.Time

	current atomic.Pointer[tls.Certificate] // written by take, under mu

	mu        sync.Mutex        // held while the files are looked at; a handshake does not wait for it
	looked    time.Time         // guarded by mu
	content   [sha256.Size]byte // guarded by mu: of the files, when they were last read, whether or not they were good
	complaint string            // guarded by mu: what was last said about them
}

const lookEvery = time.Second

// readCertificate reads the pair that --tls-cert and --tls-key name, and yields what is wrong with it, with the setting that
// names the file.
func (c *config) readCertificate() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		switch {
		case c.tlsCert == "" && c.tlsKey == "":
			return
		case c.tlsCert == "":
			yield("tls-cert", errors.New("--tls-key needs it"))
			return
		case c.tlsKey == "":
			yield("tls-key", errors.New("--tls-cert needs it"))
			return
		}
		cert := &certificate{certFile: c.tlsCert, keyFile: c.tlsKey, now: time.Now}
		pair, content, err := cert.read()
		if err != nil {
			var p *pairError
			errors.As(err, &p)
			yield(p.of, p.err)
			return
		}
		cert.looked, cert.content = cert.now(), content
		cert.current.Store(pair)
		if note := staleness(pair.Leaf, cert.now()); note != "" {
			c.notes = append(c.notes, note)
			cert.complaint = note
		}
		c.certificate = cert
		c.reload = append(c.reload, func() ([]string, error) { return nil, cert.reread() })
	}
}

// serverConfig is for the listener.
func (c *certificate) serverConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// get returns the certificate for a handshake. One handshake a second looks whether the files have changed.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if since := c.now().Sub(c.looked); since >= lookEvery || since < 0 {
			if err := c.look(); err != nil {
				c.complain(slog.LevelError, "the new certificate is not used, the one before stays: "+err.Error())
			}
		}
	}
	return c.current.Load(), nil
}

// reread looks at the files at once, and says what is wrong with them even if it was said before.
func (c *certificate) reread() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = [sha256.Size]byte{}
	return c.look()
}

// look takes the pair in the files if they are not what they were. It wants mu held.
func (c *certificate) look() error {
	c.looked = c.now()
	pair, content, err := c.read()
	if content == c.content && content != ([sha256.Size]byte{}) {
		err, pair = nil, c.current.Load()
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

// complain says something once. It wants mu held.
func (c *certificate) complain(level slog.Level, text string) {
	if text != c.complaint {
		c.complaint = text
		c.log.Log(context.Background(), level, text)
	}
}

// pairError says which of the two settings is to blame.
type pairError struct {
	of  string
	err error
}

func (e *pairError) Error() string { return "--" + e.of + ": " + e.err.Error() }
func (e *pairError) Unwrap() error { return e.err }

// read returns the pair and the sum of the files' content, which is zero if they could not be read. Its error is a *pairError.
func (c *certificate) read() (*tls.Certificate, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	chain, err := os.ReadFile(c.certFile)
	if err != nil {
		return nil, none, &pairError{"tls-cert", err}
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, none, &pairError{"tls-key", err}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(chain), chain, key))
	if err := checkChain(chain); err != nil {
		return nil, sum, &pairError{"tls-cert", err}
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, sum, &pairError{"tls-key", fmt.Errorf("with --tls-cert %.100q: %w", c.certFile, err)}
	}
	return &pair, sum, nil
}

// checkChain finds what is wrong with a chain by itself, so that the key is not blamed for it.
func checkChain(chain []byte) error {
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			return errors.New("holds no certificate in PEM")
		}
		if block.Type == "CERTIFICATE" {
			_, err := x509.ParseCertificate(block.Bytes)
			return err
		}
	}
}

// staleness says that the time of a certificate is not now, or nothing.
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
