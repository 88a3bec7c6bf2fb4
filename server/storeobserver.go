package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Operation is a method of the store.
type Operation int

// The operations of a store.
const (
	OpLoad Operation = iota
	OpMark
	OpCreate
	OpSwap
	OpEnd
	OpList
	OpScan
	OpEndUser
	OpPing
	operations
)

var operationNames = [operations]string{"load", "mark", "create", "swap", "end", "list", "scan", "end_user", "ping"}

// String returns the operation's name as metrics and traces have it.
func (op Operation) String() string { return operationNames[op] }

// StoreObserver learns of each operation of a store. Its methods are called by several goroutines.
type StoreObserver interface {
	// Begin is called before an operation, and returns the context that the operation gets.
	Begin(ctx context.Context, op Operation) context.Context
	// Done is called when the operation has returned, with the context that Begin returned, when it began, and its error.
	Done(ctx context.Context, op Operation, began time.Time, err error)
}

// ObserveStore returns the store with all of its operations observed.
func ObserveStore(store coatcheck.Store, o StoreObserver) coatcheck.Store {
	return &observedLoads{observedStore{Store: store, observer: o}}
}

// observedStore is a store whose operations are observed, except Load, which every request calls.
type observedStore struct {
	coatcheck.Store
	observer StoreObserver
}

// observedLoads is a store whose Load is observed, too.
type observedLoads struct{ observedStore }

// answers are the errors that are answers of a store and not its failures.
var answers = []error{
	coatcheck.ErrNotFound, coatcheck.ErrEnded, coatcheck.ErrConflict, coatcheck.ErrRevoked, coatcheck.ErrFull, coatcheck.ErrDamaged,
	coatcheck.ErrCursor,
}

// StoreFailed reports whether an error of a store's operation means that the store failed. An answer, such as that there is
// no such session, is no failure, and neither is nil.
func StoreFailed(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, coatcheck.ErrUnavailable) { // some stores join it with an answer
		return true
	}
	return !slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) })
}

// begin returns the context that an operation gets, and the time.
func (s *observedStore) begin(ctx context.Context, op Operation) (context.Context, time.Time) {
	return s.observer.Begin(ctx, op), time.Now()
}

// Load implements coatcheck.Store.
func (s *observedLoads) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	ctx, began := s.begin(ctx, OpLoad)
	err := s.Store.Load(ctx, key, id, now, rec)
	s.observer.Done(ctx, OpLoad, began, err)
	return err
}

// Mark implements coatcheck.Store.
func (s *observedStore) Mark(ctx context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	ctx, began := s.begin(ctx, OpMark)
	mark, err := s.Store.Mark(ctx, user, now)
	s.observer.Done(ctx, OpMark, began, err)
	return mark, err
}

// Create implements coatcheck.Store.
func (s *observedStore) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	ctx, began := s.begin(ctx, OpCreate)
	ended, err := s.Store.Create(ctx, rec, opt, now)
	s.observer.Done(ctx, OpCreate, began, err)
	return ended, err
}

// Swap implements coatcheck.Store.
func (s *observedStore) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	ctx, began := s.begin(ctx, OpSwap)
	err := s.Store.Swap(ctx, rec, old, now, cur)
	s.observer.Done(ctx, OpSwap, began, err)
	return err
}

// End implements coatcheck.Store.
func (s *observedStore) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	ctx, began := s.begin(ctx, OpEnd)
	err := s.Store.End(ctx, key, user, now, until, last)
	s.observer.Done(ctx, OpEnd, began, err)
	return err
}

// List implements coatcheck.Store.
func (s *observedStore) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	ctx, began := s.begin(ctx, OpList)
	err := s.Store.List(ctx, user, now, yield)
	s.observer.Done(ctx, OpList, began, err)
	return err
}

// Scan implements coatcheck.Store.
func (s *observedStore) Scan(ctx context.Context, cursor string, limit int, now time.Time, yield func(*coatcheck.Record)) (string, error) {
	ctx, began := s.begin(ctx, OpScan)
	next, err := s.Store.Scan(ctx, cursor, limit, now, yield)
	s.observer.Done(ctx, OpScan, began, err)
	return next, err
}

// EndUser implements coatcheck.Store.
func (s *observedStore) EndUser(ctx context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	ctx, began := s.begin(ctx, OpEndUser)
	ended, err := s.Store.EndUser(ctx, user, keep, mark, now, until)
	s.observer.Done(ctx, OpEndUser, began, err)
	return ended, err
}

// Ping implements coatcheck.Store.
func (s *observedStore) Ping(ctx context.Context) error {
	ctx, began := s.begin(ctx, OpPing)
	err := s.Store.Ping(ctx)
	s.observer.Done(ctx, OpPing, began, err)
	return err
}
