package coatcheck

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Client is who sent a request. UserAgent must stay as it is until the session is released.
type Client struct {
	IP        netip.Addr
	UserAgent []byte
}

// MaxCandidates is how many different tokens of one request are looked up.
const MaxCandidates = 3

// Presented is what a request carried under the cookie's name.
type Presented struct {
	tokens    [MaxCandidates]Token
	n         int
	more      bool
	malformed bool
}

// Add takes one value of the cookie. It does not allocate and keeps nothing of text.
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
	if p.n == MaxCandidates {
		p.more = true
		return
	}
	p.tokens[p.n] = token
	p.n++
}

// Format keeps the tokens out of every fmt verb.
func (p Presented) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("coatcheck.Presented")) }

// target is a session that a request may have to end.
type target struct {
	key  Key
	user string
}

// Open makes s the session of a request that was read at now. Of several tokens, compared by their Key, exactly one live
// session is used; two or more make the request anonymous. A request whose tokens open nothing, but may belong to a session
// that lives or has just been followed by another, begins no session short of a login, since its cookie would replace
// theirs. An error means that nothing is known about the tokens; the session is then empty, and its Commit returns the
// same error.
func (m *Manager) Open(ctx context.Context, s *Session, p *Presented, client Client, now time.Time) error {
	s.reset(m, client, now)
	var err error
	switch p.n {
	case 0:
		s.stale = p.malformed
		return nil
	case 1:
		s.stale, err = s.try(ctx, p.tokens[0])
		if err == nil && s.report.Reused.Key != (Key{}) {
			err = s.onReuse(ctx)
		}
	default:
		err = s.openSeveral(ctx, p)
	}
	s.lost = !s.live && !s.stale
	if err != nil {
		s.forget()
		s.failed = err
	}
	return err
}

// try loads the record of one token and takes it if it admits the token. It reports whether the token is dead: of an
// unknown Key or an expired session, so that clearing the cookie loses nothing.
func (s *Session) try(ctx context.Context, token Token) (dead bool, err error) {
	id := token.ID()
	err = s.m.store.Load(ctx, token.Key(), id, s.now, &s.rec)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound):
		return true, nil
	case errors.Is(err, ErrEnded):
		return false, nil
	case errors.Is(err, ErrDamaged):
		s.report.Damaged++
		return true, nil
	default:
		return false, unavailable(err)
	}
	if !s.rec.Lives(s.now) || s.m.void(&s.rec) {
		return true, nil
	}
	switch standing := s.rec.Standing(id, s.now); standing {
	case Current, Previous:
		s.hold(token, id)
		s.first = standing == Current && s.rec.PrevUntil == PrevOpen
	case Reused:
		s.report.Reused = Reuse{Key: s.rec.Key, ID: s.rec.ID, User: s.rec.UserID()}
	default:
		s.report.WrongSecret++
	}
	return false, nil
}

// hold makes the record in s.rec the session's, opened by token.
func (s *Session) hold(token Token, id ID) {
	s.token, s.presented, s.fresh, s.live = token, id, Token{}, true
	s.values = s.rec.values
}

// openSeveral is Open for several candidates: rare, so that it may load the one that is used twice.
func (s *Session) openSeveral(ctx context.Context, p *Presented) error {
	stale := true
	var used Token
	var best Standing
	var reused []Reuse
	for _, token := range p.tokens[:p.n] {
		dead, err := s.try(ctx, token)
		if err != nil {
			return err
		}
		stale = stale && dead
		if r := s.report.Reused; r.Key != (Key{}) {
			reused, s.report.Reused = append(reused, r), Reuse{}
		}
		if !s.live {
			continue
		}
		s.live = false
		standing := s.rec.Standing(token.ID(), s.now)
		if s.addOther(token.Key(), s.rec.UserID()) {
			used, best = token, standing
		} else if used.Key() == token.Key() && standing > best {
			used, best = token, standing
		}
	}
	s.values, s.first = nil, false
	s.stale = stale && !p.more
	s.report.Duplicate = p.more || len(s.others) > 1
	if err := s.onReuses(ctx, reused, p.more); err != nil {
		return err
	}
	if len(s.others) == 1 && !p.more {
		s.others = s.others[:0]
		known := s.report.Reused
		if _, err := s.try(ctx, used); err != nil {
			return err
		}
		s.report.Reused = known
	}
	return nil
}

// onReuses is onReuse for each rotated-out token whose session the request does not also carry a live token of. Only one
// is reported, a session that was ended before others.
func (s *Session) onReuses(ctx context.Context, reused []Reuse, more bool) error {
	for _, r := range reused {
		if s.carries(r.Key) || more { // of more tokens than were looked up, one may be live
			if s.report.Reused.Key == (Key{}) {
				s.report.Reused = r
			}
			continue
		}
		s.report.Reused = r
		if err := s.onReuse(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) addOther(key Key, user string) bool {
	if s.carries(key) {
		return false
	}
	s.others = append(s.others, target{key, user})
	return true
}

func (s *Session) carries(key Key) bool {
	for _, t := range s.others {
		if t.key == key {
			return true
		}
	}
	return false
}

// onReuse ends the session whose rotated-out token was presented, if the policy says so (RFC 9700, section 4.14.2, for the
// same idea with refresh tokens).
func (s *Session) onReuse(ctx context.Context) error {
	if !s.m.policy.RevokeOnReuse {
		return nil
	}
	r := s.report.Reused
	err := s.m.store.End(ctx, r.Key, r.User, s.now, s.m.until(s.now), &s.cur)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return unavailable(err)
	}
	s.report.Reused.Revoked = true
	return nil
}
