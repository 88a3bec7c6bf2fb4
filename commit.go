package coatcheck

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Commit brings what the handler asked for to the store, now rather than at the end of the request. An error means that
// the client must not be told that anything was done: ErrRevoked, ErrFull, ErrNewer, ErrTooLarge (values that fit alone but
// not together with those of a concurrent request), the error of an Update that a concurrent request's value does not
// suit, else ErrUnavailable. The handler then answers for it: what it asked
// for is forgotten, the response gets no Set-Cookie, and a later Commit returns the same error. A session that ended
// meanwhile, or that no longer admits the token which this request presented, is no error: the changes are dropped, and
// the session is empty.
func (s *Session) Commit(ctx context.Context) error {
	s.inUse()
	if s.failed != nil || !s.dirty() {
		return s.failed
	}
	now := s.m.policy.Now()
	switch {
	case s.login:
		s.failed = s.commitLogin(ctx, now)
	case s.live:
		s.failed = s.commitSwap(ctx, now)
	default:
		s.failed = s.commitRest(ctx, now)
	}
	if s.failed != nil {
		s.forget()
	}
	s.changes, s.cleared, s.rotation, s.login, s.destroy = s.changes[:0], false, noRotation, false, false
	s.ending = s.ending[:0]
	return s.failed
}

// Finish is Commit at the end of the request, with the housekeeping that is due: the renewal of a rolling session, and the
// note that a rotated token has arrived. When only housekeeping fails, it is left to the next request. The error of a
// Commit that the handler made itself is not returned again.
func (s *Session) Finish(ctx context.Context) error {
	if s.failed != nil {
		return nil //nolint:nilerr // the handler was told, and has answered for it
	}
	if err := s.Commit(ctx); err != nil {
		return err
	}
	if s.live && (s.firstUse(&s.rec) || s.renewalDue(&s.rec)) {
		s.housekeep(ctx)
	}
	return nil
}

// housekeep is the part of a commit that may fail without anybody being told.
func (s *Session) housekeep(ctx context.Context) {
	if s.commitSwap(ctx, s.m.policy.Now()) != nil {
		s.report.NotNoted++
	}
}

func (s *Session) dirty() bool {
	return s.login || s.destroy || s.cleared || s.rotation != noRotation || len(s.changes) > 0
}

// commitSwap applies the request's changes to the record and swaps, again on the current record whenever another request
// was faster, for as long as the session lives and admits the token which this request presented.
func (s *Session) commitSwap(ctx context.Context, now time.Time) error {
	var giveUp time.Time
	for again := false; ; again = true {
		if !s.rec.Lives(now) || !s.rec.Standing(s.presented, now).Admitted() {
			s.drop()
			return nil
		}
		// Not before that check: an Update would show the current values to whoever holds a token that was taken back.
		if again {
			if err := s.rebuild(); err != nil {
				return err
			}
		}
		rotated, err := s.prepare(now)
		if err != nil || s.next.Version == s.rec.Version {
			return err
		}
		err = s.m.store.Swap(ctx, &s.next, s.rec.Version, now, &s.cur)
		switch {
		case err == nil:
			s.committed(rotated, now)
			return nil
		case errors.Is(err, ErrNotFound):
			s.drop()
			return nil
		case !errors.Is(err, ErrConflict):
			return unavailable(err)
		}
		s.report.Conflicts++
		s.rec, s.cur = s.cur, s.rec
		// The wall clock, not the policy's: this bounds how long the client really waits.
		if giveUp.IsZero() {
			giveUp = time.Now().Add(s.m.policy.RetryFor)
		} else if time.Now().After(giveUp) || ctx.Err() != nil {
			return fmt.Errorf("%w: %d conflicts in a row", ErrUnavailable, s.report.Conflicts)
		}
		runtime.Gosched()
		now = s.m.policy.Now() // waiting must not keep a session alive
	}
}

// drop is what becomes of changes to a session that is no more, or no more this request's. Those that follow in the same
// request are dropped as well: a session begun for them would replace the successor's cookie in the browser's jar.
func (s *Session) drop() {
	if s.dirty() {
		s.report.Dropped++
	}
	s.forget()
	s.lost = true
}

// prepare makes s.next the record as this request wants it; with the version of s.rec, if it wants nothing.
func (s *Session) prepare(now time.Time) (rotated bool, err error) {
	h := s.rec.Header
	write := s.cleared || len(s.changes) > 0
	grace := s.m.policy.RotationGrace
	switch {
	case s.rotation == cycle:
		h.PrevID, h.PrevUntil = s.rec.ID, now.UnixMilli()
		rotated = true
	case s.rotation == rotate && s.mayRotate(now):
		// Not s.rec.ID: where the successor was never presented, the token that the client does have stays admitted.
		h.PrevID, h.PrevUntil = s.presented, PrevOpen
		rotated = true
	case s.firstUse(&s.rec):
		h.PrevUntil = s.now.Add(grace).UnixMilli()
		write = true
	}
	if rotated {
		if s.fresh == (Token{}) {
			s.fresh = s.token.Rotated()
		}
		h.ID, h.RotatedAt = s.fresh.ID(), now.UnixMilli()
	}
	if s.renewalDue(&s.rec) {
		h.LastSeen = s.now.UnixMilli()
		h.IdleExpiry = max(h.IdleExpiry, min(s.now.Add(s.m.policy.TTL).UnixMilli(), h.AbsoluteExpiry))
		write = true
	}
	if write || rotated {
		h.Version++
	}
	return rotated, s.next.Write(s.rec.Key, h, s.rec.user, s.rec.ip, s.rec.agent, s.values)
}

