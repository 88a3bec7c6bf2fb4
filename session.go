package coatcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// ErrNoValue is returned by Get for a name that the session has no value of.
var ErrNoValue = errors.New("no such session value")

// ErrUserID: a user ID is empty or longer than MaxUserID bytes.
var ErrUserID = errors.New("not a user ID")

// Session is what a handler holds during one request: the values of the request's session, and what the request wants to
// become of it. Nothing reaches the store before Commit or the end of the request. A request without a session has an
// empty one, which is stored only if it is given a value or a user. A Session belongs to its request: it is not safe for
// concurrent use, and every method panics once the request has ended, until the middleware gives the object to another
// request: never keep one.
type Session struct {
	m      *Manager
	now    time.Time
	client Client

	// The record as it was loaded or last committed, if live, and the token that opens it.
	rec       Record
	token     Token
	presented ID
	live      bool
	first     bool // the client presented the current token, and its predecessor is still admitted without end
	stale     bool // the client's cookie can only be a left-over
	lost      bool // the client's cookie is not this request's to replace: what the handler sets is dropped
	issued    bool // the token is of this request: the client does not have it yet
	others    []target

	// What the handler asked for, not yet committed.
	values   []byte // what readers see: rec's values with changes applied
	changes  []change
	cleared  bool
	rotation rotation
	fresh    Token // the token that the rotation leads to, once made
	login    bool
	user     string
	lifetime time.Duration
	ending   []target
	destroy  bool

	marked bool
	mark   Mark
	markOf string

	failed    error // of the commit that failed: the handler was told, and nothing else is tried
	setCookie Cookie
	report    Report

	next, cur Record // buffers of a commit
	scratch   []byte // backs values once they were changed
}

type rotation int

const (
	noRotation rotation = iota
	rotate
	cycle
)

// Cookie is what a request's response must do to the session cookie.
type Cookie int

const (
	// Keep: no Set-Cookie.
	Keep Cookie = iota
	// Set: send Session.Token.
	Set
	// Expire: clear the cookie.
	Expire
)

// Report is what happened to a session during a request, for logs and metrics.
type Report struct {
	Duplicate   bool  // several live sessions, or too many tokens: the request was anonymous
	Reused      Reuse // a rotated-out token was presented; zero Key: none
	WrongSecret int   // tokens of a known Key with a secret that was never its previous one
	Damaged     int   // records that were no records
	Created     int
	Rotated     int
	Renewed     int
	Ended       int // by Destroy
	Replaced    int // ended by Authenticate
	LimitEnded  int // by the limit of sessions per user
	Conflicts   int // swaps that had to be done again
	Dropped     int // changes to a session that had ended, or no longer admitted the token
	NotNoted    int // renewals and first uses that could not be written, and are left to the next request
}

// Reuse tells of a token that was presented after it ceased to be admitted.
type Reuse struct {
	Key     Key
	ID      ID // the session's current ID
	User    string
	Revoked bool // the session was ended for it
}

// reset is field by field because a Session with its buffers is large: clearing it whole costs more than the rest of Open.
func (s *Session) reset(m *Manager, client Client, now time.Time) {
	s.m, s.client, s.now = m, client, now
	s.live, s.first, s.stale, s.lost, s.issued = false, false, false, false, false
	s.values, s.cleared, s.rotation, s.fresh = nil, false, noRotation, Token{}
	s.login, s.user, s.lifetime, s.destroy = false, "", 0, false
	s.marked, s.markOf = false, ""
	s.failed, s.setCookie, s.report = nil, Keep, Report{}
	clear(s.changes[:cap(s.changes)])
	s.changes, s.others, s.ending = s.changes[:0], s.others[:0], s.ending[:0]
}

// Release ends the session's use; the middleware calls it when the request is over. Every later call panics. The tokens
// go with it: a pool must not hold what opens a session.
func (s *Session) Release() { s.m, s.token, s.fresh = nil, Token{}, Token{} }

// Format keeps the token that the session holds out of every fmt verb, and so out of logs and panics.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("coatcheck.Session")) }

// inUse makes a handler that kept its session fail where the mistake is; as long as no other request was given the same
// object from the pool, which nothing here can tell.
func (s *Session) inUse() {
	if s.m == nil {
		panic("coatcheck: Session used outside its request")
	}
}

// ID returns the public ID of the session as loaded or last committed; the zero ID for a session that is not stored.
func (s *Session) ID() ID {
	s.inUse()
	if !s.live {
		return ID{}
	}
	return s.rec.ID
}

// Key returns the session's key, zero for a session that is not stored.
func (s *Session) Key() Key {
	s.inUse()
	if !s.live {
		return Key{}
	}
	return s.rec.Key
}

// UserID returns whose session it is, empty for none.
func (s *Session) UserID() string {
	s.inUse()
	if s.login {
		return s.user
	}
	return string(s.RawUserID())
}

// RawUserID is UserID without an allocation: the bytes are valid until the session changes or the request ends. It does
// not see an Authenticate that is not committed.
func (s *Session) RawUserID() []byte {
	s.inUse()
	if !s.live {
		return nil
	}
	return s.rec.user
}

// ExpiresAt returns the earlier of the idle and the absolute expiry; the zero time for a session that is not stored.
func (s *Session) ExpiresAt() time.Time {
	s.inUse()
	if !s.live {
		return time.Time{}
	}
	return time.UnixMilli(s.rec.Expiry())
}

// CreatedAt returns when the session began, which for a user's session is when he authenticated; the zero time for a
// session that is not stored.
func (s *Session) CreatedAt() time.Time {
	s.inUse()
	if !s.live {
		return time.Time{}
	}
	return time.UnixMilli(s.rec.CreatedAt)
}

