package linear

// devices is the end of sessions by their names, and the list of them.
func (r rules) devices(s *state, in input, out output) []*state {
	var next []*state
	if out.unknown() {
		next = append(next, s.stepped(in.op))
	}
	switch in.kind {
	case kindEndUser:
		ended, n := s.endAll(in.user, "")
		ended.marks[in.user]++ // an administrator's refuses logins that have begun; a user's own does not
		return append(next, only(ended, out.unknown() || n == out.n)...)
	case kindAdminEnd:
		target := s.sessions[in.target]
		return append(next, endOne(s, target != nil && target.user == in.user, in, out)...)
	case kindList:
		return r.list(s, in, out)
	}
	at, ok := s.steps[in.op]
	if !ok {
		return nil
	}
	s = s.stepped(in.op)
	switch {
	case in.kind == kindEndOthers:
		return append(next, endOthers(s, at, in, out)...)
	case in.target == at.carried && out.status == 204:
		return append(next, s.without(in.target))
	default:
		target := s.sessions[in.target]
		return append(next, endOne(s, target != nil && target.user == at.user, in, out)...)
	}
}

func endOne(s *state, found bool, in input, out output) []*state {
	if found != (out.status == 204) && !out.unknown() {
		return nil
	}
	if !found {
		return []*state{s}
	}
	return []*state{s.without(in.target)}
}

// endOthers spares the caller's session, which must live; unless that is to end, too.
func endOthers(s *state, at step, in input, out output) []*state {
	alive := s.sessions[at.carried] != nil
	if out.status == 401 {
		return only(s, !alive || at.user == "")
	}
	if at.carried == "" || !alive && !in.everywhere {
		return nil
	}
	keep := at.carried
	if in.everywhere {
		keep = ""
	}
	ended, n := s.endAll(at.user, keep)
	return only(ended, out.unknown() || n == out.n)
}

// list shows exactly the user's sessions. Those whose answer was lost have handles that nobody knows.
func (r rules) list(s *state, in input, out output) []*state {
	mine := s.of(in.user)
	if len(mine) != len(out.sessions) {
		return nil
	}
	next := s
	for _, h := range mine {
		id, shown := out.sessions[h]
		switch {
		case isUnknown(h):
		case !shown || !s.sessions[h].named(id):
			return nil
		default:
			next = learned(next, h, id)
		}
	}
	return []*state{next}
}
