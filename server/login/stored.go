package login

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"golang.org/x/crypto/bcrypt"
)

// stored is a password's hash as the users file holds it.
type stored struct {
	text   string
	argon  *phc // nil: bcrypt
	bcrypt int  // the cost, the logarithm of the rounds; 0: argon2id
}

// maxBcrypt is the highest cost of bcrypt that is accepted: about a second.
const maxBcrypt = 14

var bcryptForm = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)

// parseStored reads an argon2id PHC string or a bcrypt hash. No error holds a part of it.
func parseStored(text string) (*stored, error) {
	if form := bcryptForm.FindStringSubmatch(text); form != nil {
		c, err := strconv.Atoi(form[1])
		if err != nil || c < bcrypt.MinCost || c > maxBcrypt {
			return nil, fmt.Errorf("bcrypt of cost %s: must be %d to %d", form[1], bcrypt.MinCost, maxBcrypt)
		}
		return &stored{text: text, bcrypt: c}, nil
	}
	if len(text) >= 3 && text[:2] == "$2" {
		return nil, errors.New("a bcrypt hash must be $2a$, $2b$ or $2y$, two digits, $, and 53 characters")
	}
	argon, err := parsePHC(text)
	if err != nil {
		return nil, err
	}
	return &stored{text: text, argon: argon}, nil
}

// outdated reports whether the hash is to be replaced after a good login.
func (s *stored) outdated(floor cost) bool {
	return s.argon == nil || s.argon.below(floor) || len(s.argon.salt) < newSalt
}

// bcryptMax is how many bytes of a password bcrypt looks at.
const bcryptMax = 72

// matchesBcrypt reports whether the bcrypt hash is the hash of this password. bcrypt ignores what is beyond 72 bytes and
// cannot tell "a" from "a\x00a", so such passwords match nothing: a password is compared as a whole or not at all.
func matchesBcrypt(text string, password []byte) bool {
	whole := len(password) <= bcryptMax && bytes.IndexByte(password, 0) < 0
	err := bcrypt.CompareHashAndPassword([]byte(text), password[:min(len(password), bcryptMax)])
	return err == nil && whole
}
