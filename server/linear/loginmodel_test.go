package linear

import "strconv"

// A login finds out what its token opens, reads the user's mark, creates the session in one step with the end of what the
// token opened if that is the same user's, and else ends that afterwards.
func (r rules) login(s *state, in input, out output) []*state {
	at, ok := s.steps[in.op]
	if in.kind == kindMark && in.handle == "" {
		ok = true // there was nothing to open
	}
	if !ok {
		return nil
	}
	var next []*state
	switch in.kind {
	case kindMark:
		at.mark = 1 + s.marks[in.user] // 0 is not read yet
		next = []*state{s.stepping(in.op, at)}
	case kindCreate:
		next = r.create(s, at, in, out)
	case kindLeave:
		next = r.leave(s, at, in, out)
	case kindFinish:
		next = only(s, at.refused || s.sessions[at.created] == nil)
	default: // the end of a login that could not be finished
		next = []*state{s, s.without(at.created)}
	}
	if in.last {
		for i, n := range next {
			next[i] = n.stepped(in.op)
		}
	}
	return next
}

func (r rules) create(s *state, at step, in input, out output) []*state {
	if at.mark == 0 {
		return nil
	}
	stands := at.mark == 1+s.marks[in.user]
	refused := s.stepping(in.op, step{refused: true})
	switch {
	case out.unknown():
		// What is known of the mark is not: it may not have been read.
		return append(r.begin(s, at, in, output{handle: "?" + strconv.Itoa(in.op), to: "?" + strconv.Itoa(in.op)}), refused)
	case out.status == 401 && !stands:
		return []*state{refused}
	case out.status == 401 && at.carried != "":
		// Or it was ended before its values could be brought up to date: it finds that out last.
		return r.begin(s, at, in, output{handle: "?" + strconv.Itoa(in.op), to: "?" + strconv.Itoa(in.op)})
	case out.status != 200 || !stands || out.user != in.user || out.refreshed || out.id != out.to || s.sessions[out.handle] != nil:
		return nil
	}
	return r.begin(s, at, in, out)
}

// begin adds the session, ends the one that it replaces, and those beyond the limit.
func (r rules) begin(s *state, at step, in input, out output) []*state {
	n := s.clone()
	at.created = out.handle
	fresh := &session{user: in.user, cur: out.to, created: in.at, next: out.challenge}
	var kept []map[string]string
	if old := s.sessions[at.carried]; old != nil && at.user == in.user {
		kept = keptValues(old, in)
		delete(n.sessions, at.carried)
	} else {
		kept = []map[string]string{nil}
	}
	n.steps[in.op] = at
	var next []*state
	for _, values := range kept {
		v := n.clone()
		begun := *fresh
		begun.values = values
		v.sessions[out.handle] = &begun
		next = append(next, r.pushOut(v, in.user, out.handle)...)
	}
	return next
}

// keptValues are the values that go with a login: all but the note of a refresh, if the token still opens their session.
func keptValues(old *session, in input) []map[string]string {
	may, must := old.admits(in.id, in.at)
	var kept []map[string]string
	if may {
		kept = append(kept, valuesWithout(old.values, "refreshed"))
	}
	if !must {
		kept = append(kept, nil)
	}
	return kept
}

// pushOut ends the oldest of a user's other sessions until the limit holds: any of those that may be the oldest.
func (r rules) pushOut(s *state, user, fresh string) []*state {
	mine := s.of(user)
	if r.limit == 0 || len(mine) <= r.limit {
		return []*state{s}
	}
	var next []*state
	for _, x := range mine {
		oldest := x != fresh
		for _, y := range mine {
			if y != fresh && s.sessions[y].created.to < s.sessions[x].created.from {
				oldest = false
			}
		}
		if oldest {
			next = append(next, r.pushOut(s.without(x), user, fresh)...)
		}
	}
	return next
}

// leave ends another user's session, or one without a user, whose values then go with the login.
func (r rules) leave(s *state, at step, in input, out output) []*state {
	if at.refused {
		return []*state{s}
	}
	if at.created == "" {
		return nil
	}
	old := s.sessions[at.carried]
	if at.user == in.user {
		old = nil
	}
	kept := []map[string]string{nil}
	if old != nil && at.user == "" {
		kept = keptValues(old, in)
	}
	left := s
	if old != nil {
		left = s.without(at.carried)
	}
	left = left.without(at.former)
	begun := left.sessions[at.created]
	if out.status == 401 || begun == nil || at.user == in.user {
		return []*state{left}
	}
	var next []*state
	for _, values := range kept {
		next = append(next, left.with(at.created, func(sess *session) { sess.values = values }))
	}
	if out.unknown() {
		next = append(next, s)
	}
	return next
}