// mayRotate: the current token rotates. The previous one does not, since a parallel request has done it; except that when
// its successor was not presented for a grace, the answer which carried it was lost.
func (s *Session) mayRotate(now time.Time) bool {
	switch s.rec.Standing(s.presented, now) {
	case Current:
		return true
	case Previous:
		lost := s.rec.RotatedAt + s.m.policy.RotationGrace.Milliseconds()
		return s.rec.PrevUntil == PrevOpen && now.UnixMilli() > lost
	default:
		return false
	}
}

// firstUse reports whether this request is the one from which the predecessor's grace counts.
func (s *Session) firstUse(rec *Record) bool {
	return s.first && rec.PrevUntil == PrevOpen && rec.ID == s.presented
}

// renewalDue judges by the time of the request, so that a slow handler does not lengthen the session.
func (s *Session) renewalDue(rec *Record) bool {
	p := &s.m.policy
	if p.FixedExpiry {
		return false
	}
	idle := s.now.UnixMilli() - rec.LastSeen
	return idle > 0 && idle >= p.RenewEvery.Milliseconds()
}

// committed takes over s.next, which the store now holds.
func (s *Session) committed(rotated bool, now time.Time) {
	changed := s.cleared || len(s.changes) > 0
	if s.next.LastSeen != s.rec.LastSeen {
		s.report.Renewed++
	}
	s.rec, s.next = s.next, s.rec
	s.values = s.rec.values
	s.first = false
	if rotated {
		s.report.Rotated++
		s.token, s.presented, s.fresh, s.issued = s.fresh, s.rec.ID, Token{}, true
	}
	if rotated || changed && s.rec.Standing(s.presented, now) == Current {
		s.setCookie = Set
	}
}

// commitRest is the commit of a request without a session, or one that ended its session: end what must end, then begin a
// session if there is anything to keep.
func (s *Session) commitRest(ctx context.Context, now time.Time) error {
	if _, err := s.endAll(ctx, s.ending, now, &s.report.Ended); err != nil {
		return err
	}
	s.ending = s.ending[:0]
	if s.destroy {
		s.setCookie = Expire
	}
	if len(s.values) == 0 {
		return nil
	}
	if s.lost {
		s.drop()
		return nil
	}
	token, err := s.newRecord("", now)
	if err != nil {
		return err
	}
	if _, err := s.m.store.Create(ctx, &s.next, CreateOptions{}, now); err != nil {
		return createError(err)
	}
	s.began(token)
	return nil
}

// endAll ends the targets; one that had ended before is as good. It returns how many it ended, and adds that to count.
func (s *Session) endAll(ctx context.Context, targets []target, now time.Time, count *int) (ended int, err error) {
	for _, t := range targets {
		err := s.m.store.End(ctx, t.key, t.user, now, s.m.until(now), &s.cur)
		switch {
		case err == nil:
			ended++
			*count++
		case !errors.Is(err, ErrNotFound):
			return ended, unavailable(err)
		}
	}
	return ended, nil
}

// newRecord makes s.next the record of a new session with the present values.
func (s *Session) newRecord(user string, now time.Time) (Token, error) {
	token := NewToken(TagOf(user))
	p, ms := &s.m.policy, now.UnixMilli()
	h := Header{
		Version: 1, ID: token.ID(), RotatedAt: ms, CreatedAt: ms, LastSeen: ms,
		AbsoluteExpiry: now.Add(p.MaxLifetime).UnixMilli(),
	}
	h.IdleExpiry = min(now.Add(p.TTL).UnixMilli(), h.AbsoluteExpiry)
	if user != "" && s.lifetime > 0 {
		h.AbsoluteExpiry = now.Add(s.lifetime).UnixMilli()
		h.IdleExpiry = h.AbsoluteExpiry
	}
	agent := s.client.UserAgent
	agent = agent[:min(len(agent), MaxUserAgent)]
	var ip []byte
	if addr := s.client.IP.Unmap(); addr.IsValid() {
		ip = addr.AsSlice()
	}
	return token, s.next.Write(token.Key(), h, []byte(user), ip, agent, s.values)
}

// began takes over s.next as a session that began in this request.
func (s *Session) began(token Token) {
	s.report.Created++
	s.rec, s.next = s.next, s.rec
	s.hold(token, s.rec.ID)
	s.first, s.stale, s.lost, s.issued, s.setCookie = false, false, false, true, Set
}

func createError(err error) error {
	if errors.Is(err, ErrRevoked) || errors.Is(err, ErrFull) {
		return err
	}
	return unavailable(err)
}
