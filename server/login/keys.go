package login

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"
	"sync/atomic"
)

const (
	// MinKey is the fewest characters of a key, enough that none can be guessed.
	MinKey = 32
	// maxKey keeps a request that presents the key within the header limit.
	maxKey = 1024
)

// Keys are the secrets of a key file, any of which admits a caller. So a new key can be added and handed out before the old
// one is removed. Keys are safe for concurrent use.
type Keys struct {
	file string
	sums atomic.Pointer[[][sha256.Size]byte] // written by Reload
}

// LoadKeys reads a key file: one key a line, each of MinKey to 1024 printable ASCII characters without spaces. Empty lines
// and lines that begin with # are ignored. A placeholder of a sample is a mistake. The error lists all mistakes by file and line, and never shows a key.
func LoadKeys(file string) (*Keys, error) {
	k := &Keys{file: file}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the file again. On an error the keys stay unchanged.
func (k *Keys) Reload() error {
	data, err := os.ReadFile(k.file)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	sums, err := parseKeys(k.file, data)
	if err != nil {
		return err
	}
	k.sums.Store(&sums)
	return nil
}

func parseKeys(file string, data []byte) ([][sha256.Size]byte, error) {
	var sums [][sha256.Size]byte
	var wrong mistakes
	lines := make(map[[sha256.Size]byte]int)
	n := 0
	for line := range bytes.Lines(data) {
		n++
		key := bytes.TrimSpace(line)
		if len(key) == 0 || key[0] == '#' {
			continue
		}
		sum := sha256.Sum256(key)
		switch {
		case len(key) < MinKey || len(key) > maxKey:
			wrong.add("%s:%d: a key of %d characters: it must have %d to %d", file, n, len(key), MinKey, maxKey)
		case bytes.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
			wrong.add("%s:%d: a key must be printable ASCII without spaces", file, n)
		case IsPlaceholder(key):
			wrong.add("%s:%d: a placeholder, which whoever has read the sample knows: a key of your own is what openssl rand -hex 32 prints", file, n)
		case lines[sum] != 0:
			wrong.add("%s:%d: the key of line %d again", file, n, lines[sum])
		default:
			lines[sum] = n
			sums = append(sums, sum)
		}
	}
	if len(sums) == 0 && wrong.err() == nil {
		return nil, fmt.Errorf("%s: holds no key", file)
	}
	return sums, wrong.err()
}

// FirstKey returns the first key of a key file, for a program that presents one. Its errors are those of LoadKeys.
func FirstKey(file string) (string, error) {
	if _, err := LoadKeys(file); err != nil {
		return "", err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("key file: %w", err)
	}
	for line := range bytes.Lines(data) {
		if key := bytes.TrimSpace(line); len(key) > 0 && key[0] != '#' {
			return string(key), nil
		}
	}
	return "", fmt.Errorf("%s: holds no key", file)
}

// Match reports whether the value of an Authorization header is "Bearer" and one of the keys (RFC 6750). It takes the same
// time for every key and for none: all keys are compared, by their hashes, so that not even their lengths matter.
func (k *Keys) Match(authorization []byte) bool {
	scheme, key, found := bytes.Cut(authorization, []byte{' '})
	if !found || !bytes.EqualFold(scheme, []byte("Bearer")) {
		return false
	}
	sum := sha256.Sum256(bytes.Trim(key, " "))
	match := 0
	for _, s := range *k.sums.Load() {
		match |= subtle.ConstantTimeCompare(sum[:], s[:])
	}
	return match == 1
}
