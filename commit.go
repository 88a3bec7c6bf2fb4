package coatcheck

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// commit is Session.Commit.
func (r *Request) commit(ctx context.Context) error {
	if r.failed != nil {
		r.forget() // the handler is told of what it has asked for since, too
		return r.failed
	}
	if r.dirty() {
		r.commitChanges(ctx)
	}
	if r.failed == nil && r.tooLate {
		r.tooLate = false
		return ErrHeaderSent
	}
	return r.failed
}

// commitChanges leaves its error in r.failed. If it panics, as the function of an Update may when it is run again, the changes are given
// up: the values may be those of a record that r.rec is no more, and another commit would write them over what replaced it.
func (r *Request) commitChanges(ctx context.Context) {
	r.failed = errPanicked // stands if it panics
	defer func() {
		if r.failed != nil {
			r.forget()
		}
		r.clearAsked()
	}()
	now := r.m.policy.Now()
	switch {
	case r.login:
		r.failed = r.commitLogin(ctx, now)
	case r.live:
		r.failed = r.commitSwap(ctx, now)
	default:
		r.failed = r.commitRest(ctx, now)
	}
}

// housekeep is the part of a commit whose failure is not returned: the next request does it again.
func (r *Request) housekeep(ctx context.Context) {
	if err := r.commitSwap(ctx, r.m.policy.Now()); err != nil {
		report := r.changeReport()
		report.NotNoted++
		report.NotNotedFor = err
	}
}

func (r *Request) dirty() bool {
	return r.login || r.destroy || r.cleared || r.rotation != noRotation || len(r.changes) > 0
}

// commitSwap applies the request's changes to the record and swaps it. When another request was faster, it starts again on
// the current record, as long as the session lives and admits the token that this request presented.
func (r *Request) commitSwap(ctx context.Context, now time.Time) error {
	var giveUp retryLimit
	for again := false; ; again = true {
		if !r.rec.Lives(now) || !r.rec.Standing(r.presented, now).Admitted() {
			r.drop()
			return nil
		}
		// This comes after that check, because an Update would show the current values to the holder of a token that was taken
		// back.
		if again {
			if err := r.rebuild(); err != nil {
				return err
			}
		}
		rotated, err := r.prepare(now)
		if err != nil || r.next.Version == r.rec.Version {
			return err
		}
		err = r.m.store.Swap(ctx, &r.next, r.rec.Version, now, &r.cur)
		switch {
		case err == nil:
			r.committed(rotated, now)
			return nil
		case errors.Is(err, ErrNotFound):
			r.drop()
			return nil
		case !errors.Is(err, ErrConflict):
			return unavailable(err)
		}
		r.changeReport().Conflicts++
		r.rec, r.cur = r.cur, r.rec
		if giveUp.passed(ctx, r.m.policy.RetryFor) {
			r.rec, r.cur = r.cur, r.rec // the values are still those of this record, and a later commit must conflict again
			return r.gaveUp()
		}
		runtime.Gosched()
		now = r.m.policy.Now() // waiting must not keep a session alive
	}
}

// drop discards the changes to a session that has ended or is no longer this request's. Changes that follow in the same
// request are discarded as well: a session begun for them would replace the successor's cookie in the browser's jar.
func (r *Request) drop() {
	if r.dirty() {
		r.changeReport().Dropped++
	}
	r.forget()
	r.lost = true
}

// prepare makes r.next the record that this request wants. If the request wants no change, r.next has the version of r.rec.
func (r *Request) prepare(now time.Time) (rotated bool, err error) {
	h, extension := r.rec.Header, r.rec.extension
	write := r.cleared || len(r.changes) > 0
	grace := r.m.policy.RotationGrace
	switch {
	case r.rotation == atOnce:
		h.PrevID, h.PrevUntil = r.rec.ID, now.UnixMilli()
		rotated = true
	case r.rotation == gracefully && r.mayRotate(now):
		// PrevID is not r.rec.ID: if the successor was never presented, the token that the client does have stays admitted.
		h.PrevID, h.PrevUntil = r.presented, PrevOpen
		rotated = true
	case r.firstUse(&r.rec) && h.PrevUntil == PrevOpen:
		h.PrevUntil = r.now.Add(grace).UnixMilli()
		write = true
	}
	if r.firstUse(&r.rec) && r.rec.unconfirmed() {
		r.extension = r.rec.appendConfirmed(r.extension[:0])
		extension, write = r.extension, true
	}
	if rotated {
		if r.fresh == (Token{}) {
			r.fresh = r.token.Rotated()
		}
		h.ID, h.RotatedAt = r.fresh.ID(), now.UnixMilli()
	}
	renewed := r.renewalDue(&r.rec)
	if renewed {
		r.renew(&h)
		write = true
	}
	if write || rotated {
		h.Version++
	}
	if err := r.next.rewrite(&r.rec, h, r.values, extension); err != nil {
		return rotated, err
	}
	if renewed || rotated { // not with every write, so that the address is about as old as LastSeen
		r.next.SetLastIP(r.client.IP)
	}
	return rotated, nil
}

// mayRotate reports whether this request may rotate. A request with the current token may. One with the previous token may
// not, because a parallel request has rotated already, unless the successor was not presented for a grace: then the answer
// that carried it was lost. The token of a session that is bound to a device is rotated by proofs only.
func (r *Request) mayRotate(now time.Time) bool {
	if r.rec.Bound() {
		return false
	}
	switch r.rec.Standing(r.presented, now) {
	case Current:
		return true
	case Previous:
		lost := r.rec.RotatedAt + r.m.policy.RotationGrace.Milliseconds()
		return r.rec.PrevUntil == PrevOpen && now.UnixMilli() > lost
	default:
		return false
	}
}

