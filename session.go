package coatcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"time"
)

var (
	// ErrNoValue is returned by Get and Pop for a name that the session has no value of.
	ErrNoValue = errors.New("no such session value")
	// ErrUserID: a user ID is empty or longer than MaxUserID bytes.
	ErrUserID = errors.New("not a user ID")
	// ErrDetached: the session is used outside the session middleware, or after its request has ended or was answered by a timeout.
	ErrDetached = errors.New("session is used outside its request")
	// ErrHeaderSent: the response's header has left, so that no cookie can be sent any more.
	ErrHeaderSent = errors.New("the response's header has been sent already")
)

// Session is what a handler holds during one request: the values of the request's session, and the changes that the request
// asks for. A middleware lends it to the handlers behind it. Nothing reaches the store before Commit or the end of the
// request. A request without a session has an empty one, which is stored only if it is given a value or a user. Arguments are copied:
// a user ID, a name or a value may be of a buffer that is overwritten once the call has returned, as Fiber's strings are.
//
// A Session belongs to its request and is not safe for concurrent use. After the request, and where no middleware ran, it is
// detached: it is empty and has no user, changes are lost, and every method that returns an error returns ErrDetached. It
// never becomes the session of another request. The zero Session is detached.
type Session struct {
	req atomic.Pointer[Request] // nil: detached; written by Open, Lend and Release
	// calls are those that are under way: Release does not let another request have what they use. They are counted here and not in the
	// request, which may be somebody else's by the time that a late one is counted.
	calls atomic.Int32
}

// nothing is the request of a detached session. It is only read.
var nothing Request

// shown returns what the session shows.
func (s *Session) shown() *Request {
	if r := s.req.Load(); r != nil {
		return r
	}
	return &nothing
}

// Format keeps the token that the request holds out of every fmt verb, and so out of logs and panics.
func (*Session) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("coatcheck.Session")) }

// ID returns the public ID of the session as loaded or last committed; the zero ID for a session that is not stored.
func (s *Session) ID() ID {
	r := s.read()
	defer s.unlock()
	return r.ID()
}

// Key returns the session's key as loaded or last committed; the zero Key for a session that is not stored.
func (s *Session) Key() Key {
	r := s.read()
	defer s.unlock()
	return r.Key()
}

// LoginPending reports whether Authenticate was called and is not committed yet. ID and Key are then those of the session that the
// login ends, or zero.
func (s *Session) LoginPending() bool {
	r := s.read()
	defer s.unlock()
	return r.login
}

// UserID returns the user of the session, empty for none.
func (s *Session) UserID() string {
	r := s.read()
	defer s.unlock()
	if r.login {
		return r.user
	}
	return string(s.RawUserID())
}

// RawUserID is UserID without an allocation: the bytes are valid until the session changes or the request ends. It does
// not see an Authenticate that is not committed.
func (s *Session) RawUserID() []byte {
	if r := s.shown(); r.live {
		return r.rec.user
	}
	return nil
}

// ExpiresAt returns the earlier of the idle and the absolute expiry; the zero time for a session that is not stored.
func (s *Session) ExpiresAt() time.Time {
	r := s.read()
	defer s.unlock()
	if !r.live {
		return time.Time{}
	}
	return time.UnixMilli(r.rec.Expiry())
}

// CreatedAt returns when the session began, which for a user's session is when the user authenticated; the zero time for a
// session that is not stored.
func (s *Session) CreatedAt() time.Time {
	r := s.read()
	defer s.unlock()
	if !r.live {
		return time.Time{}
	}
	return time.UnixMilli(r.rec.CreatedAt)
}

// Raw returns the JSON of a value. The bytes are valid until the session changes or the request ends.
func (s *Session) Raw(name string) (json.RawMessage, bool) {
	value, _, _, ok := findValue(s.shown().values, name)
	return value, ok
}

// Contains reports whether the session has a value of that name.
func (s *Session) Contains(name string) bool {
	r := s.read()
	defer s.unlock()
	_, _, _, ok := findValue(r.values, name)
	return ok
}

// Len returns how many values the session has.
func (s *Session) Len() int {
	r := s.read()
	defer s.unlock()
	n := 0
	for rest := r.values; len(rest) > 0; n++ {
		var ok bool
		if _, _, rest, ok = cutValue(rest); !ok {
			break
		}
	}
	return n
}

// Entries iterates over the values in ascending order of names, as they are when the iteration begins: values may be set
// and removed meanwhile. The JSON may be kept.
func (s *Session) Entries() iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		rest := s.copied() // changes edit the values in place, and a commit reuses their buffer
		for len(rest) > 0 {
			var name, value []byte
			var ok bool
			if name, value, rest, ok = cutValue(rest); !ok || !yield(string(name), value) {
				return
			}
		}
	}
}

// Insert sets a value. ErrTooLarge: the session's values would not fit a record; ErrName: the name is no name, or "claims"; ErrHeaderSent:
// a session would begin whose cookie cannot be sent; any other error: the value cannot be encoded as JSON. After an error the
// session is unchanged.
func (s *Session) Insert(name string, value any) error {
	raw, err := encode(name, value)
	if err != nil {
		return err
	}
	return s.change(change{name: strings.Clone(name), value: raw})
}

// Remove removes a value. It does nothing if there is no value of that name.
func (s *Session) Remove(name string) {
	if s.Contains(name) || s.mayHaveMore() {
		// Removing a present name cannot fail, because it shrinks the block, unless it is that of the claims, which stay.
		_ = s.change(change{name: strings.Clone(name)})
	}
}

// mayHaveMore reports whether the session may have values that it does not show: a login's commit may meet those that a parallel request
// has written since they were loaded, and after a commit that failed none are shown.
func (s *Session) mayHaveMore() bool {
	r := s.read()
	defer s.unlock()
	return r.login || r.failed != nil
}

