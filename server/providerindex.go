package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// newProviderIndex returns the configured index, or one of this server alone. That knows the sessions which the store holds already, and
// over a store of this process alone, which may outlive the process, also what an earlier one has noted as ended and done.
func (s *Server) newProviderIndex(cfg Config) (oidc.Index, error) {
	if cfg.OIDCIndex != nil {
		return cfg.OIDCIndex, nil
	}
	store := s.manager.Store()
	index, ctx, now := oidc.NewMemoryIndex(), context.Background(), s.manager.Now()
	for cursor, more := "", true; more; more = cursor != "" {
		var err error
		cursor, err = store.Scan(ctx, cursor, 1000, now, func(rec *coatcheck.Record) {
			var session []byte
			if raw, ok := rec.Value(providerValue); ok && json.Unmarshal(raw, &session) == nil && len(session) == 16 {
				_, _ = index.Add(ctx, [16]byte(session), rec.Key.String()+rec.UserID(), now, time.UnixMilli(rec.AbsoluteExpiry)) // never fails
			}
		})
		if err != nil {
			return nil, fmt.Errorf("reading which sessions began at the provider: %w", err)
		}
	}
	if store.Shared() {
		return index, nil
	}
	return &keptIndex{index, store}, nil
}

// keptIndex is a MemoryIndex that keeps which sessions of the provider have ended, and which tokens' work is done, in the store too, so
// that a restart forgets neither. Each is a mark of a user whom nobody can be, because a user ID has no control characters: a mark is
// kept as safely as the end of a session. Within the process the MemoryIndex alone decides, which makes each method atomic.
type keptIndex struct {
	*oidc.MemoryIndex
	store coatcheck.Store
}

const (
	keptSession = "\x00oidc session "
	keptToken   = "\x00oidc token "
)

// keep leaves a mark until the given time.
func (x *keptIndex) keep(ctx context.Context, kind string, digest [16]byte, until time.Time) error {
	left := until.Add(-coatcheck.MarkLife) // a mark stands for MarkLife from the time that EndUser is told
	_, err := x.store.EndUser(ctx, kept(kind, digest), coatcheck.Key{}, true, left, left)
	return err
}

func (x *keptIndex) isKept(ctx context.Context, kind string, digest [16]byte, now time.Time) (bool, error) {
	mark, err := x.store.Mark(ctx, kept(kind, digest), now)
	return mark != 0, err
}

func kept(kind string, digest [16]byte) string {
	return kind + base64.RawURLEncoding.EncodeToString(digest[:])
}

func (x *keptIndex) Ended(ctx context.Context, session [16]byte, now time.Time) (bool, error) {
	if ended, err := x.MemoryIndex.Ended(ctx, session, now); ended || err != nil {
		return ended, err
	}
	return x.isKept(ctx, keptSession, session, now)
}

func (x *keptIndex) Add(ctx context.Context, session [16]byte, entry string, now, until time.Time) (ended bool, err error) {
	if ended, err = x.MemoryIndex.Add(ctx, session, entry, now, until); ended || err != nil {
		return ended, err
	}
	return x.isKept(ctx, keptSession, session, now)
}

func (x *keptIndex) End(ctx context.Context, session [16]byte, now, until time.Time) ([]string, error) {
	entries, err := x.MemoryIndex.End(ctx, session, now, until)
	return entries, errors.Join(err, x.keep(ctx, keptSession, session, until))
}

func (x *keptIndex) Begin(
	ctx context.Context, token [16]byte, attempt string, now time.Time, atMost time.Duration,
) (done, busy bool, err error) {
	if done, busy, err = x.MemoryIndex.Begin(ctx, token, attempt, now, atMost); done || busy || err != nil {
		return done, busy, err
	}
	if done, err = x.isKept(ctx, keptToken, token, now); done || err != nil {
		err = errors.Join(err, x.Forget(ctx, token, attempt))
	}
	return done, false, err
}

func (x *keptIndex) Done(ctx context.Context, token [16]byte, attempt string, now, until time.Time) error {
	return errors.Join(x.MemoryIndex.Done(ctx, token, attempt, now, until), x.keep(ctx, keptToken, token, until))
}