// Cookie returns what the response must do to the cookie, as of the last Commit.
func (s *Session) Cookie() Cookie {
	s.inUse()
	switch {
	case s.failed != nil && !errors.Is(s.failed, ErrRevoked):
		return Keep
	case s.setCookie == Keep && s.stale:
		return Expire
	default:
		return s.setCookie
	}
}

// Token returns the token that the cookie must carry when Cookie is Set, and for how long: what is left of the absolute
// lifetime at now. Without a stored session both are zero.
func (s *Session) Token(now time.Time) (Token, time.Duration) {
	s.inUse()
	if !s.live {
		return Token{}, 0
	}
	return s.token, time.UnixMilli(s.rec.AbsoluteExpiry).Sub(now)
}

// Report returns what happened so far.
func (s *Session) Report() *Report {
	s.inUse()
	return &s.report
}

// Raw returns the JSON of a value. The bytes are valid until the session changes or the request ends.
func (s *Session) Raw(name string) (json.RawMessage, bool) {
	s.inUse()
	value, _, _, ok := findValue(s.values, name)
	return value, ok
}

// Contains reports whether the session has a value of that name.
func (s *Session) Contains(name string) bool {
	_, ok := s.Raw(name)
	return ok
}

// Len returns how many values the session has.
func (s *Session) Len() int {
	n := 0
	for range s.Entries() {
		n++
	}
	return n
}

// Entries iterates over the values in ascending order of names, as they are when the iteration begins: values may be set
// and removed meanwhile. The JSON is valid until the session changes.
func (s *Session) Entries() iter.Seq2[string, json.RawMessage] {
	s.inUse()
	return func(yield func(string, json.RawMessage) bool) {
		s.inUse()
		rest := s.values
		if len(s.changes) > 0 {
			rest = bytes.Clone(rest) // changed values are edited in place
		}
		for len(rest) > 0 {
			var name, value []byte
			var ok bool
			if name, value, rest, ok = cutValue(rest); !ok || !yield(string(name), value) {
				return
			}
		}
	}
}

// Insert sets a value. ErrTooLarge: the session's values would not fit a record; ErrName: the name is no name; else the
// value cannot be encoded as JSON. After an error the session is as it was.
func (s *Session) Insert(name string, value any) error {
	s.inUse()
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("session value %.40q: %w", name, err)
	}
	return s.change(change{name: name, value: raw})
}

// Remove removes a value; without one of that name it does nothing.
func (s *Session) Remove(name string) {
	// A login's commit may meet values that a parallel request has written since they were loaded.
	if s.Contains(name) || s.login {
		// Removing a present name cannot fail: it shrinks the block.
		_ = s.change(change{name: name})
	}
}

// Clear removes all values. The session and its user stay.
func (s *Session) Clear() {
	s.inUse()
	s.cleared = true
	s.changes = s.changes[:0]
	s.values = nil
}

// BeginLogin notes where the user's sessions stand before his credentials are checked: if all of them are ended between
// BeginLogin and the Commit of Authenticate, that Commit returns ErrRevoked. An error is like one of Commit.
func (s *Session) BeginLogin(ctx context.Context, user string) error {
	s.inUse()
	mark, err := s.m.store.Mark(ctx, user, s.m.policy.Now())
	if err != nil {
		s.failed = unavailable(err)
		return s.failed
	}
	s.marked, s.mark, s.markOf = true, mark, user
	return nil
}

// Authenticate makes the user the session's: a new session begins, with a new Key, and every live session that the
// request carried ends (ASVS 7.2.4). Its values are kept if it was anonymous or the same user's. Commit tells whether it
// went through.
func (s *Session) Authenticate(user string) error {
	s.inUse()
	if user == "" || len(user) > MaxUserID {
		return fmt.Errorf("user ID of %d bytes: %w", len(user), ErrUserID)
	}
	s.login, s.user, s.destroy = true, user, false
	return s.rebuild()
}

// Remember gives the session that Authenticate begins a lifetime of its own, idle or not, in place of the policy's two.
// Zero is the policy's again.
func (s *Session) Remember(lifetime time.Duration) {
	s.inUse()
	s.lifetime = max(0, lifetime)
}

// Rotate asks for a new token. The old one stays admitted until a grace after the new one was first presented. Of
// parallel requests with one token exactly one rotates; for the others Rotate does nothing. Nor does it where this request
// has committed a new token already: a second one would drop the one that the client has.
func (s *Session) Rotate() {
	s.inUse()
	if s.live && !s.issued && s.rotation == noRotation {
		s.rotation = rotate
	}
}

// CycleID asks for a new token because of a change of privilege: the old one, and one in its grace, are dead at once.
func (s *Session) CycleID() {
	s.inUse()
	if s.live {
		s.rotation = cycle
	}
}

// Destroy ends the session, and every other live one that the request carried, and clears the cookie. An Insert
// afterwards begins a new session with a new Key.
func (s *Session) Destroy() {
	s.inUse()
	if s.live {
		s.ending = append(s.ending, target{s.rec.Key, s.rec.UserID()})
	}
	s.ending = append(s.ending, s.others...)
	s.others = s.others[:0]
	s.forget()
	s.destroy, s.lost = true, false
}

// forget drops the record and everything that was to become of it.
func (s *Session) forget() {
	s.live, s.first, s.cleared, s.login = false, false, false, false
	s.rotation, s.values, s.changes = noRotation, nil, s.changes[:0]
	s.setCookie = Keep
}
