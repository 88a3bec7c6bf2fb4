package linear

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// state is what the sequential model knows: the sessions that live, how often all sessions of a user were ended, and what
// requests of several steps have found out so far. States are never changed, only copied.
type state struct {
	sessions map[string]*session // by handle
	marks    map[string]int      // by user
	steps    map[int]step        // by number of the request
}

// session is one live session. Of a session or token whose answer was lost the name begins with a question mark.
type session struct {
	user      string // "" for none
	cur, prev string // IDs
	open      bool   // prev is admitted without end: cur was not presented yet
	until     span   // else: until when prev is admitted
	rotated   span
	created   span
	values    map[string]string

	// next is the challenge that a device must sign next: to bind the session, or, once it is bound, to prove its key. While the
	// browser has not used the binding, boundWith is the challenge that it was bound with.
	next, boundWith string
	bound, used     bool
}

// span is when something happened, in Unix milliseconds: no earlier and no later than.
type span struct{ from, to int64 }

// step is what a request of several steps has done.
type step struct {
	carried, user string // the session that its token opened, and that session's user
	former        string // the session that its token was rotated out of, which a logout or a login ends too
	mark          int
	created       string // the session that a login began
	refused       bool   // by a mark
}

func (s *state) equal(o *state) bool {
	return maps.Equal(s.marks, o.marks) && maps.Equal(s.steps, o.steps) && maps.EqualFunc(s.sessions, o.sessions, (*session).equal)
}

func (s *session) equal(o *session) bool {
	return s == o || s.user == o.user && s.cur == o.cur && s.prev == o.prev && s.open == o.open && s.until == o.until &&
		s.rotated == o.rotated && s.created == o.created && s.next == o.next && s.boundWith == o.boundWith && s.bound == o.bound && s.used == o.used && maps.Equal(s.values, o.values)
}

func (s *state) clone() *state {
	return &state{maps.Clone(s.sessions), maps.Clone(s.marks), maps.Clone(s.steps)}
}

// with is the state after one session has changed.
func (s *state) with(handle string, change func(*session)) *state {
	n, changed := s.clone(), *s.sessions[handle]
	change(&changed)
	n.sessions[handle] = &changed
	return n
}

func (s *state) without(handle string) *state {
	if s.sessions[handle] == nil {
		return s
	}
	n := s.clone()
	delete(n.sessions, handle)
	return n
}

func (s *state) stepping(op int, at step) *state {
	n := s.clone()
	n.steps[op] = at
	return n
}

// stepped forgets what a request had found out: it is done.
func (s *state) stepped(op int) *state {
	n := s.clone()
	delete(n.steps, op)
	return n
}

// of returns the handles of a user's sessions.
func (s *state) of(user string) (handles []string) {
	for h, sess := range s.sessions {
		if sess.user == user {
			handles = append(handles, h)
		}
	}
	return handles
}

// endAll is the end of all of a user's sessions but one, and how many that were. It leaves no mark.
func (s *state) endAll(user, keep string) (*state, int) {
	n, ended := s.clone(), 0
	for _, h := range s.of(user) {
		if h != keep {
			delete(n.sessions, h)
			ended++
		}
	}
	return n, ended
}

// admits tells whether the session may admit a token at some moment of a request, and whether it must at each.
func (s *session) admits(id string, at span) (may, must bool) {
	switch {
	case id == s.cur || id == s.prev && s.open:
		return true, true
	case id != s.prev:
		return false, false
	default:
		return at.from < s.until.to, at.to < s.until.from
	}
}

// present is the first use of the current token: the grace of the one before counts from it.
func (s *session) present(id string, at span, grace int64) {
	if id == s.cur && s.open {
		s.open, s.used, s.until = false, s.bound, span{at.from + grace, at.to + grace}
	}
}

// named tells whether id can be the session's ID. That of a token whose answer was lost is learned so.
func (s *session) named(id string) bool {
	return s.cur == id || strings.HasPrefix(s.cur, "?") && id != s.prev
}

func valuesWith(values map[string]string, name, value string) map[string]string {
	n := maps.Clone(values)
	if n == nil {
		n = make(map[string]string)
	}
	n[name] = value
	return n
}

func valuesWithout(values map[string]string, name string) map[string]string {
	n := maps.Clone(values)
	delete(n, name)
	return n
}

func (s *state) String() string {
	var b strings.Builder
	for _, h := range slices.Sorted(maps.Keys(s.sessions)) {
		sess := s.sessions[h]
		fmt.Fprintf(&b, "%.6s of %q: %.6s", h, sess.user, sess.cur)
		switch {
		case sess.open:
			fmt.Fprintf(&b, ", %.6s open", sess.prev)
		case sess.prev != "":
			fmt.Fprintf(&b, ", %.6s until %d", sess.prev, sess.until.from)
		}
		if sess.bound {
			fmt.Fprintf(&b, ", bound, next ...%s", sess.next[max(0, len(sess.next)-6):])
		}
		fmt.Fprintf(&b, " %v; ", sess.values)
	}
	if len(s.steps) > 0 {
		fmt.Fprintf(&b, "under way %v", s.steps)
	}
	return b.String()
}
