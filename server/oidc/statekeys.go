package oidc

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/coatcheck/coatcheck/server/login"
)

// minStateKey is the least number of bytes of a line of the state key file.
const minStateKey = 32

// StateKeys encrypt what a login remembers in the browser. The first key encrypts and all of them decrypt, so that a key can be
// replaced while logins are on their way. Safe for concurrent use.
type StateKeys struct {
	file  string
	aeads atomic.Pointer[[]cipher.AEAD] // written by Reload
}

// RandomStateKey returns a key of this process, for a server that shares its sessions with no other.
func RandomStateKey() *StateKeys {
	k := new(StateKeys)
	var line [minStateKey]byte
	_, _ = rand.Read(line[:]) // never fails
	k.aeads.Store(&[]cipher.AEAD{newAEAD(line[:])})
	return k
}

// LoadStateKeys reads a file with a key a line, each of 32 bytes or more. The error lists all mistakes by line and shows no key.
func LoadStateKeys(file string) (*StateKeys, error) {
	k := &StateKeys{file: file}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the file again. On an error the keys stay unchanged.
func (k *StateKeys) Reload() error {
	data, err := os.ReadFile(k.file)
	if err != nil {
		return fmt.Errorf("state keys: %w", err)
	}
	var aeads []cipher.AEAD
	var errs []error
	n := 0
	for line := range bytes.Lines(data) {
		n++
		switch line = bytes.TrimSpace(line); {
		case len(line) == 0 || line[0] == '#':
		case len(line) < minStateKey:
			errs = append(errs, fmt.Errorf("%s:%d: a key of %d bytes: it must have at least %d", k.file, n, len(line), minStateKey))
		case login.IsPlaceholder(line):
			errs = append(errs, fmt.Errorf("%s:%d: a placeholder, which whoever has read the sample knows", k.file, n))
		default:
			aeads = append(aeads, newAEAD(line))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(aeads) == 0 {
		return fmt.Errorf("%s: holds no key", k.file)
	}
	k.aeads.Store(&aeads)
	return nil
}

func newAEAD(line []byte) cipher.AEAD {
	key := sha256.Sum256(append([]byte("coatcheck oidc state\x00"), line...))
	a, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("oidc: " + err.Error()) // the key has the right length
	}
	return a
}

// seal encrypts text for this name.
func (k *StateKeys) seal(name string, text []byte) []byte {
	a := (*k.aeads.Load())[0]
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(text)+a.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return a.Seal(nonce, nonce, text, []byte(name))
}

// open decrypts what seal returned for the same name.
func (k *StateKeys) open(name string, sealed []byte) ([]byte, bool) {
	for _, a := range *k.aeads.Load() {
		if len(sealed) < a.NonceSize() {
			return nil, false
		}
		if text, err := a.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], []byte(name)); err == nil {
			return text, true
		}
	}
	return nil, false
}