// firstUse reports whether this request is the first that presented the current token: from it the predecessor's grace counts,
// and it shows that the browser accepted the binding that came with the token.
func (r *Request) firstUse(rec *Record) bool {
	return r.first && (rec.PrevUntil == PrevOpen || rec.unconfirmed()) && rec.ID == r.presented
}

// renewalDue uses the time of the request, so that a slow handler does not lengthen the session.
func (r *Request) renewalDue(rec *Record) bool {
	p := &r.m.policy
	if p.FixedExpiry || r.watching {
		return false
	}
	idle := r.now.UnixMilli() - rec.LastSeen
	return idle > 0 && idle >= p.RenewEvery.Milliseconds()
}

// renew pushes the idle expiry out, from the time of the request.
func (r *Request) renew(h *Header) {
	h.LastSeen = r.now.UnixMilli()
	h.IdleExpiry = max(h.IdleExpiry, min(r.now.Add(r.m.policy.TTL).UnixMilli(), h.AbsoluteExpiry))
}

// committed takes over r.next, which the store now holds.
func (r *Request) committed(rotated bool, now time.Time) {
	changed := r.cleared || len(r.changes) > 0
	if r.next.LastSeen != r.rec.LastSeen {
		r.changeReport().Renewed++
	}
	r.rec, r.next = r.next, r.rec
	r.values = r.rec.values
	r.first = false
	if rotated {
		r.changeReport().Rotated++
		r.token, r.presented, r.issued = r.fresh, r.rec.ID, true
	}
	// Changes set no cookie of a bound session, whose lifetime only a proof extends.
	if rotated || changed && !r.rec.Bound() && r.rec.Standing(r.presented, now) == Current {
		r.action = SetCookie
	}
}

// commitRest is the commit of a request that has no session or has ended it: it ends the sessions that must end, then begins
// a session if there is anything to keep.
func (r *Request) commitRest(ctx context.Context, now time.Time) error {
	if r.destroy {
		r.action = ClearCookie
	}
	if _, err := r.endAll(ctx, r.ending, now, false); err != nil {
		return err
	}
	r.ending = r.ending[:0]
	if r.destroy { // last: a planted token that cannot be looked up must not keep the user's own session alive
		if err := r.openRest(ctx, &r.ending); err != nil {
			return err
		}
		if _, err := r.endAll(ctx, r.ending, now, false); err != nil {
			return err
		}
	}
	r.ending = r.ending[:0]
	if len(r.values) == 0 {
		return nil
	}
	if r.lost {
		r.drop()
		return nil
	}
	token := NewToken(TagOf(""))
	if err := r.newRecord(token, "", now); err != nil {
		return err
	}
	if _, err := r.m.store.Create(ctx, &r.next, CreateOptions{}, now); err != nil {
		return createError(err)
	}
	r.changeReport().Created++
	r.holdNext(token)
	return nil
}

// endAll ends the targets, for a login that replaces them or else for a logout, and reports them; a target that had ended before is no
// error. It returns how many it ended.
func (r *Request) endAll(ctx context.Context, targets []target, now time.Time, replaced bool) (ended int, err error) {
	for _, t := range targets {
		err := r.m.store.End(ctx, t.key, t.user, now, r.m.until(now), &r.cur)
		switch {
		case err == nil:
			ended++
			r.reportEnd(t.user, replaced)
		case !errors.Is(err, ErrNotFound):
			return ended, unavailable(err)
		}
	}
	return ended, nil
}

// reportEnd reports that the session whose last record is r.cur has ended.
func (r *Request) reportEnd(user string, replaced bool) {
	report := r.changeReport()
	if replaced {
		report.Replaced++
	} else {
		report.Ended++
	}
	report.Ends = append(report.Ends, End{ID: r.cur.ID, User: user, Replaced: replaced})
}

// newRecord makes r.next the record of a new session with the present values, which the token opens.
func (r *Request) newRecord(token Token, user string, now time.Time) error {
	p, ms := &r.m.policy, now.UnixMilli()
	h := Header{
		Version: 1, ID: token.ID(), RotatedAt: ms, CreatedAt: ms, LastSeen: ms,
		AbsoluteExpiry: now.Add(p.MaxLifetime).UnixMilli(),
	}
	h.IdleExpiry = min(now.Add(p.TTL).UnixMilli(), h.AbsoluteExpiry)
	if user != "" && r.lifetime > 0 {
		h.AbsoluteExpiry = now.Add(r.lifetime).UnixMilli()
		h.IdleExpiry = h.AbsoluteExpiry
	}
	var ip []byte
	if addr := r.client.IP.Unmap(); addr.IsValid() {
		ip = addr.AsSlice()
	}
	parts := body{user: []byte(user), ip: ip, agent: r.agent, values: r.values}
	if r.offered = r.offer && user != ""; r.offered {
		r.extension = appendOffer(r.extension[:0], newChallenge())
		parts.extension = r.extension
	}
	return r.next.encode(token.Key(), h, parts)
}

// holdNext takes over r.next, which the store now holds, as the request's session, under a token that the client does not have yet.
func (r *Request) holdNext(token Token) {
	r.rec, r.next = r.next, r.rec
	r.held = held{issued: true, action: SetCookie}
	r.hold(token, r.rec.ID)
}

func createError(err error) error {
	if errors.Is(err, ErrRevoked) || errors.Is(err, ErrFull) {
		return err
	}
	return unavailable(err)
}
