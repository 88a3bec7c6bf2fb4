package linear

import (
	"maps"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"
)

// kind is what a request does, or one step of a request that takes several.
type kind string

// A request is one step where the store is asked once, or where only the last time counts. The others are several, each
// atomic, in this order, at any moments between the request and its answer.
const (
	kindMe        kind = "me"
	kindRead      kind = "read" // all values
	kindNote      kind = "note the first use"
	kindRefresh   kind = "refresh"
	kindSet       kind = "set"
	kindCount     kind = "count" // through Update
	kindOpen      kind = "open"  // finds out what the token opens, for the steps after it
	kindLogout    kind = "logout"
	kindMark      kind = "login: mark"
	kindCreate    kind = "login: create"
	kindLeave     kind = "login: leave"
	kindFinish    kind = "login: finish"
	kindUndo      kind = "login: undo"
	kindEndOne    kind = "end one"
	kindEndOthers kind = "end others"
	kindEndUser   kind = "end all (admin)"
	kindAdminEnd  kind = "end one (admin)"
	kindList      kind = "list (admin)"
	kindBind      kind = "bind to a device"
	kindProve     kind = "prove the device's key"
)

// input is what the model is asked.
type input struct {
	kind       kind
	op         int    // the request's number
	user       string // whom it names
	handle, id string // what the token that it carried says, "" for none
	name       string // of a value
	value      string
	challenge  string // that a device has signed
	target     string // the handle of the session to end
	everywhere bool   // the caller's own session, too
	last       bool   // the last step
	at         span
}

// output is what the client was answered.
type output struct {
	status     int // 0: not of interest
	user, id   string
	handle, to string // what the token that it was sent says
	refreshed  bool
	dropped    bool
	challenge  string // that a device must sign next
	values     map[string]string
	n          int
	sessions   map[string]string // handle to ID
}

// unknown: the request may have been done or not.
func (o output) unknown() bool { return o.status == 503 }

// rules are what the model knows of the server's settings.
type rules struct {
	grace int64 // milliseconds
	limit int   // sessions of a user; 0: none
	lossy bool  // the note of a first use may fail without anybody hearing of it
}

func (r rules) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any {
			return []any{&state{map[string]*session{}, map[string]int{}, map[int]step{}}}
		},
		Step: func(s, in, out any) []any {
			var next []any
			for _, n := range r.step(s.(*state), in.(input), out.(output)) {
				next = append(next, n)
			}
			return next
		},
		Equal:             func(a, b any) bool { return a.(*state).equal(b.(*state)) },
		DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
		DescribeState:     func(s any) string { return s.(*state).String() },
	}
	return m.ToModel()
}

// step returns every state that may follow, none if the answer is not one of this state.
func (r rules) step(s *state, in input, out output) []*state {
	switch in.kind {
	case kindMe, kindRead:
		return r.read(s, in, out)
	case kindNote:
		return r.note(s, in)
	case kindRefresh:
		return r.refresh(s, in, out)
	case kindSet, kindCount:
		return r.write(s, in, out)
	case kindOpen:
		return r.open(s, in, out)
	case kindLogout:
		return r.logout(s, in, out)
	case kindBind, kindProve:
		return r.device(s, in, out)
	case kindMark, kindCreate, kindLeave, kindFinish, kindUndo:
		return r.login(s, in, out)
	default:
		return r.devices(s, in, out)
	}
}

func (r rules) read(s *state, in input, out output) []*state {
	sess := s.sessions[in.handle]
	var may, must bool
	if sess != nil {
		may, must = sess.admits(in.id, in.at)
		if in.kind == kindMe && sess.user == "" {
			may, must = false, false
		}
	}
	if out.id == "" {
		return only(s, !must)
	}
	same := may && out.user == sess.user && sess.named(out.id)
	if in.kind == kindMe {
		same = same && out.refreshed == (sess.values["refreshed"] == "true")
	} else {
		same = same && maps.Equal(out.values, sess.values)
	}
	if !same {
		return nil
	}
	return []*state{learned(s, in.handle, out.id)}
}

// learned is s where the session's ID is known.
func learned(s *state, handle, id string) *state {
	if s.sessions[handle].cur == id {
		return s
	}
	return s.with(handle, func(sess *session) { sess.cur = id })
}

func only(s *state, ok bool) []*state {
	if !ok {
		return nil
	}
	return []*state{s}
}

func (r rules) note(s *state, in input) []*state {
	sess := s.sessions[in.handle]
	if sess == nil || in.id != sess.cur || !sess.open {
		return []*state{s}
	}
	noted := s.with(in.handle, func(sess *session) { sess.present(in.id, in.at, r.grace) })
	if r.lossy {
		return []*state{noted, s}
	}
	return []*state{noted}
}

