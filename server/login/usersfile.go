package login

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// The users file has one user a line:
//
//	alice:$argon2id$v=19$m=19456,t=2,p=1$…$…   may log in with the password
//	bob:!$argon2id$v=19$m=19456,t=2,p=1$…$…    disabled; take the ! away and the old password works again
//	carol:!                                    disabled, without a password
//	dave:                                      has no password: login is impossible, but sessions live
//
// Behind the hash may stand what is known of the user, separated by blanks, each value percent-encoded:
//
//	ann:$argon2id$… groups=staff,ops email=ann@example.com name=Ann%20A
//
// Empty lines and lines that begin with # are ignored. A file without any user is a mistake: it is most often one that is being
// written, and would end everybody's sessions. A name may hold colons: the last colon before the fields separates. Such a user
// must have a hash: else a colon too many would turn a hash into a part of a name, which logs and answers show.

// user is one line of the users file.
type user struct {
	name     string // as it stands in the file
	line     int
	disabled bool
	claims   coatcheck.ClaimSet
	hash     atomic.Pointer[stored] // nil: no password; written when it is parsed and, under Users.mu, by our own re-hash
}

// hashText returns the hash as it stands in the file, "" for none.
func (u *user) hashText() string {
	if s := u.hash.Load(); s != nil {
		return s.text
	}
	return ""
}

// directory is the content of a users file. The maps are never written after parseUsers.
type directory struct {
	byName      map[string]*user
	byCanonical map[string]*user
}

// parseUsers reads a users file. The error lists all mistakes by file, line and user, and shows no part of a hash.
func parseUsers(file string, data []byte) (*directory, error) {
	d := &directory{byName: make(map[string]*user), byCanonical: make(map[string]*user)}
	var wrong mistakes
	n := 0
	for raw := range bytes.Lines(bytes.TrimPrefix(data, byteOrderMark)) {
		n++
		name, hash, fields, ok := splitLine(raw)
		switch {
		case isComment(raw):
			continue
		case !ok:
			wrong.add("%s:%d: not of the form user:hash", file, n)
			continue
		}
		u, err := parseUser(name, hash, fields)
		if err != nil {
			wrong.add("%s:%d: user %.100q: %w", file, n, shownName(name), err)
			continue
		}
		u.line = n
		canonical := Canonical(name)
		if first := d.byCanonical[canonical]; first != nil {
			wrong.add("%s:%d: user %.100q: is the same as %.100q of line %d", file, n, shownName(name), shownName(first.name), first.line)
			continue
		}
		d.byName[u.name], d.byCanonical[canonical] = u, u
	}
	if len(d.byName) == 0 && wrong.err() == nil {
		return nil, fmt.Errorf("%s: holds no user", file)
	}
	return d, wrong.err()
}

var byteOrderMark = []byte("\ufeff")

func isComment(raw []byte) bool {
	line := bytes.TrimSpace(raw)
	return len(line) == 0 || line[0] == '#'
}

// splitLine returns the parts of a line: the fields at its end, and what stands before and behind the last colon before them.
func splitLine(raw []byte) (name, hash, fields string, ok bool) {
	line := string(bytes.TrimSpace(raw))
	for end := len(line); ; {
		before := strings.TrimRight(line[:end], " \t")
		i := strings.LastIndexAny(before, " \t") + 1
		if i == 0 || !isField(before[i:]) {
			line, fields = before, line[len(before):]
			break
		}
		end = i
	}
	i := strings.LastIndexByte(line, ':')
	if i < 0 {
		return "", "", "", false
	}
	return line[:i], line[i+1:], fields, true
}

// isField reports whether a word of a line is a field, and not the end of a name with a hash.
func isField(word string) bool {
	name, value, ok := strings.Cut(word, "=")
	return ok && !strings.ContainsAny(name, ":$") && !strings.Contains(value, ":$") && !strings.Contains(value, ":!") && !strings.HasSuffix(value, ":")
}

func parseUser(name, hash, fields string) (*user, error) {
	if len(strings.Fields(hash)) > 1 { // splitLine leaves a word here that is no field, and all before it
		return nil, errBehindHash
	}
	if err := checkUserName(name); err != nil {
		return nil, err
	}
	u := &user{name: name}
	var err error
	if u.claims, err = parseFields(name, fields); err != nil {
		return nil, err
	}
	hash, u.disabled = strings.CutPrefix(hash, "!")
	switch {
	case hash == "" && strings.Contains(name, ":"):
		return nil, fmt.Errorf("a name with a colon must have a hash; %w", errBehindHash)
	case hash == "":
		return u, nil
	}
	s, err := parseStored(hash)
	if err != nil {
		return nil, err
	}
	u.hash.Store(s)
	return u, nil
}

// checkUserName returns an error that says what is wrong with the name of a line.
func checkUserName(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if strings.TrimSpace(name) != name {
		return fmt.Errorf("a name must not begin or end with a space")
	}
	if name[0] == '#' {
		return fmt.Errorf("a name must not begin with #")
	}
	if hashInName.MatchString(name) {
		return fmt.Errorf("the name holds what looks like a hash; %w", errBehindHash)
	}
	return nil
}

// errBehindHash is most often why a line was split at a wrong colon.
var errBehindHash = errors.New("behind the hash may stand fields only, each written name=value, with %3A for a colon and %20 for a space")

// hashInName finds what a hash of any kind begins with: $argon2id$, $2y$, $6$.
var hashInName = regexp.MustCompile(`\$[0-9A-Za-z-]+\$`)

// shownName returns the part of a name that an error may show: what follows a colon may be a hash, or a password.
func shownName(name string) string {
	name, _, _ = strings.Cut(name, ":")
	if hash := hashInName.FindStringIndex(name); hash != nil {
		name = name[:hash[0]]
	}
	return name
}

// withHash returns the file's data with the user's hash replaced, and nothing else. It is ok only if exactly one line holds
// the user with the old hash.
func withHash(data []byte, name, old, fresh string) (next []byte, ok bool) {
	found := 0
	next = make([]byte, 0, len(data)+len(fresh))
	for raw := range bytes.Lines(data) {
		if lineName, lineHash, _, split := splitLine(bytes.TrimPrefix(raw, byteOrderMark)); split && !isComment(raw) &&
			lineName == name && lineHash == old {
			found++
			i := bytes.Index(raw, []byte(name+":")) + len(name) + 1
			raw = bytes.Join([][]byte{raw[:i], []byte(fresh), raw[i+len(old):]}, nil)
		}
		next = append(next, raw...)
	}
	return next, found == 1
}
