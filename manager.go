package coatcheck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Manager binds sessions to a store and a policy. It is safe for concurrent use.
type Manager struct {
	store     Store
	policy    Policy
	notBefore atomic.Int64 // Policy.NotBefore in Unix milliseconds; written by SetNotBefore

	ownClock   bool                 // the policy came with a clock
	sinceBoot  func() time.Duration // measures how long a login takes
	thisMoment func() moment        // the same for a login that reads no mark

	watches watches
}

// NewManager returns a manager, or all mistakes of its arguments, joined.
func NewManager(store Store, policy Policy) (*Manager, error) {
	var noStore error
	if store == nil {
		noStore = errors.New("coatcheck: a manager needs a store")
	}
	err := policy.Validate()
	if err != nil {
		err = fmt.Errorf("coatcheck: policy: %w", err)
	}
	if err := errors.Join(noStore, err); err != nil {
		return nil, err
	}
	m := &Manager{store: store, policy: policy.withDefaults(), ownClock: policy.Now != nil, sinceBoot: sinceBoot, thisMoment: thisMoment}
	m.watches.every = watchEvery
	m.SetNotBefore(policy.NotBefore)
	return m, nil
}

// Store returns the manager's store.
func (m *Manager) Store() Store { return m.store }

// Policy returns the policy in force, defaults filled in.
func (m *Manager) Policy() Policy { return m.policy }

// Now returns the time by the policy's clock.
func (m *Manager) Now() time.Time { return m.policy.Now() }

// Arrival returns the time by which a request is judged: noted, the arrival time that the server recorded, unless the policy
// has a clock of its own. So loading a session does not read the clock again.
func (m *Manager) Arrival(noted time.Time) time.Time {
	if m.ownClock {
		return m.policy.Now()
	}
	return noted
}

// until returns when the tombstone of a session that is ended at now expires.
func (m *Manager) until(now time.Time) time.Time {
	return now.Add(max(m.policy.RotationGrace, minTombstone))
}

// SetNotBefore makes all sessions dead that were created before t, from the next request on. The zero time makes none dead.
func (m *Manager) SetNotBefore(t time.Time) {
	var ms int64
	if !t.IsZero() {
		ms = t.UnixMilli()
	}
	m.notBefore.Store(ms)
}

// NotBefore returns the time that SetNotBefore, or at first the policy, has set, in whole milliseconds; the zero time for none.
func (m *Manager) NotBefore() time.Time {
	if ms := m.notBefore.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// unavailable maps a store's error to ErrUnavailable, unless the error is more specific.
func unavailable(err error) error {
	if errors.Is(err, ErrNewer) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Info is the part of a live session that may be shown to its user and to administrators.
type Info struct {
	Key        Key // names the session to Manager.End
	UserID     string
	Handle     Handle
	ID         ID
	Bound      bool // to a key of the user's device
	CreatedAt  time.Time
	LastSeenAt time.Time  // as coarse as Policy.RenewEvery
	ExpiresAt  time.Time  // the earlier of idle and absolute expiry
	CreatedIP  netip.Addr // of the client that began the session; the zero Addr if it is not known
	LastIP     netip.Addr // of the client that renewed or rotated the session last, else that of CreatedIP
	UserAgent  string     // as it was sent by the client that began the session, cut to MaxUserAgent bytes
}

func infoOf(r *Record) Info {
	return Info{
		Key: r.Key, UserID: r.UserID(), Handle: r.Key.Handle(), ID: r.ID,
		CreatedAt: time.UnixMilli(r.CreatedAt), LastSeenAt: time.UnixMilli(r.LastSeen), ExpiresAt: time.UnixMilli(r.Expiry()),
		CreatedIP: r.IP(), LastIP: r.LastIP(), Bound: r.Bound(), UserAgent: string(r.UserAgent()),
	}
}

// List returns the user's live sessions, newest first.
func (m *Manager) List(ctx context.Context, user string) ([]Info, error) {
	var all []Info
	err := m.each(ctx, user, func(r *Record) bool {
		all = append(all, infoOf(r))
		return true
	})
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), bytes.Compare(a.Handle[:], b.Handle[:]))
	})
	return all, err
}

// pageTime bounds how long ListAll looks for sessions, apart from a call of the store that is under way.
const pageTime = time.Second

