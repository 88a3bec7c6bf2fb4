package coatcheck

import (
	"context"
	"errors"
	"fmt"
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
}

// Reset prepares p for the next request. It erases the tokens, because a pool must not hold what opens a session.
func (p *Presented) Reset() {
	clear(p.tokens[:p.n])
	p.n, p.malformed = 0, false
}

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
		r.live = false
		standing := r.rec.Standing(token.ID(), r.now)
		if r.addOther(token.Key(), r.rec.UserID()) {
			used, best = token, standing
		} else if used.Key() == token.Key() && standing > best {
			used, best = token, standing
		}
	}
	r.values, r.first = nil, false
	r.stale = stale && !more
	r.report.Duplicate = more || len(r.others) > 1
	if err := r.onReuses(ctx, reused, more); err != nil {
		return err
	}
	if len(r.others) == 1 && !more {
		r.others = r.others[:0]
		known := r.report.Reused
		if _, err := r.try(ctx, used); err != nil {
			return err
		}
		r.report.Reused = known
	}
	return nil
}

// openRest adds to targets the sessions of the tokens beyond MaxCandidates: the sessions that these tokens open, and the
// sessions that they were rotated out of.
func (r *Request) openRest(ctx context.Context, targets *[]target) error {
	for _, token := range r.unopened {
		err := r.m.store.Load(ctx, token.Key(), token.ID(), r.now, &r.cur)
		switch {
		case err == nil:
			if r.cur.Lives(r.now) && r.cur.Standing(token.ID(), r.now) != Unknown {
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
				r.report.Reused = reuse
			}
			continue
		}
		r.report.Reused = reuse
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
