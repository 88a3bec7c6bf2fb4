package coatcheck

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// MaxCandidates is how many different tokens of one request may open a session. A request with more is anonymous.
	MaxCandidates = 3
	// MaxEnded is the number of different tokens of one request whose sessions a login or a logout ends.
	MaxEnded = 16
)

// Presented is what a request carried under the cookie's name.
type Presented struct {
	tokens    [MaxEnded]Token
	n         int
	malformed bool
	toWatch   bool
}

// Reset prepares p for the next request. It erases the tokens, because a pool must not hold what opens a session.
func (p *Presented) Reset() {
	clear(p.tokens[:p.n])
	p.n, p.malformed, p.toWatch = 0, false, false
}

// ToWatch says that the request only watches a session, for a connection that was opened with the token and stays open. The token may
// have been rotated out since, or be too old, and nobody could tell while the watch was interrupted. So that is no Report.Reused, which
// may end the session, and no Report.TooOld, but Report.Left.
func (p *Presented) ToWatch() { p.toWatch = true }

// Add takes one value of the cookie. It does not allocate and keeps no reference to text.
func (p *Presented) Add(text []byte) {
	token, ok := ParseToken(text)
	if !ok {
		p.malformed = true
		return
	}
	for _, t := range p.tokens[:p.n] {
		if t == token {
			return
		}
	}
	if p.n < MaxEnded {
		p.tokens[p.n] = token
		p.n++
	}
}

// Format keeps the tokens out of every fmt verb.
func (p Presented) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("coatcheck.Presented")) }

// Client describes the client that sent a request. Open copies as much of UserAgent as a session keeps.
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
	r.watching = p.toWatch
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
	if r.watching && r.eventful {
		r.report.Left, r.report.Reused, r.report.TooOld = cmp.Or(r.report.Reused, r.report.TooOld), Reuse{}, Reuse{}
	}
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
	case err == nil, errors.Is(err, ErrExpired):
	case errors.Is(err, ErrNotFound):
		return true, nil
	case errors.Is(err, ErrEnded):
		return false, nil
	case errors.Is(err, ErrDamaged):
		r.changeReport().Damaged++
		return true, nil
	default:
		return false, unavailable(err)
	}
	if err != nil || !r.rec.Lives(r.now) || r.m.void(&r.rec) {
		if r.rec.Standing(id, r.now) != Unknown { // it may live again when a clock is set right, but not if the user logs out
			r.former = append(r.former, target{r.rec.Key, r.rec.UserID()})
		}
		return true, nil
	}
	switch standing := r.rec.Standing(id, r.now); {
	case standing.Admitted() && r.m.tooOld(&r.rec, r.now):
		r.former = append(r.former, target{r.rec.Key, r.rec.UserID()})
		r.changeReport().TooOld = Reuse{Key: r.rec.Key, ID: r.rec.ID, User: r.rec.UserID()}
		return true, nil
	case standing.Admitted():
		r.hold(token, id)
		r.first = standing == Current && (r.rec.PrevUntil == PrevOpen || r.rec.unconfirmed())
	case standing == Reused:
		r.former = append(r.former, target{r.rec.Key, r.rec.UserID()})
		r.changeReport().Reused = Reuse{Key: r.rec.Key, ID: r.rec.ID, User: r.rec.UserID()}
	default:
		r.changeReport().WrongSecret++
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
	r.live, r.token, r.presented, r.values = true, token, id, r.rec.values
}

// onReuse ends the session whose rotated-out token was presented, if the policy says so (RFC 9700, section 4.14.2, for the
// same idea with refresh tokens).
func (r *Request) onReuse(ctx context.Context) error {
	if !r.m.policy.RevokeOnReuse || r.watching {
		return nil
	}
	reuse := r.report.Reused
	err := r.m.store.End(ctx, reuse.Key, reuse.User, r.now, r.m.until(r.now), &r.cur)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return unavailable(err)
	}
	r.changeReport().Reused.Revoked = true
	return nil
}

