package coatcheck_test

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// tester is what *testing.T, *testing.B and *rapid.T have in common.
type tester interface {
	require.TestingT
	Helper()
}

// clock is a clock that a test moves.
type clock struct{ ns atomic.Int64 }

func (c *clock) Now() time.Time       { return time.Unix(0, c.ns.Load()) }
func (c *clock) Step(d time.Duration) { c.ns.Add(int64(d)) }

// These are the names of the store's operations, as hooks get them.
const (
	opLoad   = "load"
	opMark   = "mark"
	opCreate = "create"
	opSwap   = "swap"
	opEnd    = "end"
	opList   = "list"
	opScan   = "scan"
	opAll    = "enduser"
)

// hookStore lets a test look at, delay or fail the operations of the store under it. An error from before means that the
// operation did not happen; an error from after means that it did and the answer was lost.
type hookStore struct {
	coatcheck.Store
	before, after func(ctx context.Context, op string) error

	mu    sync.Mutex
	calls []string // guarded by mu
}

func (h *hookStore) enter(ctx context.Context, op string) error {
	h.mu.Lock()
	h.calls = append(h.calls, op)
	before := h.before
	h.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, op)
}

func (h *hookStore) leave(ctx context.Context, op string, err error) error {
	if h.after == nil {
		return err
	}
	if lost := h.after(ctx, op); lost != nil {
		return lost
	}
	return err
}

// ops returns and forgets the operations so far.
func (h *hookStore) ops() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

// once runs f before the next operation of that name, and only that one.
func (h *hookStore) once(op string, f func()) {
	h.before = func(_ context.Context, got string) error {
		if got == op {
			h.before = nil
			f()
		}
		return nil
	}
}

func (h *hookStore) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if err := h.enter(ctx, opLoad); err != nil {
		return err
	}
	return h.leave(ctx, opLoad, h.Store.Load(ctx, key, id, now, rec))
}

func (h *hookStore) Mark(ctx context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	if err := h.enter(ctx, opMark); err != nil {
		return 0, err
	}
	mark, err := h.Store.Mark(ctx, user, now)
	return mark, h.leave(ctx, opMark, err)
}

func (h *hookStore) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	if err := h.enter(ctx, opCreate); err != nil {
		return 0, err
	}
	n, err := h.Store.Create(ctx, rec, opt, now)
	return n, h.leave(ctx, opCreate, err)
}

func (h *hookStore) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	if err := h.enter(ctx, opSwap); err != nil {
		return err
	}
	return h.leave(ctx, opSwap, h.Store.Swap(ctx, rec, old, now, cur))
}

func (h *hookStore) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	if err := h.enter(ctx, opEnd); err != nil {
		return err
	}
	return h.leave(ctx, opEnd, h.Store.End(ctx, key, user, now, until, last))
}

func (h *hookStore) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	if err := h.enter(ctx, opList); err != nil {
		return err
	}
	return h.leave(ctx, opList, h.Store.List(ctx, user, now, yield))
}

func (h *hookStore) Scan(ctx context.Context, cursor string, limit int, now time.Time, yield func(*coatcheck.Record)) (string, error) {
	if err := h.enter(ctx, opScan); err != nil {
		return "", err
	}
	next, err := h.Store.Scan(ctx, cursor, limit, now, yield)
	return next, h.leave(ctx, opScan, err)
}

func (h *hookStore) EndUser(ctx context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	if err := h.enter(ctx, opAll); err != nil {
		return 0, err
	}
	n, err := h.Store.EndUser(ctx, user, keep, mark, now, until)
	return n, h.leave(ctx, opAll, err)
}

// world is a manager on a map store with a clock, and makes a test's requests.
type world struct {
	t     tester
	clock *clock
	data  *mapStore
	store *hookStore
	m     *coatcheck.Manager
}

const (
	ttl     = 30 * time.Minute
	maxLife = 12 * time.Hour
	renew   = 3 * time.Minute
	grace   = 10 * time.Second
)

// newWorld returns a world with the default policy, changed by adjust. RetryFor is long enough for every test, because
// retries are bounded by real time.
func newWorld(t tester, adjust ...func(*coatcheck.Policy)) *world {
	t.Helper()
	w := &world{t: t, clock: new(clock), data: newMapStore()}
	w.clock.ns.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	w.store = &hookStore{Store: w.data}
	policy := coatcheck.Policy{Now: w.clock.Now, RetryFor: time.Minute}
	for _, f := range adjust {
		f(&policy)
	}
	var err error
	w.m, err = coatcheck.NewManager(w.store, policy)
	require.NoError(t, err)
	return w
}

// open begins a request with these values of the cookie.
func (w *world) open(cookies ...string) *coatcheck.Request {
	w.t.Helper()
	return w.openCtx(context.Background(), cookies...)
}

