package coatcheck

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of a Store. Every other error means that the store could not do its work, and is treated as ErrUnavailable.
var (
	// ErrNotFound: no session that lives at the given time stands at the key.
	ErrNotFound = errors.New("session not found")
	// ErrExpired is an ErrNotFound of Load: the session has expired at the given time, and still stands.
	ErrExpired = fmt.Errorf("%w: it has expired", ErrNotFound)
	// ErrEnded: a tombstone stands at the key: the session was ended a moment ago.
	ErrEnded = errors.New("session was ended")
	// ErrConflict: the stored record has another version than the caller's. As the error of a commit: for as long as Policy.RetryFor
	// other requests have changed the session each time before it.
	ErrConflict = errors.New("session was changed by another request")
	// ErrExists: Create met a record or a tombstone at its key. Keys are random, so this is a defect of the caller.
	ErrExists = errors.New("session key is in use")
	// ErrRevoked: all of the user's sessions were ended while this login was on its way.
	ErrRevoked = errors.New("login was revoked")
	// ErrFull: the store holds as many sessions as it may.
	ErrFull = errors.New("session store is full")
	// ErrUnavailable: the store cannot serve now. Nothing may be concluded about any session.
	ErrUnavailable = errors.New("session store is unavailable")
	// ErrNewer: the record was written by a newer release. It is kept as it is.
	ErrNewer = errors.New("session record is of a newer version")
	// ErrTooLarge: a value, or all values together, would not fit a record.
	ErrTooLarge = errors.New("too large for a session")
	// ErrName: a value name is empty, longer than MaxName bytes, or not UTF-8.
	ErrName = errors.New("not a name for a session value")
	// ErrCursor: a cursor of Scan is none that this store has given out.
	ErrCursor = errors.New("not a cursor of this session store")
	// ErrDamaged: the stored bytes are no record of any version. The store has deleted them.
	ErrDamaged = errors.New("session record is damaged")
)

// Mark is what ending all of a user's sessions leaves behind for MarkLife. The zero Mark means that there is none. Marks are
// compared, never ordered.
type Mark uint64

// AnyMark, as CreateOptions.Mark, means that no mark refuses the login: the login begins with Create, so no session can have
// been ended while it was in progress. A login whose credential check takes no time therefore does not need to read a mark.
const AnyMark Mark = 1<<64 - 1

// MarkLife is how long a Mark stands. A login that takes longer is refused.
const MarkLife = 60 * time.Second

