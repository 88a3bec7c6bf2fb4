package coatcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Errors of binding a session to a device, and of the device's proofs.
var (
	// ErrChallenge: the proof is not of the challenge that the session waits for.
	ErrChallenge = errors.New("not the challenge of the session")
	// ErrBound: the session is bound to a device already.
	ErrBound = errors.New("session is bound to a device already")
	// ErrNotBound: the session is not bound to a device.
	ErrNotBound = errors.New("session is not bound to a device")
)

// BindWithin is how long after the login that began it a session may be bound to a device.
const BindWithin = 2 * time.Minute

// OfferBinding makes the session that a login of this request begins one that a device may be bound to: its record gets a
// challenge. It is called between Manager.Open and the handler.
func (r *Request) OfferBinding() { r.offer = true }

// Offered returns the key and the challenge of a session that this request began and that a device may be bound to.
func (r *Request) Offered() (Key, Challenge, bool) {
	if !r.live || !r.offered || r.Cookie() != SetCookie {
		return Key{}, Challenge{}, false
	}
	return r.rec.Key, r.rec.binding.challenge(), true
}

// AbsoluteLeft returns what is left at now of the session's absolute lifetime; zero without a stored session.
func (r *Request) AbsoluteLeft(now time.Time) time.Duration {
	if !r.live {
		return 0
	}
	return time.UnixMilli(r.rec.AbsoluteExpiry).Sub(now)
}

// OnlyTooOld reports whether the response clears the cookie for no other reason than that a token of a session that is bound
// to a device was too old: the device can still renew it.
func (r *Request) OnlyTooOld() bool {
	old := cmp.Or(r.report.TooOld.Key, r.report.Left.Key) // a token that is in Left because it was rotated out is not cleared
	return old != (Key{}) && r.action == KeepCookie && r.Cookie() == ClearCookie
}

// KeepCookies makes the response touch no cookie, whatever the request carried.
func (r *Request) KeepCookies() { r.stale = false }

// OpenNamed begins r as the request of a device: it reads the session at key, without a secret, and past any cache. Until Bind
// or Prove has succeeded the request has no session. OpenNamed reports whether the request also carried a token that does not
// open this session. ErrNotFound: no such session lives. Any other error means that nothing is known about it.
func (m *Manager) OpenNamed(ctx context.Context, r *Request, key Key, p *Presented, client Client, now time.Time) (foreign bool, err error) {
	r.reset(m, client, now)
	r.lost = true
	err = m.store.Load(ctx, key, ID{}, now, &r.rec)
	switch {
	case err == nil && (!r.rec.Lives(now) || m.void(&r.rec)), errors.Is(err, ErrEnded):
		return false, ErrNotFound
	case errors.Is(err, ErrDamaged):
		r.changeReport().Damaged++
		return false, ErrNotFound
	case errors.Is(err, ErrNotFound):
		return false, err
	case err != nil:
		r.failed = unavailable(err)
		return false, r.failed
	}
	r.presented = ID{}
	for _, token := range p.tokens[:p.n] {
		if id := token.ID(); token.Key() == key && r.rec.Standing(id, now).Admitted() {
			r.presented = id
		} else {
			foreign = true
		}
	}
	return foreign || p.malformed, nil
}

// OpenNone begins r as a request that has no session and begins none.
func (m *Manager) OpenNone(r *Request, client Client) {
	r.reset(m, client, m.Now())
	r.lost = true
	r.rec.Key, r.rec.body = Key{}, body{}
}

// NamedKey returns the key of the session of OpenNamed.
func (r *Request) NamedKey() Key { return r.rec.Key }

// DeviceKey returns the key of the device that the session of OpenNamed is bound to, and the challenge that the device must
// sign next. ErrNotBound: it is bound to none. The key's bytes are valid until the next call of the request's methods.
func (r *Request) DeviceKey() (PublicKey, Challenge, error) {
	if !r.rec.Bound() {
		return PublicKey{}, Challenge{}, ErrNotBound
	}
	return r.rec.binding.key(), r.rec.binding.challenge(), nil
}

// Named returns the user and the public ID of the session of OpenNamed, for audit events: the request has proved nothing yet.
// They are empty for a request that named none.
func (r *Request) Named() (user string, id ID) {
	if r.rec.Key.IsZero() {
		return "", ID{}
	}
	return r.rec.UserID(), r.rec.ID
}

// MayBind returns nil if the session of OpenNamed may be bound to key by a proof of this challenge: ErrChallenge if the
// challenge is another one, or too old; ErrBound if the session is bound already. The same key may be bound again by the same
// challenge until the browser has used the binding, because the answer may have been lost.
func (r *Request) MayBind(key PublicKey, c Challenge) error { return r.mayBind(key, c, r.now) }

