package coatcheck

import (
	"errors"
	"fmt"
	"time"
)

// Policy is how long sessions live and how many a user may have. The zero value is the default policy; where zero is a
// sensible setting of its own, a negative value asks for it.
type Policy struct {
	// TTL is how long a session lives after its last request (idle timeout, ASVS 7.3.1). Zero: 30 minutes, or MaxLifetime if
	// that is less.
	TTL time.Duration
	// MaxLifetime is how long a session lives at most (absolute timeout, ASVS 7.3.2). Zero: 12 hours, or TTL if that is more.
	MaxLifetime time.Duration
	// FixedExpiry turns rolling expiry off: a session then ends TTL after it began.
	FixedExpiry bool
	// RenewEvery is how often, at most, a request pushes the idle expiry out, which is a write to the store. Zero: a tenth
	// of TTL. Negative: with every request.
	RenewEvery time.Duration
	// RotationGrace is how long the previous token is still admitted after the token that Rotate made was first presented. Zero:
	// 10 seconds, or half of TTL if that is less. Negative: no grace.
	RotationGrace time.Duration
	// MaxPerUser is how many sessions of one user may live; a login beyond it ends the oldest. Zero: 100. Negative: no limit.
	MaxPerUser int
	// MaxWatchers is how many watchers, see Watch, there may be at a time. Zero: DefaultMaxWatchers. Negative: none.
	MaxWatchers int
	// NotBefore makes sessions that were created before it dead. The zero time: none. Manager.SetNotBefore changes it.
	NotBefore time.Time
	// Admits reports whether a user may still have sessions. It is called at every load, and must neither block nor keep the
	// bytes. Nil: every user may.
	Admits func(userID []byte) bool
	// RevokeOnReuse ends a session whose previous token is presented after it ceased to be admitted.
	RevokeOnReuse bool
	// BoundTTL is how long the token of a session that is bound to a device opens it after the device has last proved its key.
	// A tenth of it, at least a second, is added as a leeway. Zero: 10 minutes.
	BoundTTL time.Duration
	// RetryFor bounds how long a commit retries against concurrent changes before it gives up with ErrConflict. Zero:
	// 500 ms.
	RetryFor time.Duration
	// Now is the clock by which sessions begin, are loaded and end. Nil: time.Now. Stores remove what has expired by clocks of
	// their own: shardstore.Options.Now must be the same, and Redis, which has only its own, drops at once a session that
	// ends in its past.
	Now func() time.Time
}

// These are the defaults of the fields of a Policy.
const (
	DefaultTTL         = 30 * time.Minute
	DefaultMaxLifetime = 12 * time.Hour
	DefaultMaxWatchers = 10_000
)

// minTombstone is the minimum time for which a session that was ended is remembered.
const minTombstone = time.Second

// Validate returns all mistakes of the policy, joined.
func (p Policy) Validate() error {
	p = p.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(p.TTL >= time.Millisecond, "ttl %v: must be at least 1ms", p.TTL)
	check(p.MaxLifetime >= p.TTL, "max-lifetime %v: must not be below ttl %v", p.MaxLifetime, p.TTL)
	if p.TTL > 0 { // nothing is below a negative one, whose mistake is reported above
		check(p.RenewEvery < p.TTL, "renew-every %v: must be below ttl %v", p.RenewEvery, p.TTL)
		check(p.RotationGrace < p.TTL, "rotation-grace %v: must be below ttl %v", p.RotationGrace, p.TTL)
	}
	check(p.BoundTTL >= time.Second, "dbsc-ttl %v: must be at least 1s", p.BoundTTL)
	check(p.RetryFor > 0, "retry time %v: must be positive", p.RetryFor)
	return errors.Join(errs...)
}

func (p Policy) withDefaults() Policy {
	// Defaults are fitted to the fields that were set.
	if p.TTL == 0 {
		p.TTL = DefaultTTL
		if p.MaxLifetime > 0 {
			p.TTL = min(p.TTL, p.MaxLifetime)
		}
	}
	p.MaxLifetime = orDefault(p.MaxLifetime, max(DefaultMaxLifetime, p.TTL))
	// Settings that are turned off stay negative, so that the policy in force, given to another manager, is the same policy.
	p.RenewEvery = max(-1, orDefault(p.RenewEvery, p.TTL/10))
	p.RotationGrace = max(-1, orDefault(p.RotationGrace, min(10*time.Second, p.TTL/2)))
	p.BoundTTL = orDefault(p.BoundTTL, 10*time.Minute)
	p.RetryFor = orDefault(p.RetryFor, 500*time.Millisecond)
	p.MaxPerUser = max(-1, orDefault(p.MaxPerUser, 100))
	p.MaxWatchers = max(-1, orDefault(p.MaxWatchers, DefaultMaxWatchers))
	if p.Now == nil {
		p.Now = time.Now
	}
	return p
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
