package middleware

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/coatcheck/coatcheck"
)

// CSRF makes and checks tokens for the forms of an application that must not rely on Sec-Fetch-Site and Origin alone, as the
// standalone server does. A token is bound to the session by its handle, which changes with a login but not with a refresh
// (OWASP's signed double-submit pattern without the cookie): it is not valid in another session, it is not stored, and no
// cookie is read or set, so an attacker can plant none. Requests without a stored session get no token and pass no check;
// they have no session that a forged request could use. Safe for concurrent use.
type CSRF struct {
	keys [][]byte
}

// Where a request carries its token.
const (
	CSRFHeader = "X-CSRF-Token"
	CSRFField  = "csrf_token" // of an urlencoded or multipart form
	// CSRFBody bounds the form that is read to find the field, in bytes.
	CSRFBody = 1 << 20
)

// MinCSRFKey is the least number of bytes of a CSRF key.
const MinCSRFKey = 32

// NewCSRF returns a CSRF with these keys, each of at least MinCSRFKey bytes. The first key signs and all of them verify, so
// that a key can be replaced without refusing an open form: put the new key first, and remove the old one when the forms that
// it signed are gone. No error contains a key.
func NewCSRF(keys ...[]byte) (*CSRF, error) {
	if len(keys) == 0 {
		return nil, errors.New("csrf: needs a key")
	}
	c := new(CSRF)
	for i, key := range keys {
		if len(key) < MinCSRFKey {
			return nil, fmt.Errorf("csrf: key %d has %d bytes: it must have at least %d", i+1, len(key), MinCSRFKey)
		}
		c.keys = append(c.keys, bytes.Clone(key))
	}
	return c, nil
}

// Format keeps the keys out of every fmt verb.
func (c *CSRF) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("coatcheck.CSRF")) }

// csrfRandom is the number of random bytes that make two tokens of a session differ, so that the length of a compressed page
// does not reveal them (BREACH).
const csrfRandom = 16

var csrfEncoding = base64.RawURLEncoding.Strict()

// Token returns a token for the session: 64 characters of base64url, a new one each time. It is empty for a session that is
// not stored, and after Authenticate or Destroy: a session begun in this request must be committed first.
func (c *CSRF) Token(sess *coatcheck.Session) string {
	if sess.LoginPending() || sess.Key().IsZero() {
		return ""
	}
	token := make([]byte, csrfRandom, csrfRandom+sha256.Size)
	_, _ = rand.Read(token) // never fails
	return csrfEncoding.EncodeToString(c.sign(c.keys[0], sess, token))
}

// Valid reports whether the token was made for this session by one of the keys. The time it takes does not depend on the
// token's bytes.
func (c *CSRF) Valid(sess *coatcheck.Session, token string) bool {
	raw, err := csrfEncoding.DecodeString(token)
	if err != nil || len(raw) != csrfRandom+sha256.Size || csrfEncoding.EncodeToString(raw) != token || sess.Key() == (coatcheck.Key{}) {
		return false
	}
	for _, key := range c.keys {
		if hmac.Equal(c.sign(key, sess, bytes.Clone(raw[:csrfRandom])), raw) {
			return true
		}
	}
	return false
}

// CSRFForbidden is what an unsafe request without a valid token is told.
const CSRFForbidden = "the form has expired; load the page again"

// PassesCSRF reports whether a request may reach the handler: it is safe (RFC 9110, section 9.2.1), or its header CSRFHeader,
// or else its form field CSRFField, holds a valid token of the session. The funcs are called only where they are needed. It is
// no method, because the frameworks' packages export those.
func PassesCSRF(c *CSRF, s *coatcheck.Session, method string, header func(name string) string, field func() string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	if token := header(CSRFHeader); token != "" {
		return c.Valid(s, token)
	}
	return !s.Key().IsZero() && c.Valid(s, field())
}

// sign appends to the random bytes their authentication code for the session.
func (*CSRF) sign(key []byte, sess *coatcheck.Session, random []byte) []byte {
	handle := sess.Key().Handle()
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("coatcheck csrf\x00")) // so that no other use of the key makes tokens
	mac.Write(handle[:])
	mac.Write(random)
	return mac.Sum(random)
}