func (r rules) refresh(s *state, in input, out output) []*state {
	sess := s.sessions[in.handle]
	var may, must bool
	if sess != nil && sess.user != "" {
		may, must = sess.admits(in.id, in.at)
	}
	if out.id == "" && !out.unknown() {
		return only(s, !must)
	}
	var next []*state
	if out.unknown() {
		next = append(next, s)
		out = output{status: 503, user: in.user, id: "?" + strconv.Itoa(in.op)}
	}
	if !may || !out.unknown() && (out.user != sess.user || !out.refreshed) {
		return next
	}
	// The previous token rotates where the answer with its successor was lost, which is what a grace without a sign of it says.
	// That of a bound session is rotated by its device only.
	lost := in.id == sess.prev && sess.open
	mayRotate := !sess.bound && (in.id == sess.cur || lost && in.at.to > sess.rotated.from+r.grace)
	mustRotate := !sess.bound && (in.id == sess.cur || lost && in.at.from > sess.rotated.to+r.grace)
	if mayRotate && (out.unknown() || out.to == out.id && out.handle == in.handle) {
		next = append(next, s.with(in.handle, func(sess *session) {
			sess.prev, sess.open, sess.cur, sess.rotated = in.id, true, out.id, in.at
			sess.values = valuesWith(sess.values, "refreshed", "true")
		}))
	}
	if !mustRotate && (out.unknown() || out.to == "" && sess.named(out.id)) {
		next = append(next, s.with(in.handle, func(sess *session) {
			if !out.unknown() {
				sess.cur = out.id
			}
			sess.values = valuesWith(sess.values, "refreshed", "true")
			sess.present(in.id, in.at, r.grace) // in a bound session: else the current token rotates
		}))
	}
	return next
}

// write sets a value. Where there is no session it begins one, without a user; in a session that is not the token's any
// more it is dropped.
func (r rules) write(s *state, in input, out output) []*state {
	sess := s.sessions[in.handle]
	var may, must bool
	if sess != nil {
		may, must = sess.admits(in.id, in.at)
	}
	var next []*state
	if out.unknown() {
		next = append(next, s) // a session that began has a token that nobody has
	}
	if out.dropped && in.handle != "" {
		return only(s, !must)
	}
	if sess == nil && out.to != "" {
		n := s.clone()
		n.sessions[out.handle] = &session{cur: out.to, created: in.at, values: valuesWith(nil, in.name, in.written(nil))}
		if out.id == out.to && out.user == "" && maps.Equal(out.values, n.sessions[out.handle].values) {
			next = append(next, n)
		}
	}
	if !may || out.dropped {
		return next
	}
	values := valuesWith(sess.values, in.name, in.written(sess.values))
	// The cookie is sent again, but only by the current token's request, and not where the device's proofs set it.
	again := in.id == sess.cur && !sess.bound
	cookie := again && out.to == in.id && out.handle == in.handle || !again && out.to == ""
	if !out.unknown() && (!cookie || out.user != sess.user || !sess.named(out.id) || !maps.Equal(out.values, values)) {
		return next
	}
	return append(next, s.with(in.handle, func(sess *session) {
		if !out.unknown() {
			sess.cur = out.id
		}
		sess.values = values
		sess.present(in.id, in.at, r.grace)
	}))
}

// written is the value that the request leaves.
func (in input) written(before map[string]string) string {
	if in.kind == kindSet {
		return in.value
	}
	n, _ := strconv.Atoi(before[in.name])
	return strconv.Itoa(n + 1)
}

// open notes what the token opens. A status of 200 says that it opened a user's session, 401 that it did not.
func (r rules) open(s *state, in input, out output) []*state {
	sess := s.sessions[in.handle]
	var may, must bool
	if sess != nil {
		may, must = sess.admits(in.id, in.at)
	}
	if in.last {
		return only(s, !must || sess.user == "")
	}
	var next []*state
	if (!must || sess.user == "" && out.status == 401) && out.status != 200 {
		next = append(next, s.stepping(in.op, step{}))
	}
	if sess != nil && !must && in.id == sess.prev && out.status == 0 {
		next = append(next, s.stepping(in.op, step{former: in.handle}))
	}
	if may && out.status != 401 && (out.status != 200 || sess.user != "") {
		next = append(next, s.stepping(in.op, step{carried: in.handle, user: sess.user}))
	}
	return next
}

func (r rules) logout(s *state, in input, out output) []*state {
	at, ok := s.steps[in.op]
	if !ok {
		return nil
	}
	done := s.stepped(in.op)
	next := []*state{done.without(at.carried).without(at.former)}
	if out.unknown() {
		next = append(next, done)
	}
	return next
}

func isUnknown(name string) bool { return strings.HasPrefix(name, "?") }