func (w *world) openCtx(ctx context.Context, cookies ...string) *coatcheck.Request {
	w.t.Helper()
	s := new(coatcheck.Request)
	require.NoError(w.t, w.m.Open(ctx, s, presented(cookies...), coatcheck.Client{}, w.clock.Now()))
	return s
}

func presented(cookies ...string) *coatcheck.Presented {
	p := new(coatcheck.Presented)
	for _, c := range cookies {
		p.Add([]byte(c))
	}
	return p
}

// answer is what a response does to the cookie.
type answer struct {
	cookie coatcheck.CookieAction
	token  string // with Set
}

// finish ends a request that must succeed.
func (w *world) finish(s *coatcheck.Request) answer {
	w.t.Helper()
	require.NoError(w.t, s.Finish(context.Background()))
	return w.answer(s)
}

func (w *world) answer(s *coatcheck.Request) answer {
	require.True(w.t, s.Eventful() || reflect.ValueOf(*s.Report()).IsZero(), "a report that says something, and nobody would read it")
	a := answer{cookie: s.Cookie()}
	if a.cookie == coatcheck.SetCookie {
		token, _ := s.Token(w.clock.Now())
		a.token = string(token.AppendSecretText(nil))
	}
	return a
}

// do is a whole request: open, the handler, finish.
func (w *world) do(cookie string, handler func(*coatcheck.Session)) answer {
	w.t.Helper()
	var cookies []string
	if cookie != "" {
		cookies = append(cookies, cookie)
	}
	s := w.open(cookies...)
	handler(s.Lend())
	a := w.finish(s)
	s.Release()
	return a
}

// login begins a session of user from nothing and returns its token.
func (w *world) login(user string) string {
	w.t.Helper()
	a := w.do("", func(s *coatcheck.Session) { require.NoError(w.t, s.Authenticate(user)) })
	require.Equal(w.t, coatcheck.SetCookie, a.cookie)
	return a.token
}

// begin begins an anonymous session with one value and returns its token.
func (w *world) begin(name string, value any) string {
	w.t.Helper()
	a := w.do("", func(s *coatcheck.Session) { require.NoError(w.t, s.Insert(name, value)) })
	require.Equal(w.t, coatcheck.SetCookie, a.cookie)
	return a.token
}

// refresh is what the refresh route does.
func (w *world) refresh(cookie string) answer {
	w.t.Helper()
	return w.do(cookie, func(s *coatcheck.Session) { refreshIn(w.t, s) })
}

func refreshIn(t tester, s *coatcheck.Session) {
	t.Helper()
	if s.UserID() == "" {
		return
	}
	s.Rotate()
	require.NoError(t, s.Insert("refreshed", true))
}

func (w *world) logout(cookie string) {
	w.t.Helper()
	a := w.do(cookie, (*coatcheck.Session).Destroy)
	require.Equal(w.t, coatcheck.ClearCookie, a.cookie)
}

// user returns the user whose session the cookie opens, empty for none. It only reads: the request is not finished, so no
// use of the token is recorded.
func (w *world) user(cookie string) string {
	w.t.Helper()
	return w.open(cookie).UserID()
}

// key returns the key of a token.
func key(t tester, token string) coatcheck.Key {
	t.Helper()
	tok, ok := coatcheck.ParseToken([]byte(token))
	require.True(t, ok)
	return tok.Key()
}

// value returns the JSON of a value in the record that the cookie opens, "" for none.
func (w *world) value(cookie, name string) string {
	w.t.Helper()
	raw, _ := w.open(cookie).Raw(name)
	return string(raw)
}

// record returns the stored record at a token's key.
func (w *world) record(token string) *coatcheck.Record {
	w.t.Helper()
	rec, k := new(coatcheck.Record), key(w.t, token)
	require.NoError(w.t, rec.Read(k, w.data.raw(k)))
	return rec
}

// jar is a browser's cookie store: it holds one cookie and applies answers.
type jar string

func (j *jar) apply(answers ...answer) {
	for _, a := range answers {
		switch a.cookie {
		case coatcheck.SetCookie:
			*j = jar(a.token)
		case coatcheck.ClearCookie:
			*j = ""
		case coatcheck.KeepCookie:
		}
	}
}

// orders yields every permutation of the numbers 0 to n-1.
func orders(n int, yield func([]int)) {
	order := make([]int, 0, n)
	var extend func()
	extend = func() {
		if len(order) == n {
			yield(slices.Clone(order))
			return
		}
		for i := range n {
			if !slices.Contains(order, i) {
				order = append(order, i)
				extend()
				order = order[:len(order)-1]
			}
		}
	}
	extend()
}
