package server

import (
	"bytes"
	"encoding/base64"

	"github.com/coatcheck/coatcheck"
)

// A login at a provider leaves notes in values of its session. A later login of the same user keeps the values of the session that it
// replaces, and may be one at a node that knows nothing of these notes: of another release, or of another mode. So that nobody takes
// such a note for one of the later login, each begins with the Key of the session that its login began; a rotation keeps the Key.

// noteSpace is the space for a note that is read.
const noteSpace = 64

// leaveNote notes something in the session of the login that was asked for.
func leaveNote(r *coatcheck.Request, name string, what []byte) error {
	key := r.NextKey()
	return r.Insert(name, append(key[:], what...))
}

// noted returns what the login that began the session has noted, nothing if it left no such note; space, which is empty, may hold it.
func noted(space []byte, r *coatcheck.Request, name string) []byte {
	raw, _ := r.Raw(name)
	if len(raw) < 2 {
		return nil
	}
	b, err := base64.StdEncoding.AppendDecode(space, raw[1:len(raw)-1]) // as encoding/json writes bytes
	key := r.Key()
	what, ours := bytes.CutPrefix(b, key[:])
	if err != nil || !ours {
		return nil
	}
	return what
}
