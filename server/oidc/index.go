package oidc

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Index knows which sessions began with which session of the provider, so that a logout that the provider reports reaches
// the sessions of every node; and of which logout tokens the work is done. Session and token are digests. The signatures hold standard
// types only, so that a store can have an Index without importing this package. Each method is atomic. Safe for concurrent use.
type Index interface {
	// Ended reports whether the provider's session has ended. It changes nothing.
	Ended(ctx context.Context, session [16]byte, now time.Time) (bool, error)
	// Add notes a session of ours, until it can live no longer, and reports whether the provider's had been ended before. An entry
	// is added when its session has begun: if a login and a logout come at the same time, either the login sees that the session
	// was ended, or the logout sees the entry.
	Add(ctx context.Context, session [16]byte, entry string, now, until time.Time) (ended bool, err error)
	// End notes that the provider's session has ended, until the given time, and returns its entries. They stay, so that a logout
	// whose work failed finds them again.
	End(ctx context.Context, session [16]byte, now, until time.Time) (entries []string, err error)
	// Begin begins an attempt at a logout token's work, unless the work is done already or another attempt is busy with it. The attempt
	// keeps others away for atMost, a millisecond or more: a duration, so that nodes whose clocks differ agree. An attempt has a
	// text of its own, not empty; with the same text Begin can be called again, and the time begins again.
	Begin(ctx context.Context, token [16]byte, attempt string, now time.Time, atMost time.Duration) (done, busy bool, err error)
	// Done notes, until the given time, that the token's work is done.
	Done(ctx context.Context, token [16]byte, attempt string, now, until time.Time) error
	// Forget takes back that this attempt has begun, so that the token can be tried again at once. What is done stays done.
	Forget(ctx context.Context, token [16]byte, attempt string) error
}

// MaxEntries is how many sessions of ours one session of the provider has at most; beyond it the oldest is forgotten.
const MaxEntries = 256

// MemoryIndex is the Index of one node. It forgets what has expired when it is next written to.
type MemoryIndex struct {
	mu       sync.Mutex
	sessions map[[16]byte]*sessionEntries // guarded by mu
	tokens   map[[16]byte]tokenAttempt    // guarded by mu
	swept    time.Time                    // guarded by mu
}

type sessionEntries struct {
	entries    []string
	until      time.Time
	endedUntil time.Time // zero: not ended
}

// tokenAttempt is the last attempt at a token's work.
type tokenAttempt struct {
	name  string
	done  bool
	until time.Time // when it may be forgotten
}

// NewMemoryIndex returns an empty index.
func NewMemoryIndex() *MemoryIndex {
	return &MemoryIndex{sessions: make(map[[16]byte]*sessionEntries), tokens: make(map[[16]byte]tokenAttempt)}
}

// sweepEvery is how often what has expired is looked for.
const sweepEvery = time.Minute

// sweep is called with mu held.
func (m *MemoryIndex) sweep(now time.Time) {
	if since := now.Sub(m.swept); since >= 0 && since < sweepEvery {
		return
	}
	m.swept = now
	for id, s := range m.sessions {
		if !now.Before(s.until) && !now.Before(s.endedUntil) {
			delete(m.sessions, id)
		}
	}
	for id, a := range m.tokens {
		if !now.Before(a.until) {
			delete(m.tokens, id)
		}
	}
}

func (m *MemoryIndex) at(session [16]byte) *sessionEntries {
	s := m.sessions[session]
	if s == nil {
		s = new(sessionEntries)
		m.sessions[session] = s
	}
	return s
}

// Ended implements Index. It returns no error.
func (m *MemoryIndex) Ended(_ context.Context, session [16]byte, now time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[session]
	return s != nil && now.Before(s.endedUntil), nil
}

// Add implements Index. It returns no error.
func (m *MemoryIndex) Add(_ context.Context, session [16]byte, entry string, now, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	s := m.at(session)
	if now.Before(s.endedUntil) {
		return true, nil
	}
	s.entries = append(s.entries, entry)
	if len(s.entries) > MaxEntries {
		s.entries = s.entries[1:]
	}
	if until.After(s.until) {
		s.until = until
	}
	return false, nil
}

// End implements Index. It returns no error.
func (m *MemoryIndex) End(_ context.Context, session [16]byte, now, until time.Time) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	s := m.at(session)
	s.endedUntil = until
	return slices.Clone(s.entries), nil
}

// Begin implements Index. It returns no error.
func (m *MemoryIndex) Begin(
	_ context.Context, token [16]byte, name string, now time.Time, atMost time.Duration,
) (done, busy bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	if a, ok := m.tokens[token]; ok && now.Before(a.until) && (a.done || a.name != name) {
		return a.done, !a.done, nil
	}
	m.tokens[token] = tokenAttempt{name: name, until: now.Add(atMost)}
	return false, false, nil
}

// Done implements Index. It returns no error.
func (m *MemoryIndex) Done(_ context.Context, token [16]byte, name string, _, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[token] = tokenAttempt{name: name, done: true, until: until}
	return nil
}

// Forget implements Index. It returns no error.
func (m *MemoryIndex) Forget(_ context.Context, token [16]byte, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.tokens[token]; a.name == name && !a.done {
		delete(m.tokens, token)
	}
	return nil
}
