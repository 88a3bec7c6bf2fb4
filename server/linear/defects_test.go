package linear

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// The checker sees what it must: of a store with one defect, histories are refused.
func TestDefectsAreSeen(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(coatcheck.Store) coatcheck.Store{
		"a read after the end":            func(s coatcheck.Store) coatcheck.Store { return &stalest{Store: s} },
		"a write revives":                 func(s coatcheck.Store) coatcheck.Store { return &reviving{stalest{Store: s}} },
		"an update is lost":               func(s coatcheck.Store) coatcheck.Store { return overwriting{s} },
		"any old token opens and rotates": func(s coatcheck.Store) coatcheck.Store { return credulous{s} },
		"the grace does not end":          func(s coatcheck.Store) coatcheck.Store { return graceful{s} },
		"a logout does nothing":           func(s coatcheck.Store) coatcheck.Store { return deaf{s} },
		"a revocation spares one":         func(s coatcheck.Store) coatcheck.Store { return sparing{s} },
		"a login overtakes a revocation":  func(s coatcheck.Store) coatcheck.Store { return unmarked{s} },
		"a login ends nothing":            func(s coatcheck.Store) coatcheck.Store { return additive{s} },
		"one more than the limit":         func(s coatcheck.Store) coatcheck.Store { return generous{s} },
		"a list leaves one out":           func(s coatcheck.Store) coatcheck.Store { return forgetful{s} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 2
			store := broken(shaky(memory(t, shardstore.Options{})))
			v := variant{nodes: []node{serve(t, store, limit)}, rules: rules{grace: grace.Milliseconds(), limit: limit}}
			res := v.verify(t, 4*time.Minute) // most are seen in the first second
			require.NotNil(t, res.violation, "%d histories, all allowed", res.histories)
			t.Logf("seen after %d histories", res.histories)
		})
	}
}

// So does the weaker check of caches: what is served for longer than the bound is seen, and a picture is made of it.
func TestOverdueReadsAreSeen(t *testing.T) {
	t.Parallel()
	store := &stalest{Store: memory(t, shardstore.Options{})}
	const bound = 300 * time.Millisecond
	v := variant{
		nodes: []node{serve(t, store, -1)}, rules: rules{grace: grace.Milliseconds()}, healthy: bound / 10, bound: bound, requests: 3, pictures: t.TempDir(),
	}
	res := v.verify(t, 4*time.Minute)
	require.NotNil(t, res.violation, "%d histories, all allowed", res.histories)
	page, err := os.ReadFile(v.picture(t, res.violation))
	require.NoError(t, err)
	assert.Regexp(t, `with [\w-]{6}/[\w-]{6}`, string(page), "it says which token was presented; by what its session began is left to chance")
}

// stalest serves for ever what it has once loaded and does not find any more.
type stalest struct {
	coatcheck.Store
	kept sync.Map // by Key: a record's bytes
}

func (s *stalest) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	err := s.Store.Load(ctx, key, id, now, rec)
	if err == nil {
		s.kept.Store(key, bytes.Clone(rec.Bytes()))
		return nil
	}
	if old, ok := s.kept.Load(key); ok {
		return rec.Read(key, old.([]byte))
	}
	return err
}

// reviving keeps what is written to a session that has ended, as stores do that insert what they cannot update.
type reviving struct{ stalest }

func (s *reviving) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if old, ok := s.kept.Load(key); ok {
		return rec.Read(key, old.([]byte))
	}
	return s.Store.Load(ctx, key, id, now, rec)
}

func (s *reviving) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	err := s.Store.Swap(ctx, rec, old, now, cur)
	if errors.Is(err, coatcheck.ErrNotFound) {
		s.kept.Store(rec.Key, bytes.Clone(rec.Bytes()))
		return nil
	}
	return err
}

// overwriting lets the later write win.
type overwriting struct{ coatcheck.Store }

func (s overwriting) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	for {
		err := s.Store.Swap(ctx, rec, old, now, cur)
		if !errors.Is(err, coatcheck.ErrConflict) {
			return err
		}
		old = cur.Version
		again := bytes.Clone(rec.Bytes())
		binary.BigEndian.PutUint64(again[1:], old+1) // behind the codec's version
		if err := rec.Read(rec.Key, again); err != nil {
			return err
		}
	}
}

// credulous takes any secret of a session for that of its previous token.
type credulous struct{ coatcheck.Store }

func (s credulous) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	err := s.Store.Load(ctx, key, id, now, rec)
	if err == nil && rec.Standing(id, now) == coatcheck.Unknown {
		rec.PrevID, rec.PrevUntil = id, coatcheck.PrevOpen
	}
	return err
}

// graceful admits the previous token for as long as there is one.
type graceful struct{ coatcheck.Store }

func (s graceful) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	err := s.Store.Load(ctx, key, id, now, rec)
	if err == nil && rec.Standing(id, now) == coatcheck.Reused {
		rec.PrevUntil = now.Add(time.Hour).UnixMilli()
	}
	return err
}

// deaf says that it ended a session, and did not.
type deaf struct{ coatcheck.Store }

func (s deaf) End(ctx context.Context, key coatcheck.Key, _ string, now, _ time.Time, last *coatcheck.Record) error {
	return s.Load(ctx, key, coatcheck.ID{}, now, last)
}

// sparing ends all of a user's sessions but one.
type sparing struct{ coatcheck.Store }

func (s sparing) EndUser(ctx context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	if keep != (coatcheck.Key{}) {
		return s.Store.EndUser(ctx, user, keep, mark, now, until)
	}
	err := s.List(ctx, user, now, func(r *coatcheck.Record) bool {
		keep = r.Key
		return false
	})
	if err != nil {
		return 0, err
	}
	n, err := s.Store.EndUser(ctx, user, keep, mark, now, until)
	if keep != (coatcheck.Key{}) {
		n++
	}
	if errors.Is(err, coatcheck.ErrNotFound) {
		return 0, nil
	}
	return n, err
}

// unmarked begins a session whatever was ended since its login began.
type unmarked struct{ coatcheck.Store }

func (s unmarked) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	mark, err := s.Mark(ctx, rec.UserID(), now)
	if err != nil {
		return 0, err
	}
	opt.Mark = mark
	return s.Store.Create(ctx, rec, opt, now)
}

// additive leaves the session alone that a login should replace.
type additive struct{ coatcheck.Store }

func (s additive) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	opt.Replace = coatcheck.Key{}
	return s.Store.Create(ctx, rec, opt, now)
}

// generous lets a user have one session too many.
type generous struct{ coatcheck.Store }

func (s generous) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	opt.Limit++
	return s.Store.Create(ctx, rec, opt, now)
}

// forgetful leaves out the first session of a list.
type forgetful struct{ coatcheck.Store }

func (s forgetful) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	first := true
	return s.Store.List(ctx, user, now, func(r *coatcheck.Record) bool {
		if first {
			first = false
			return true
		}
		return yield(r)
	})
}
