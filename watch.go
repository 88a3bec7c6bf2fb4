package coatcheck

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrTooManyWatchers: the session has 10 watchers, or the manager as many as Policy.MaxWatchers allows.
var ErrTooManyWatchers = errors.New("too many watchers")

// EndReason is why a token does not open its session any more.
type EndReason string

const (
	// ReasonEnded: the session was ended: a logout, another login, a revocation, or the limit of the user's sessions.
	ReasonEnded EndReason = "ended"
	// ReasonExpired: the session expired.
	ReasonExpired EndReason = "expired"
	// ReasonRotated: the session lives under a newer token, or waits for its device to prove itself. Whoever has that token may watch the session by it.
	ReasonRotated EndReason = "rotated"
)

const (
	// watchersPerSession is how many watchers one session may have.
	watchersPerSession = 10
	// watchEvery is how often the watched sessions are looked at.
	watchEvery = 750 * time.Millisecond
	// watchReaders is how many of them are read at the same time from a store that other processes share. Each read of such a
	// store may take a round trip, and as long as the store's timeout where a part of it is away: then each reader has time for one.
	watchReaders = 64
)

// watches are the sessions of a manager that are being watched. One goroutine looks at all of them in turn while there is one:
// a session may end on another node, by its expiry, or because its user was removed, and none of these has an event here.
// Looking renews no session. A store with a cache answers from it, until an invalidation or the age of the record makes it read anew.
type watches struct {
	mu   sync.Mutex
	of   map[Key][]*watch // by session; guarded by mu
	n    int              // in all; guarded by mu
	none chan struct{}    // guarded by mu; closed when the last one is removed, which ends the goroutine

	every time.Duration
}

// watch is one watcher of one token.
type watch struct {
	key     Key
	id      ID
	expires time.Time // as last read; used by the goroutines that look alone, as is failed
	failed  time.Time // when the store last failed to read the session; zero: the last read did not fail
	ended   func(EndReason)
	release func() bool // stops waiting for the context; guarded by watches.mu
}

// Watch calls ended, once and in a goroutine of its own, when the token that the request presented opens its session no more. When
// ctx is done it stops watching; a call that is on its way by then still comes. It may outlive the request, and keeps nothing of
// it. Watching renews no session, and neither does the request that begins it. A session that ends is reported within a second, one
// that ends on another node within two; while the store cannot read it nothing is reported. When a part of the store goes
// away, the ends of other sessions are reported late until the sessions of that part are known. ErrDetached: the session is used outside its
// request. ErrNotFound: the request has no session. ErrTooManyWatchers: the session, or the manager, has as many as it may.
func Watch(ctx context.Context, s *Session, ended func(EndReason)) error {
	r := s.lock()
	if r == nil {
		return ErrDetached
	}
	defer s.unlock()
	if !r.live {
		return ErrNotFound
	}
	w := &watch{key: r.rec.Key, id: r.presented, expires: time.UnixMilli(r.rec.Expiry()), ended: ended}
	if r.issued { // the session began in this request
		w.id = r.rec.ID
	}
	r.watching = true
	return r.m.watch(ctx, w)
}

// RotatedOut reports whether a request to watch (Presented.ToWatch) has no session because its token was rotated out, or is too old: the
// session lives on under a newer one, or waits for its device.
func (r *Request) RotatedOut() bool {
	return !r.live && !r.report.Duplicate && r.report.Left.Key != (Key{})
}

// Watchers returns how many watchers there are.
func (m *Manager) Watchers() int {
	m.watches.mu.Lock()
	defer m.watches.mu.Unlock()
	return m.watches.n
}

func (m *Manager) watch(ctx context.Context, w *watch) error {
	all := &m.watches
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.n >= m.policy.MaxWatchers || len(all.of[w.key]) >= watchersPerSession {
		return ErrTooManyWatchers
	}
	if all.n == 0 {
		all.of, all.none = make(map[Key][]*watch), make(chan struct{})
		go m.lookAtWatched(all.none)
	}
	all.of[w.key] = append(all.of[w.key], w)
	all.n++
	w.release = context.AfterFunc(ctx, func() { all.remove(w, "") })
	return nil
}