// Clear removes all values but the claims. The session and its user stay.
func (s *Session) Clear() {
	if r := s.lock(); r != nil {
		defer s.unlock()
		r.cleared = true
		r.changes = r.changes[:0]
		r.values = r.baseValues()
	}
}

// BeginLogin reads the user's mark before the user's credentials are checked: if all sessions of the user are ended between
// BeginLogin and the Commit of Authenticate, that Commit returns ErrRevoked. It also does so when more than MarkLife has
// passed between the two, because no mark is kept that long. An error, which is ErrUnavailable or ErrDetached, touches nothing else that the
// request asks for; but until a BeginLogin succeeds, the Commit of an Authenticate returns it, too.
//
// A login whose check takes no time needs no BeginLogin: it begins with its Commit.
func (s *Session) BeginLogin(ctx context.Context, user string) error {
	r := s.lock()
	if r == nil {
		return ErrDetached
	}
	defer s.unlock()
	r.storing.Add(1)
	defer r.storing.Add(-1)
	return r.beginLogin(ctx, user)
}

// Authenticate makes the session the user's: a new session begins, with a new Key; every live session that the request
// carried ends, and so does every session that one of its tokens was rotated out of (ASVS 7.2.4). The values are kept if the
// session was anonymous or the same user's; its claims are not. Commit reports whether it succeeded. ErrUserID: the user ID is empty or too long.
// ErrHeaderSent: the new session's cookie cannot be sent.
func (s *Session) Authenticate(user string) error {
	if r := s.lock(); r != nil {
		defer s.unlock()
		return r.authenticate(user, ClaimSet{})
	}
	return ErrDetached
}

// Remember gives the session that Authenticate begins one lifetime, idle or not, in place of the policy's two. Zero, or
// less, restores the policy's.
func (s *Session) Remember(lifetime time.Duration) {
	if r := s.lock(); r != nil {
		defer s.unlock()
		r.lifetime = lifetime
	}
}

// Rotate asks for a new token. The old one stays admitted until a grace after the new one was first presented. Of parallel
// requests with one token exactly one rotates; for the others Rotate does nothing. It also does nothing if this request has
// committed a new token already, because a second one would drop the token that the client has. After the response's header
// has been sent it does nothing, and Commit returns ErrHeaderSent.
func (s *Session) Rotate() {
	r := s.lock()
	if r == nil {
		return
	}
	defer s.unlock()
	if (r.live || r.failed != nil) && !r.issued && r.rotation == noRotation {
		r.rotate(gracefully)
	}
}

// CycleID asks for a new token because of a change of privilege: the old token, and one in its grace, are dead at once. After
// the response's header has been sent it does nothing, and Commit returns ErrHeaderSent.
func (s *Session) CycleID() {
	r := s.lock()
	if r == nil {
		return
	}
	defer s.unlock()
	if r.live || r.failed != nil {
		r.rotate(atOnce)
	}
}

// Destroy ends the session, every other live session that the request carried, and every session that one of its tokens was
// rotated out of, so that signing out holds even if another client has gone on with the session. It also clears the cookie.
// An Insert afterwards begins a new session with a new Key.
func (s *Session) Destroy() {
	r := s.lock()
	if r == nil {
		return
	}
	defer s.unlock()
	ending := r.ending
	if r.live {
		ending = append(ending, target{r.rec.Key, r.rec.UserID()})
	}
	ending = append(append(ending, r.others...), r.former...)
	r.others, r.former = r.others[:0], r.former[:0]
	r.forget()
	r.ending, r.destroy, r.lost = ending, true, false
}

// Commit writes the handler's changes to the store now rather than at the end of the request. An error means that the client
// must not be told that anything was done: ErrRevoked, ErrFull, ErrNewer, ErrTooLarge (values that fit alone but not together
// with those of a concurrent request), the error of an Update that does not accept a concurrent request's value, ErrDetached,
// ErrConflict (others have changed the session without end), else ErrUnavailable. (A middleware that commits answers ErrRevoked with 401, the error of an Update, with which trying again does
// not help, with 500, and the others with 503.) The handler must then answer with an error: its changes are discarded, the response gets no
// Set-Cookie other than a clear, and a later Commit returns the same error. If the handler asks for anything after that, be it Destroy, and
// commits no more, the end of the request does nothing of it, and answers with the error in place of the handler. ErrHeaderSent alone is
// different: the values were committed, a rotation was not. A session that ended meanwhile, or that no longer admits the token that this
// request presented, is no error: the changes are dropped, and the session is empty.
func (s *Session) Commit(ctx context.Context) error {
	r := s.lock()
	if r == nil {
		return ErrDetached
	}
	defer s.unlock()
	r.storing.Add(1)
	defer r.storing.Add(-1)
	return r.commit(ctx)
}

// copied returns the values in a buffer of their own.
func (s *Session) copied() []byte {
	r := s.read()
	defer s.unlock()
	return bytes.Clone(r.values)
}

// read returns what the session shows, and keeps it from becoming another request's until unlock: a goroutine of the handler may be in
// a call when the request ends. Only RawUserID and Raw do without, because what they return is read after them.
func (s *Session) read() *Request {
	s.calls.Add(1) // before the request is looked up, so that either Release sees the call or the call sees a detached session
	return s.shown()
}

// lock is read for a call that changes or persists something; nil: the session is detached, or its request disowned.
func (s *Session) lock() *Request {
	r := s.read()
	if r == &nothing || r.disowned.Load() {
		s.unlock()
		return nil
	}
	return r
}

func (s *Session) unlock() { s.calls.Add(-1) }
