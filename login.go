package coatcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// commitLogin begins the user's session and ends what the request carried. Where both stand under one Tag the store does it
// in one step; else the new one is created first, so that a failure in between leaves the old one alone.
func (s *Session) commitLogin(ctx context.Context, now time.Time) error {
	switch {
	case !s.marked:
		if err := s.BeginLogin(ctx, s.user); err != nil {
			return err
		}
	case s.markOf != s.user:
		// Only the credential check told whose login this is, and what stood at his name when it began is not known any more.
		// So any mark refuses it.
		s.mark = 0
	}
	token, err := s.newRecord(s.user, now)
	if err != nil {
		return err
	}
	opt := CreateOptions{Mark: s.mark, Limit: s.m.policy.MaxPerUser, Until: s.m.until(now)}
	if s.live && string(s.rec.user) == s.user {
		opt.Replace, opt.Replaced = s.rec.Key, &s.cur
		s.cur.Version = 0
	}
	pushedOut, err := s.m.store.Create(ctx, &s.next, opt, now)
	if err != nil {
		return createError(err)
	}
	s.report.LimitEnded += pushedOut
	if err := s.leave(ctx, opt.Replace != Key{}, now); err != nil {
		return s.undoLogin(ctx, token, err)
	}
	s.others, s.marked = s.others[:0], false
	s.began(token)
	return nil
}

// leave ends what the request carried, and corrects the new session, s.next, where that shows that its values were not
// the last: newer ones are merged in, those of a session that had ended before are taken out.
func (s *Session) leave(ctx context.Context, replaced bool, now time.Time) error {
	if s.live {
		ended := replaced && s.cur.Version != 0
		if !replaced {
			n, err := s.endAll(ctx, []target{{s.rec.Key, s.rec.UserID()}}, now, &s.report.Replaced)
			if err != nil {
				return err
			}
			ended = n == 1
		} else if ended {
			s.report.Replaced++
		}
		if err := s.correct(ctx, ended, now); err != nil {
			return err
		}
	}
	if _, err := s.endAll(ctx, s.ending, now, &s.report.Ended); err != nil {
		return err
	}
	_, err := s.endAll(ctx, s.others, now, &s.report.Replaced)
	return err
}

func (s *Session) correct(ctx context.Context, ended bool, now time.Time) error {
	s.live = ended && s.cur.Standing(s.presented, now).Admitted()
	if s.live {
		s.rec, s.cur = s.cur, s.rec
	}
	if err := s.rebuild(); err != nil {
		return err
	}
	if bytes.Equal(s.values, s.next.values) {
		return nil
	}
	h := s.next.Header
	h.Version++
	if err := s.cur.Write(s.next.Key, h, s.next.user, s.next.ip, s.next.agent, s.values); err != nil {
		return err
	}
	s.next, s.cur = s.cur, s.next
	switch err := s.m.store.Swap(ctx, &s.next, h.Version-1, now, &s.cur); {
	case errors.Is(err, ErrNotFound):
		return ErrRevoked
	case err != nil:
		return unavailable(err)
	}
	return nil
}

// undoLogin ends the new session: a login whose answer is an error has begun nothing. That it failed because the request's
// time is up is no reason to leave it.
func (s *Session) undoLogin(ctx context.Context, token Token, cause error) error {
	now := s.m.policy.Now()
	err := s.m.store.End(context.WithoutCancel(ctx), token.Key(), s.user, now, s.m.until(now), &s.cur)
	if err != nil && !errors.Is(err, ErrNotFound) {
		cause = fmt.Errorf("%w (and the new session could not be ended: %w)", cause, err)
	}
	return cause
}