// openSeveral is Open for several candidates. They are rare, so the one that is used may be loaded twice.
func (r *Request) openSeveral(ctx context.Context, p *Presented) error {
	stale, more := true, p.n > MaxCandidates
	var used Token
	var best Standing
	var reused []Reuse
	candidates := p.tokens[:min(p.n, MaxCandidates)]
	r.unopened = append(r.unopened, p.tokens[len(candidates):p.n]...)
	for _, token := range candidates {
		dead, err := r.try(ctx, token)
		if err != nil {
			return err
		}
		stale = stale && dead
		if reuse := r.report.Reused; reuse.Key != (Key{}) {
			reused, r.report.Reused = append(reused, reuse), Reuse{}
		}
		if !r.live {
			continue
		}
		r.held = held{}
		standing := r.rec.Standing(token.ID(), r.now)
		if r.addOther(token.Key(), r.rec.UserID()) {
			used, best = token, standing
		} else if used.Key() == token.Key() && standing > best {
			used, best = token, standing
		}
	}
	r.stale = stale && !more
	if more || len(r.others) > 1 {
		r.changeReport().Duplicate = true
	}
	if err := r.onReuses(ctx, reused, more); err != nil {
		return err
	}
	if len(r.others) == 1 && !more {
		r.others = r.others[:0]
		known := r.report.Reused
		if _, err := r.try(ctx, used); err != nil {
			return err
		}
		r.changeReport().Reused = known
	}
	return nil
}

// openRest adds to targets the sessions of the tokens beyond MaxCandidates: the sessions that these tokens open, and the
// sessions that they were rotated out of.
func (r *Request) openRest(ctx context.Context, targets *[]target) error {
	for _, token := range r.unopened {
		err := r.m.store.Load(ctx, token.Key(), token.ID(), r.now, &r.cur)
		switch {
		case err == nil, errors.Is(err, ErrExpired):
			if r.cur.Standing(token.ID(), r.now) != Unknown {
				*targets = append(*targets, target{r.cur.Key, r.cur.UserID()})
			}
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrEnded), errors.Is(err, ErrDamaged):
		default:
			return unavailable(err)
		}
	}
	r.dropUnopened()
	return nil
}

// onReuses calls onReuse for each rotated-out token, unless the request also carries a live token of the same session. Only
// one reuse is reported; a session that was ended for it takes precedence.
func (r *Request) onReuses(ctx context.Context, reused []Reuse, more bool) error {
	for _, reuse := range reused {
		if r.carries(reuse.Key) || more { // a token that was not looked up may be live
			if r.report.Reused.Key == (Key{}) {
				r.changeReport().Reused = reuse
			}
			continue
		}
		r.changeReport().Reused = reuse
		if err := r.onReuse(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) addOther(key Key, user string) bool {
	if r.carries(key) {
		return false
	}
	r.others = append(r.others, target{key, user})
	return true
}

func (r *Request) carries(key Key) bool {
	for _, t := range r.others {
		if t.key == key {
			return true
		}
	}
	return false
}

// Standing is what a record says of an ID that a request presented.
type Standing int

const (
	// Unknown is an ID that is neither the current nor the previous one.
	Unknown Standing = iota
	// Reused is the previous ID after it ceased to be admitted.
	Reused
	// Previous is the previous ID while it is admitted.
	Previous
	// Current is the record's ID.
	Current
)

// Admitted reports whether a token of this standing opens the session.
func (s Standing) Admitted() bool { return s >= Previous }

// Standing compares id with the record's IDs in constant time. This comparison is the check of the token's secret.
func (r *Record) Standing(id ID, now time.Time) Standing {
	switch {
	case id == (ID{}):
		return Unknown
	case subtle.ConstantTimeCompare(id[:], r.ID[:]) == 1:
		return Current
	case subtle.ConstantTimeCompare(id[:], r.PrevID[:]) == 0:
		return Unknown
	case now.UnixMilli() < r.PrevUntil:
		return Previous
	default:
		return Reused
	}
}

// tooOld reports whether the last proof of the device is so long ago that the tokens of its session open nothing.
func (m *Manager) tooOld(r *Record, now time.Time) bool {
	if len(r.binding) == 0 || !r.binding.used() {
		return false
	}
	ttl := m.policy.BoundTTL
	return now.UnixMilli()-r.binding.provedAt() > (ttl + max(ttl/10, time.Second)).Milliseconds()
}

// Lives reports whether the session is within both of its expiries.
func (r *Record) Lives(now time.Time) bool {
	ms := now.UnixMilli()
	return ms < r.IdleExpiry && ms < r.AbsoluteExpiry
}

// void reports whether a record in the store is not a valid session, because of its age or its user.
func (m *Manager) void(r *Record) bool {
	return r.CreatedAt < m.notBefore.Load() || m.policy.Admits != nil && len(r.user) > 0 && !m.policy.Admits(r.user)
}