func (r *Request) mayBind(key PublicKey, c Challenge, now time.Time) error {
	b := r.rec.binding
	want := Challenge{}
	switch {
	case len(b) == 0:
		return ErrChallenge
	case !b.bound():
		want = b.challenge()
	case b.used() || !b.key().Equal(key):
		return ErrBound
	default:
		want = b.boundWith()
	}
	if !want.Equal(c) || now.UnixMilli()-r.rec.CreatedAt > BindWithin.Milliseconds() {
		return ErrChallenge
	}
	return nil
}

// Bind binds the session of OpenNamed to the device that has proved key by signing c, and rotates its token. Its errors are
// those of MayBind, ErrNotFound if the session ended meanwhile, and those of Commit.
func (r *Request) Bind(ctx context.Context, key PublicKey, c Challenge) error {
	next := newChallenge()
	return r.swapDevice(ctx, func(now time.Time) (bindingOf, error) {
		return bindingOf{key: key, next: next, provedAt: now.UnixMilli(), boundWith: &c}, r.mayBind(key, c, now)
	})
}

// Prove notes that the device has signed the challenge c now, and rotates the token of the session of OpenNamed. ErrChallenge:
// another request was faster, and the device must sign the challenge that DeviceKey returns now. ErrNotFound: the session
// ended meanwhile. Other errors are those of Commit.
func (r *Request) Prove(ctx context.Context, c Challenge) error {
	next := newChallenge()
	return r.swapDevice(ctx, func(now time.Time) (bindingOf, error) {
		key, want, err := r.DeviceKey()
		if err == nil && !want.Equal(c) {
			err = ErrChallenge
		}
		return bindingOf{key: key, next: next, provedAt: now.UnixMilli()}, err
	})
}

// swapDevice rotates the token, together with the binding that want returns for the current record, as often as another
// request is faster.
func (r *Request) swapDevice(ctx context.Context, want func(now time.Time) (bindingOf, error)) error {
	var giveUp retryLimit
	for {
		now := r.m.policy.Now() // waiting must not keep a session alive
		b, err := want(now)
		if err != nil {
			return err
		}
		fresh := Token{}
		copy(fresh.b[:], r.rec.Key[:])
		fresh = fresh.Rotated()
		r.extension = r.rec.appendBinding(r.extension[:0], b)
		if err := r.next.rewrite(&r.rec, r.successor(fresh, now), r.rec.values, r.extension); err != nil {
			return err
		}
		r.next.SetLastIP(r.client.IP)
		err = r.m.store.Swap(ctx, &r.next, r.rec.Version, now, &r.cur)
		switch {
		case err == nil:
			r.changeReport().Rotated++
			r.holdNext(fresh)
			return nil
		case errors.Is(err, ErrNotFound):
			return ErrNotFound
		case !errors.Is(err, ErrConflict):
			r.failed = unavailable(err)
			return r.failed
		}
		r.changeReport().Conflicts++
		r.rec, r.cur = r.cur, r.rec
		if giveUp.passed(ctx, r.m.policy.RetryFor) {
			r.failed = r.gaveUp()
			return r.failed
		}
		runtime.Gosched()
	}
}

// refreshAhead is how long before a cookie's end a browser refreshes it while it still sends it.
const refreshAhead = 2 * time.Minute

// successor returns the header of the record whose current token is fresh. The token that the client has stays admitted: the
// one that it presented; else the current one, unless that is new and was never presented: then the answer that carried it was
// lost, and the one before may not have ended yet.
func (r *Request) successor(fresh Token, now time.Time) Header {
	h := r.rec.Header
	switch {
	case r.rec.Standing(r.presented, now).Admitted():
		h.PrevID = r.presented
	case h.PrevUntil == PrevOpen && h.PrevID != (ID{}) && now.UnixMilli()-h.RotatedAt < min(refreshAhead, r.m.policy.BoundTTL).Milliseconds():
	default:
		h.PrevID = h.ID
	}
	h.ID, h.PrevUntil, h.RotatedAt = fresh.ID(), PrevOpen, now.UnixMilli()
	if r.renewalDue(&r.rec) {
		r.renew(&h)
	}
	h.Version++
	return h
}

// retryLimit bounds how long a commit goes on against concurrent changes. It is the wall clock, not the policy's, because it
// bounds how long the client really waits.
type retryLimit struct{ end time.Time }

// passed is called after each conflict.
func (l *retryLimit) passed(ctx context.Context, limit time.Duration) bool {
	if l.end.IsZero() {
		l.end = time.Now().Add(limit)
		return false
	}
	return time.Now().After(l.end) || ctx.Err() != nil
}

// gaveUp is the error of a commit whose limit has passed: no ErrUnavailable, because the store is well.
func (r *Request) gaveUp() error {
	return fmt.Errorf("%w: %d conflicts in a row", ErrConflict, r.report.Conflicts)
}
