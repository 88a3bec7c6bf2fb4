package login

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// cost is what one argon2id computation costs (RFC 9106).
type cost struct {
	memory  uint32 // m, KiB
	time    uint32 // t, passes over the memory
	threads uint8  // p, lanes
}

// minCost is the cost of new hashes: the minimum of OWASP's Password Storage Cheat Sheet. Stored hashes below it are
// replaced after a good login.
var minCost = cost{memory: 19456, time: 2, threads: 1}

// These are the highest costs that a users file may ask for. A hash is computed for every attempt, so a line must not be
// able to take the machine's memory or seconds of CPU time.
const (
	maxMemory  = 256 << 10 // KiB
	maxTime    = 16
	maxThreads = 16
)

const (
	minSalt, newSalt, maxSalt = 8, 16, 64 // bytes
	minTag, newTag, maxTag    = 16, 32, 64
)

// work is how many KiB are written in all, which the computing time is proportional to.
func (c cost) work() uint64 { return uint64(c.memory) * uint64(c.time) }

// below reports whether c is weaker than floor in any respect.
func (c cost) below(floor cost) bool {
	return c.memory < floor.memory || c.time < floor.time || c.threads < floor.threads
}

// raised returns c with every parameter that is below floor raised to it.
func (c cost) raised(floor cost) cost {
	return cost{max(c.memory, floor.memory), max(c.time, floor.time), max(c.threads, floor.threads)}
}

// phc is an argon2id hash, which a PHC string holds.
type phc struct {
	cost
	salt []byte
	tag  []byte
}

// newPHC returns a new hash with a random salt, whose tag the caller has to compute.
func newPHC(c cost) *phc {
	h := &phc{cost: c, salt: make([]byte, newSalt), tag: make([]byte, newTag)}
	_, _ = rand.Read(h.salt) // never fails
	return h
}

var phcEncoding = base64.RawStdEncoding.Strict()

// String returns the PHC string (github.com/P-H-C/phc-string-format).
func (h *phc) String() string {
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.memory, h.time, h.threads,
		phcEncoding.EncodeToString(h.salt), phcEncoding.EncodeToString(h.tag))
}

// parsePHC reads an argon2id PHC string as String writes it, and nothing else: no other variant, version, order of
// parameters or padding, no cost beyond the ceilings. No error holds a part of the salt or the tag.
func parsePHC(s string) (*phc, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" {
		return nil, errors.New("not of the form $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	}
	if parts[1] != "argon2id" || parts[2] != "v=19" {
		return nil, errors.New("only argon2id of version 19 is supported")
	}
	h := new(phc)
	var threads uint32
	params := strings.Split(parts[3], ",")
	if len(params) != 3 || !parseParam(params[0], "m=", &h.memory) || !parseParam(params[1], "t=", &h.time) || !parseParam(params[2], "p=", &threads) {
		return nil, errors.New("the parameters must be m=…,t=…,p=…, each a 32-bit number")
	}
	switch {
	case threads < 1 || threads > maxThreads:
		return nil, fmt.Errorf("p=%d: must be 1 to %d", threads, maxThreads)
	case h.time < 1 || h.time > maxTime:
		return nil, fmt.Errorf("t=%d: must be 1 to %d", h.time, maxTime)
	case h.memory < 8*threads || h.memory > maxMemory:
		return nil, fmt.Errorf("m=%d: must be %d (8 times p) to %d", h.memory, 8*threads, maxMemory)
	}
	h.threads = uint8(threads)
	var err error
	if h.salt, err = phcEncoding.DecodeString(parts[4]); err != nil || len(h.salt) < minSalt || len(h.salt) > maxSalt {
		return nil, fmt.Errorf("the salt must be %d to %d bytes in unpadded base64", minSalt, maxSalt)
	}
	if h.tag, err = phcEncoding.DecodeString(parts[5]); err != nil || len(h.tag) < minTag || len(h.tag) > maxTag {
		return nil, fmt.Errorf("the hash must be %d to %d bytes in unpadded base64", minTag, maxTag)
	}
	if h.String() != s {
		return nil, errors.New("not in canonical form: a leading zero, or a line break in base64")
	}
	return h, nil
}

func parseParam(s, prefix string, v *uint32) bool {
	digits, ok := strings.CutPrefix(s, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	*v = uint32(n)
	return ok && err == nil
}
