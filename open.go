package coatcheck

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Client describes the client that sent a request. UserAgent must not change until the session is released.
type Client struct {
	IP        netip.Addr
	UserAgent []byte
}

// target is a session that a request may have to end.
type target struct {
	key  Key
	user string
}

// Open begins r as a request that was read at now, and opens its session. Among several tokens, compared by their Key,
// exactly one live session is used; two or more make the request anonymous. If the tokens open nothing, but may belong to a
// session that lives or has just been replaced, the request begins no session short of a login, because its cookie would
// replace the cookie of that session. An error means that nothing is known about the tokens; the session is then empty, and
// its Commit returns the same error.
func (m *Manager) Open(ctx context.Context, r *Request, p *Presented, client Client, now time.Time) error {
	r.reset(m, client, now)
	var err error
	switch p.n {
	case 0:
		r.stale = p.malformed
		return nil
	case 1:
		r.stale, err = r.try(ctx, p.tokens[0])
		if err == nil && r.report.Reused.Key != (Key{}) {
			err = r.onReuse(ctx)
		}
	default:
		err = r.openSeveral(ctx, p)
	}
	r.lost = !r.live && (!r.stale || r.report.TooOld.Key != (Key{}))
	if err != nil {
		r.forget()
		r.failed = err
	}
	return err
}

// try loads the record of one token and takes it if the record admits the token. It reports whether the token is dead: its
// Key is unknown, its session has expired, or its session is bound to a device whose last proof is too long ago, so that
// clearing the cookie loses nothing.
func (r *Request) try(ctx context.Context, token Token) (dead bool, err error) {
	id := token.ID()
	err = r.m.load(ctx, token.Key(), id, r.now, &r.rec)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound):
		return true, nil
	case errors.Is(err, ErrEnded):
		return false, nil
	case errors.Is(err, ErrDamaged):
		r.report.Damaged++
		return true, nil
	default:
		return false, unavailable(err)
	}
	if !r.rec.Lives(r.now) || r.m.void(&r.rec) {
		return true, nil
	}
	switch standing := r.rec.Standing(id, r.now); {
	case standing.Admitted() && r.m.tooOld(&r.rec, r.now):
		r.former = append(r.former, target{r.rec.Key, r.rec.UserID()})
		r.report.TooOld = Reuse{Key: r.rec.Key, ID: r.rec.ID, User: r.rec.UserID()}
		return true, nil
	case standing.Admitted():
		r.hold(token, id)
		r.first = standing == Current && (r.rec.PrevUntil == PrevOpen || r.rec.unconfirmed())
	case standing == Reused:
		r.former = append(r.former, target{r.rec.Key, r.rec.UserID()})
		r.report.Reused = Reuse{Key: r.rec.Key, ID: r.rec.ID, User: r.rec.UserID()}
	default:
		r.report.WrongSecret++
	}
	return false, nil
}

// load reads a record for a token. A record that is too old for the token is read past the store's cache.
func (m *Manager) load(ctx context.Context, key Key, id ID, now time.Time, rec *Record) error {
	err := m.store.Load(ctx, key, id, now, rec)
	if err == nil && m.tooOld(rec, now) {
		// The zero ID is never admitted, so this record is not a cached one, which may be older than the last proof.
		err = m.store.Load(ctx, key, ID{}, now, rec)
	}
	return err
}

// hold makes the record in r.rec the request's session, opened by token.
func (r *Request) hold(token Token, id ID) {
	r.token, r.presented, r.fresh, r.live = token, id, Token{}, true
	r.values = r.rec.values
}

// onReuse ends the session whose rotated-out token was presented, if the policy says so (RFC 9700, section 4.14.2, for the
// same idea with refresh tokens).
func (r *Request) onReuse(ctx context.Context) error {
	if !r.m.policy.RevokeOnReuse {
		return nil
	}
	reuse := r.report.Reused
	err := r.m.store.End(ctx, reuse.Key, reuse.User, r.now, r.m.until(r.now), &r.cur)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return unavailable(err)
	}
	r.report.Reused.Revoked = true
	return nil
}
