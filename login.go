package coatcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// authenticate is Session.Authenticate with claims. After an error, or a panic of an Update's function, the session is unchanged.
func (r *Request) authenticate(user string, c ClaimSet) (err error) {
	switch {
	case user == "" || len(user) > MaxUserID:
		return fmt.Errorf("user ID of %d bytes: %w", len(user), ErrUserID)
	case r.sent:
		return ErrHeaderSent
	}
	before := r.asked
	err = errPanicked // stands if rebuild panics
	defer func() {
		if err != nil {
			r.asked = before
		}
	}()
	if user == r.markOf {
		user = r.markOf // a copy already
	} else {
		user = strings.Clone(user)
	}
	r.login, r.user, r.destroy, r.claims, r.fresh = true, user, false, c.kept(), Token{}
	return r.rebuild()
}

// NextKey returns the Key that the session of the pending login will have, so that its values can name it: a later login keeps the values
// and has another Key. Without a pending login it is the zero Key.
func (r *Request) NextKey() Key {
	if !r.login {
		return Key{}
	}
	return r.nextToken().Key()
}

// nextToken returns the token of the login that was asked for.
func (r *Request) nextToken() Token {
	if r.fresh == (Token{}) {
		r.fresh = NewToken(TagOf(r.user))
	}
	return r.fresh
}

// beginLogin is Session.BeginLogin. It only reads: when it fails, that is an error of the login alone.
func (r *Request) beginLogin(ctx context.Context, user string) error {
	r.markedAt = r.m.sinceBoot() // before the mark is read: a mark that is left later must live until the commit
	now := r.m.policy.Now()
	r.readAt = now.Round(0)
	mark, err := r.m.store.Mark(ctx, user, now)
	if err != nil {
		r.unmarked = unavailable(err)
		r.stale = false // what the store could not do touches no cookie
		return r.unmarked
	}
	r.marked, r.unmarked, r.mark, r.markOf = true, nil, mark, strings.Clone(user)
	return nil
}

// commitLogin begins the user's session and ends the sessions that the request carried. If old and new have one Tag, the
// store does both in one step; otherwise the new session is created first, so that a failure in between leaves the old one
// alone.
func (r *Request) commitLogin(ctx context.Context, now time.Time) (err error) {
	switch {
	case r.unmarked != nil:
		return r.unmarked
	case !r.marked: // the login begins with Create
		r.mark, r.beganAt = AnyMark, r.m.thisMoment()
	case r.markOf != r.user:
		// The user became known only with the credential check, so the user's mark at the time when the login began is not known.
		// Therefore any mark refuses the login.
		r.mark = 0
	}
	// The store judges a mark by now, and would take one for gone if that clock was set forward meanwhile.
	if r.marked && (r.outlivedMark() || now.Sub(r.readAt) >= MarkLife) {
		return ErrRevoked
	}
	token := r.nextToken()
	if err := r.newRecord(token, r.user, now); err != nil {
		return err
	}
	opt := CreateOptions{Mark: r.mark, Limit: r.m.policy.MaxPerUser, Until: r.m.until(now)}
	if r.live && string(r.rec.user) == r.user {
		opt.Replace, opt.Replaced = r.rec.Key, &r.cur
	}
	pushedOut, err := r.m.store.Create(ctx, &r.next, opt, now)
	if err != nil {
		return createError(err)
	}
	if pushedOut > 0 {
		report := r.changeReport()
		report.LimitEnded, report.LimitUser = report.LimitEnded+pushedOut, r.user
	}
	err = errPanicked // stands if an Update's function panics as leave runs it again
	defer func() {
		if err != nil {
			err = r.undoLogin(ctx, token, err)
		}
	}()
	if r.outlivedMark() { // the process may have been stopped before the store was called
		return ErrRevoked
	}
	if err := r.leave(ctx, opt.Replace != Key{}, now); err != nil {
		return err
	}
	r.others, r.marked = r.others[:0], false
	r.changeReport().Created++
	r.holdNext(token)
	return nil
}

// outlivedMark reports whether the login has taken so long that the user's sessions may have been ended since it began and
// the mark of that is gone. A login that begins with Create has nothing to wait for but the store: it is measured by clocks
// that are read without a system call. If the wall's is set forward by a minute just then, the login is refused for nothing, and a
// session that it replaced or that the limit ended stays ended; if the machine sleeps just then and the wall's is set back as
// far, the login stands.
func (r *Request) outlivedMark() bool {
	if r.mark != AnyMark {
		return r.m.sinceBoot()-r.markedAt >= MarkLife
	}
	return r.m.thisMoment().since(r.beganAt) >= MarkLife
}

// leave ends the sessions that the request carried. If it finds that their values were not the last, it corrects the new
// session, r.next: it merges newer values in, and takes out the values of a session that had ended before.
func (r *Request) leave(ctx context.Context, replaced bool, now time.Time) error {
	if r.live {
		ended := replaced && r.cur.Version != 0
		if !ended { // also where Replace found nothing that lives: what has expired since may live again by another clock
			n, err := r.endAll(ctx, []target{{r.rec.Key, r.rec.UserID()}}, now, true)
			if err != nil {
				return err
			}
			ended = n == 1
		} else {
			r.reportEnd(r.user, true)
		}
		if err := r.correct(ctx, ended, now); err != nil {
			return err
		}
	}
	if _, err := r.endAll(ctx, r.ending, now, false); err != nil {
		return err
	}
	r.others = append(r.others, r.former...)
	r.former = r.former[:0]
	if err := r.openRest(ctx, &r.others); err != nil {
		return err
	}
	_, err := r.endAll(ctx, r.others, now, true)
	return err
}

func (r *Request) correct(ctx context.Context, ended bool, now time.Time) error {
	r.live = ended && r.cur.Standing(r.presented, now).Admitted()
	if r.live {
		r.rec, r.cur = r.cur, r.rec
	}
	if err := r.rebuild(); err != nil {
		return err
	}
	if bytes.Equal(r.values, r.next.values) {
		return nil
	}
	h := r.next.Header
	h.Version++
	if err := r.cur.Rewrite(&r.next, h, r.values); err != nil {
		return err
	}
	r.next, r.cur = r.cur, r.next
	switch err := r.m.store.Swap(ctx, &r.next, h.Version-1, now, &r.cur); {
	case errors.Is(err, ErrNotFound):
		return ErrRevoked
	case err != nil:
		return unavailable(err)
	}
	return nil
}

// undoLogin ends the new session, because a login whose answer is an error must begin none. It does so even if the login
// failed because the request's time is up.
func (r *Request) undoLogin(ctx context.Context, token Token, cause error) error {
	now := r.m.policy.Now()
	err := r.m.store.End(context.WithoutCancel(ctx), token.Key(), r.user, now, r.m.until(now), &r.cur)
	if err != nil && !errors.Is(err, ErrNotFound) {
		cause = fmt.Errorf("%w (and the new session could not be ended: %w)", cause, err)
	}
	return cause
}