// Store keeps records. It is a compare-and-swap register per Key, with an index per user: any implementation in which
// each method is atomic is correct, because merging, rotation and expiry rules live in this package and not in stores.
// Package storetest checks an implementation.
//
// A store never sees a Token. The caller passes the time, so that a test owns the clock; a store must not end a session
// early and must not serve one that is past its expiry, whether or not it has been cleaned up. Times are compared with
// millisecond precision. Every method is safe for concurrent use, returns within the store's own time limit, and keeps
// nothing that the caller passed.
//
// A tombstone is what a session that was ended leaves at its key until a given time: it has no data, and no list or count
// includes it. A store may remove tombstones and marks by its own clock: they only refuse, so removing one late does no harm. A shared
// store must keep a mark for MarkLife by its own clock, because the time of the process that left it may be behind that of a login's.
type Store interface {
	// Load reads the record at key into rec, for a request that presented id. It does not compare id with the record:
	// that is the caller's check. A store with a cache may answer from it only when the cached record lives and admits id
	// at now; every refusal comes from the store itself. The zero ID is admitted by no record, so with it the record is never a
	// cached one. Absent or expired: ErrNotFound. A tombstone: ErrEnded. Bytes that
	// are no record: ErrDamaged, and they are gone. A record of a newer release: ErrNewer, and it stays. A store that keeps an expired
	// session, which would live again if the clock were set back, returns ErrExpired and has read the record into rec: a request that
	// logs out then ends it.
	Load(ctx context.Context, key Key, id ID, now time.Time, rec *Record) error

	// Mark returns the mark that stands for the user, zero if none. A login reads it before it checks credentials.
	Mark(ctx context.Context, user string, now time.Time) (Mark, error)

	// Create adds rec, in one atomic step with everything in opt, and returns how many sessions the limit ended. ErrRevoked: a
	// mark stands that is not opt.Mark, and opt.Mark is not AnyMark. ErrFull: the store may hold no more. ErrExists: the key
	// is taken. An error leaves the store as it was, ErrUnavailable excepted.
	Create(ctx context.Context, rec *Record, opt CreateOptions, now time.Time) (ended int, err error)

	// Swap replaces the stored record by rec if it still has version old. ErrConflict: it has another one, and the stored
	// record was read into cur. ErrNotFound: no session lives there at now (a tombstone included); Swap never creates.
	// The record's user and creation time never change.
	Swap(ctx context.Context, rec *Record, old uint64, now time.Time, cur *Record) error

	// End puts a tombstone in the place of the session at key until the given time, and reads the ended record into last. The
	// user must be the record's, empty for none; with another one End returns an error and ends nothing. ErrNotFound: no session
	// lives there at now; if one of the user has expired, it is removed, so that a clock that is set back does not revive it.
	End(ctx context.Context, key Key, user string, now, until time.Time, last *Record) error

	// List calls yield for each of the user's sessions that live at now, in no order, until yield returns false. The
	// record is the store's and is valid during the call only. No lock of the store is held while yield runs. Records that
	// it cannot read are left out.
	List(ctx context.Context, user string, now time.Time, yield func(*Record) bool) error

	// Scan visits the sessions of all users, and those without one, a part of them with each call: it calls yield for up to
	// limit (at least 1) sessions that live at now, possibly for none, and returns the cursor of the next part, which is empty
	// after the last one. The first call has an empty cursor. A session that lives during the whole scan is shown at least
	// once, whatever begins and ends meanwhile; how far that holds for one that is changed meanwhile, the store says. There is
	// no order. The record is valid during the call of yield only, and no lock is held while it runs. Records that the store
	// cannot read are left out. ErrCursor: the cursor is not one of this store.
	Scan(ctx context.Context, cursor string, limit int, now time.Time, yield func(*Record)) (next string, err error)

	// EndUser ends every session of the user except the one at keep, leaves tombstones until the given time and, if mark is
	// set, a new Mark, and returns how many live sessions it ended. It removes those that have expired, as End does. A zero keep
	// spares none. When keep is not zero and no session of the user lives there at now, it does nothing and returns ErrNotFound.
	EndUser(ctx context.Context, user string, keep Key, mark bool, now, until time.Time) (ended int, err error)

	// Shared reports whether other processes with a store of the same settings see the same sessions.
	Shared() bool

	// Ping reports whether the store can serve.
	Ping(ctx context.Context) error

	// Close stops what the store started. It is idempotent. Using the store afterwards returns ErrUnavailable.
	Close() error
}

// CreateOptions is what happens in the same step as Create.
type CreateOptions struct {
	// Mark is what Store.Mark returned before the login's credential check, or AnyMark. Ignored for a record without a user.
	Mark Mark
	// Limit is how many sessions the user may have that live now, the new one included. Beyond it the oldest of the others
	// (created first, then the smallest key) end. Zero or less is no limit. Ignored for a record without a user.
	Limit int
	// Replace is a session of the same user that ends in this step, before the limit is counted. Zero is none. If it does
	// not live any more, or is not that user's, Create goes on without it. Ignored for a record without a user.
	Replace Key
	// Replaced receives what Replace ended; its Version is 0 when nothing did. Needed only with Replace.
	Replaced *Record
	// Until is when the tombstones of the sessions that this step ends expire.
	Until time.Time
}
