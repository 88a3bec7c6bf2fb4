package login

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// deriveFunc is argon2.IDKey.
type deriveFunc func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte

var argon2id deriveFunc = argon2.IDKey

// compute returns the tag that the password has with the hash's cost and salt.
func (h *phc) compute(derive deriveFunc, password []byte) []byte {
	return derive(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.tag)))
}

// work is what every attempt costs, whichever user it names: one argon2id computation, and bcrypt rounds if the users file
// holds a bcrypt hash. So its time reveals nothing about a user, unless the cost of their argon2id hash differs from most;
// the next good login raises a lower one.
type work struct {
	// dummy stands in for a hash that does not exist or is bcrypt. It has the cost of most hashes in the file.
	dummy *phc
	// bcrypt is the highest cost of bcrypt in the file; 0: there is none.
	bcrypt int
}

// census counts the hashes of a users file by their costs.
type census struct {
	argon  map[cost]int
	bcrypt [maxBcrypt + 1]int
}

func takeCensus(d *directory) *census {
	c := &census{argon: make(map[cost]int)}
	for _, u := range d.byName {
		if s := u.hash.Load(); s != nil {
			c.count(s, 1)
		}
	}
	return c
}

func (c *census) count(s *stored, n int) {
	if s.argon == nil {
		c.bcrypt[s.bcrypt] += n
		return
	}
	c.argon[s.argon.cost] += n
}

// costs returns how many costs the argon2id hashes have.
func (c *census) costs() (n int) {
	for _, hashes := range c.argon {
		if hashes > 0 {
			n++
		}
	}
	return n
}

// work returns the work that the file's hashes ask for; usual is the cost if it holds no argon2id hash.
func (c *census) work(usual cost) *work {
	most := 0
	for k, n := range c.argon {
		if n > most || (n == most && n > 0 && k.work() > usual.work()) {
			usual, most = k, n
		}
	}
	w := &work{dummy: newPHC(usual)}
	_, _ = rand.Read(w.dummy.tag) // never fails
	for k, n := range c.bcrypt {
		if n > 0 {
			w.bcrypt = k
		}
	}
	return w
}

// matches reports whether the password matches the stored hash, which is nil if there is none. It does all the work
// whatever the result.
func (w *work) matches(derive deriveFunc, s *stored, password []byte) bool {
	bcryptMatches := w.spendBcrypt(s, password)
	argon := w.dummy
	if s != nil && s.argon != nil {
		argon = s.argon
	}
	argonMatches := subtle.ConstantTimeCompare(argon.compute(derive, password), argon.tag) == 1
	switch {
	case s == nil:
		return false
	case s.argon == nil:
		return bcryptMatches
	default:
		return argonMatches
	}
}

// spendBcrypt computes 2^w.bcrypt rounds in all: those of the stored hash, if it is bcrypt, and then as many as are
// missing. 2^k rounds are followed by 2^k, 2^(k+1) and so on up to the highest cost but one, which makes 2^highest.
func (w *work) spendBcrypt(s *stored, password []byte) (ok bool) {
	if w.bcrypt == 0 {
		return false
	}
	if s == nil || s.argon != nil {
		matchesBcrypt(dummyBcrypt(w.bcrypt), password)
		return false
	}
	ok = matchesBcrypt(s.text, password)
	for k := s.bcrypt; k < w.bcrypt; k++ {
		matchesBcrypt(dummyBcrypt(k), password)
	}
	return ok
}

func dummyBcrypt(k int) string { return fmt.Sprintf("$2b$%02d$", k) + strings.Repeat(".", 53) }