// remove tells a watcher the reason, unless that is empty, and forgets the watcher, once.
func (a *watches) remove(w *watch, reason EndReason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.of[w.key]
	i := slices.Index(of, w)
	if i < 0 {
		return
	}
	w.release()
	if reason != "" {
		go w.ended(reason)
	}
	if len(of) == 1 {
		delete(a.of, w.key)
	} else {
		a.of[w.key] = slices.Delete(of, i, i+1)
	}
	if a.n--; a.n == 0 {
		close(a.none)
	}
}

// snapshot appends the watchers, those of a session together, to list for the goroutine that ends with none. It appends nothing if
// that has ended already: the watchers are another goroutine's.
func (a *watches) snapshot(list []*watch, none <-chan struct{}) []*watch {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.none != none {
		return list
	}
	for _, of := range a.of {
		list = append(list, of...)
	}
	return list
}

func (m *Manager) lookAtWatched(none <-chan struct{}) {
	tick := time.NewTicker(m.watches.every)
	defer tick.Stop()
	var list []*watch
	for {
		select {
		case <-none:
			return
		case <-tick.C:
		}
		list = m.watches.snapshot(list[:0], none)
		m.lookAtAll(list, time.Now().Add(m.watches.every/4))
		clear(list)
	}
}

// lookAtAll looks at all of the watchers, or until reads fail after giveUp. Those whose last read failed come after all others, which a
// part of the store that is away so holds up only until it is known. Among them the latest to fail comes last, so that each has its turn.
func (m *Manager) lookAtAll(list []*watch, giveUp time.Time) {
	slices.SortStableFunc(list, func(a, b *watch) int { return a.failed.Compare(b.failed) })
	readers := 1
	if m.store.Shared() {
		readers = min(watchReaders, len(list))
	}
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() { m.lookAt(list[i*len(list)/readers:(i+1)*len(list)/readers], giveUp) })
	}
	wg.Wait()
}

// lookAt tells those of the watchers whose token opens nothing any more. It reads once for neighbours that watch by the same
// token. It ends with the first read that fails after giveUp: every further one might take as long as the store's timeout.
func (m *Manager) lookAt(list []*watch, giveUp time.Time) {
	var rec Record
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].key == list[0].key && list[n].id == list[0].id {
			n++
		}
		// Others may have begun before a renewal.
		informed := slices.MaxFunc(list[:n], func(a, b *watch) int { return a.expires.Compare(b.expires) })
		reason, over, err := m.reason(informed, &rec)
		var failed time.Time
		if err != nil {
			failed = time.Now()
		}
		for _, w := range list[:n] {
			w.expires, w.failed = informed.expires, failed
			if over {
				m.watches.remove(w, reason)
			}
		}
		if err != nil && !failed.Before(giveUp) {
			return
		}
		list = list[n:]
	}
}

// reason reports whether, and why, the watcher's token opens its session no more. An error means that the store did not tell.
func (m *Manager) reason(w *watch, rec *Record) (reason EndReason, over bool, err error) {
	now := m.Now()
	err = m.load(context.Background(), w.key, w.id, now, rec)
	switch {
	case err == nil:
		w.expires = time.UnixMilli(rec.Expiry())
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrEnded) || errors.Is(err, ErrDamaged):
		return reasonAt(w, now), true, nil
	case errors.Is(err, ErrNewer): // the session lives on a newer node
		return "", false, nil
	default:
		return "", false, err
	}
	switch {
	case !rec.Lives(now) || m.void(rec):
		return reasonAt(w, now), true, nil
	case !rec.Standing(w.id, now).Admitted() || m.tooOld(rec, now):
		return ReasonRotated, true, nil
	}
	return "", false, nil
}

// reasonAt is the reason for a session that is gone at now.
func reasonAt(w *watch, now time.Time) EndReason {
	if now.Before(w.expires) {
		return ReasonEnded
	}
	return ReasonExpired
}
