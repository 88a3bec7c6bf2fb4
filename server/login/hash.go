package login

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxPassword is the most bytes of a password. A longer one is refused before it is hashed.
const MaxPassword = 4096

// HashPassword returns the argon2id PHC string of a password of 1 to MaxPassword bytes of UTF-8, which are taken as they are.
func HashPassword(password []byte) (string, error) {
	switch {
	case len(password) == 0:
		return "", errors.New("the password is empty")
	case len(password) > MaxPassword:
		return "", fmt.Errorf("the password has more than %d bytes", MaxPassword) // how many more is not known to who reads no further
	case !utf8.Valid(password):
		return "", errors.New("the password is not UTF-8, which all that a login sends is: set the terminal, or what wrote the password, to UTF-8")
	}
	return hashPassword(argon2id, minCost, password).text, nil
}

func hashPassword(derive deriveFunc, c cost, password []byte) *stored {
	h := newPHC(c)
	h.tag = h.compute(derive, password)
	return &stored{text: h.String(), argon: h}
}

// UsersLine returns the line of the users file, without a line break, that lets the user in with the password and gives their
// sessions these claims.
func UsersLine(name string, password []byte, fields Fields) (string, error) {
	if err := checkUserName(name); err != nil {
		return "", fmt.Errorf("user %.100q: %w", shownName(name), err)
	}
	if _, err := claimsOf(name, fields.members()); err != nil {
		return "", fmt.Errorf("user %.100q: %w", name, err)
	}
	hash, err := HashPassword(password)
	if err != nil {
		return "", err
	}
	return name + ":" + hash + fields.String(), nil
}