// ListAll returns live sessions of all users, in no order, a page with each call: up to limit sessions for which want returns
// true, and the cursor of the next page, which is empty after the last one. The first call has an empty cursor. It takes
// about a second at most, so a page may hold less than there is, or nothing, and lead to another one. What Store.Scan says of
// sessions that begin, change and end meanwhile holds here. Sessions without a user are left out. With a limit below 1 it looks
// for nothing and returns the cursor that it was given, an empty one, too.
//
// A nil want means all; the record that it gets is valid during the call only. ErrCursor: the cursor is not one of this store.
func (m *Manager) ListAll(ctx context.Context, cursor string, limit int, want func(*Record) bool) (page []Info, next string, err error) {
	for began := time.Now(); len(page) < limit; {
		cursor, err = m.store.Scan(ctx, cursor, limit-len(page), m.policy.Now(), func(r *Record) {
			if len(r.user) > 0 && !m.void(r) && (want == nil || want(r)) {
				page = append(page, infoOf(r))
			}
		})
		switch {
		case errors.Is(err, ErrCursor):
			return nil, "", err
		case err != nil:
			return nil, "", unavailable(err)
		case cursor == "":
			return page, "", nil
		case time.Since(began) > pageTime || ctx.Err() != nil: // the page is cut short, which is no failure
			limit = len(page)
		}
	}
	return page, cursor, nil
}

// Find returns the user's live session with this name: the session's handle, or its current or previous ID, in their 22
// characters. ErrNotFound: there is none.
func (m *Manager) Find(ctx context.Context, user, name string) (Info, error) {
	want, ok := ParseID([]byte(name))
	if !ok || want == (ID{}) {
		return Info{}, ErrNotFound
	}
	var found Info
	err := m.each(ctx, user, func(r *Record) bool {
		if r.ID == want || r.PrevID == want || ID(r.Key.Handle()) == want {
			found = infoOf(r)
		}
		return found.Key == Key{}
	})
	if err == nil && found.Key == (Key{}) {
		err = ErrNotFound
	}
	return found, err
}

// each calls yield for each live session of the user, in no order, until yield returns false.
func (m *Manager) each(ctx context.Context, user string, yield func(*Record) bool) error {
	if len(user) > MaxUserID {
		return nil // no user ID
	}
	err := m.store.List(ctx, user, m.policy.Now(), func(r *Record) bool {
		return m.void(r) || yield(r)
	})
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// End ends one session of the user. ErrNotFound: it does not live any more.
func (m *Manager) End(ctx context.Context, user string, key Key) error {
	var last Record
	now := m.policy.Now()
	// The user is a copy, because a store may still send it when the time of ctx is up and the caller reuses its buffer.
	err := m.store.End(ctx, key, strings.Clone(user), now, m.until(now), &last)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return unavailable(err)
	}
	return err
}

// EndUser ends all of the user's sessions, and refuses every login of the user that is in progress: the account was disabled,
// or its password changed (ASVS 7.4.2, 7.4.3). It returns how many sessions it ended.
func (m *Manager) EndUser(ctx context.Context, user string) (int, error) {
	if len(user) > MaxUserID {
		return 0, nil // no user ID, and too long for a store to mark
	}
	return m.endAllBut(ctx, user, Key{}, true)
}

// EndOthers ends all of the user's sessions but the one at keep, for the user, and returns how many it ended. A zero keep
// spares none. It refuses no login that is in progress, because the holder of a stolen session must not be able to keep the
// user out. ErrNotFound: the session at keep does not live any more, and nothing was ended.
func (m *Manager) EndOthers(ctx context.Context, user string, keep Key) (int, error) {
	if len(user) > MaxUserID && keep.IsZero() {
		return 0, nil // no user ID
	}
	return m.endAllBut(ctx, user, keep, false)
}

func (m *Manager) endAllBut(ctx context.Context, user string, keep Key, mark bool) (int, error) {
	now := m.policy.Now()
	n, err := m.store.EndUser(ctx, strings.Clone(user), keep, mark, now, m.until(now)) // as in End
	if err != nil && !errors.Is(err, ErrNotFound) {
		return n, unavailable(err)
	}
	return n, err
}
