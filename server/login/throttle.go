package login

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/coatcheck/coatcheck/internal/clientnet"
)

// Throttled is the error of an attempt that was not checked because too many earlier ones failed. An account that does not
// exist is throttled like any other. Only logins are throttled: existing sessions are unaffected.
type Throttled struct {
	// RetryAfter is how long it takes until an attempt is accepted again; it is above zero.
	RetryAfter time.Duration
	// By is what failed too often, "account" or "address": for the audit log, not for the client.
	By string
}

// Error tells what is throttled, but not for how long, which the Retry-After header tells.
func (t *Throttled) Error() string { return "too many failed logins of this " + t.By }

// Seconds is RetryAfter as the header of that name has it: whole seconds, rounded up.
func (t *Throttled) Seconds() int { return int((t.RetryAfter + time.Second - 1) / time.Second) }

// Throttle is a Mode that slows down guessing at another one. It is safe for concurrent use.
type Throttle struct {
	mode                Mode
	accounts, addresses Ledger
	uncounted           *MemoryLedger // by address: attempts that were refused without counting against it
	now                 func() time.Time
}

// An attempt that is refused because of its account counts against no address, but its name was normalised, which takes up to 0.3 ms. So
// each server looks at this many names of one address, and then at ten a second: more than one who retries a locked account sends.
const (
	uncountedFree   = 128
	uncountedForget = 100 * time.Millisecond
	uncountedPause  = time.Second
)

func uncountedRule() Rule {
	delays := make([]time.Duration, uncountedFree)
	delays[uncountedFree-1] = uncountedPause
	return Rule{Forget: uncountedForget, Delays: delays}
}

// NewThrottle returns the mode with throttling around it. The ledgers count by account (AccountRule) and by client address
// (AddressRule) and must be two ledgers, or keep their buckets apart. A nil now is time.Now. It is an error if the mode's Traits do not say
// which secret there is to guess.
func NewThrottle(mode Mode, accounts, addresses Ledger, now func() time.Time) (*Throttle, error) {
	if err := mode.Traits().Validate(); err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	return &Throttle{mode: mode, accounts: accounts, addresses: addresses, uncounted: NewMemoryLedger(uncountedRule()), now: now}, nil
}

// UserOf is that of the mode.
func (t *Throttle) UserOf(a *Attempt) string { return t.mode.UserOf(a) }

// Traits are those of the mode. Only around a mode with keys nothing is counted before its Check, so that it decides at once.
func (t *Throttle) Traits() Traits {
	traits := t.mode.Traits()
	traits.DecidesAtOnce = traits.DecidesAtOnce && traits.Guesses == GuessesKey
	return traits
}

// Check returns what the mode's Check does, or a *Throttled. A success resets the account's failures, but of the address's
// failures it takes back only the one that it had counted itself, because otherwise an attacker with one account could go
// on guessing; likewise of the failures of all names that look alike, because the account of one must not pay for guesses at
// another's. Attempts that were not decided do not count: a back end that is down locks nobody out. What they cost the mode bounds.
func (t *Throttle) Check(ctx context.Context, a *Attempt) (string, error) {
	return t.check(ctx, a, func(string) error { return nil })
}

func (t *Throttle) check(ctx context.Context, a *Attempt, begin func(user string) error) (string, error) {
	if t.mode.Traits().Guesses == GuessesKey {
		return t.checkKey(ctx, a, begin)
	}
	if a.tooLong() {
		return "", ErrRefused
	}
	// The address comes first: attempts from a locked address must not count against accounts, and nothing is computed for them.
	address := count{t.addresses, addressBucket(a.Client), "address"}
	if err := t.wait(ctx, address); err != nil {
		return "", err
	}
	uncounted := count{t.uncounted, address.bucket, "address"}
	if err := t.reserve(ctx, uncounted); err != nil {
		return "", err
	}
	user, err := t.checkPassword(ctx, a, address, begin)
	if _, throttled := errors.AsType[*Throttled](err); !throttled {
		_ = uncounted.giveBack(ctx) // a ledger in memory returns no error
	}
	return user, err
}

// checkPassword is check for a password that is tried from an address that need not wait.
func (t *Throttle) checkPassword(ctx context.Context, a *Attempt, address count, begin func(user string) error) (string, error) {
	user := t.mode.UserOf(a)
	alike := count{t.addresses, lookalikeBucket(a.canonicalName()), "account"}
	account := count{t.accounts, t.accountBucket(a, user), "account"} // all names that are known to belong to one user are one account
	// An attempt whose account has to wait is not counted, so that nothing bounds how many there are: it must write nothing. Whether
	// another attempt may be checked is decided by the counting, which is exact.
	for _, c := range []count{alike, account} {
		if err := t.wait(ctx, c); err != nil {
			return "", err
		}
	}
	if err := t.reserve(ctx, address); err != nil {
		return "", err
	}
	if err := t.reserve(ctx, alike); err != nil {
		return "", instead(err, address.giveBack(ctx))
	}
	if err := t.reserve(ctx, account); err != nil {
		return "", instead(err, address.giveBack(ctx), alike.giveBack(ctx))
	}
	user, err := t.ask(ctx, a, user, begin)
	ctx = context.WithoutCancel(ctx)
	switch {
	case err == nil:
		err = undone(t.accounts.Reset(ctx, account.bucket), alike.giveBack(ctx), address.giveBack(ctx))
	case !errors.Is(err, ErrRefused):
		err = errors.Join(err, undone(account.giveBack(ctx), alike.giveBack(ctx), address.giveBack(ctx)))
	}
	if err != nil {
		return "", err
	}
	return user, nil
}

// ask lets the login begin and asks the mode.
func (t *Throttle) ask(ctx context.Context, a *Attempt, user string, begin func(string) error) (string, error) {
	if err := begin(user); err != nil {
		return "", err
	}
	return t.mode.Check(ctx, a)
}

// checkKey counts a refusal after it has happened. Parallel guesses go uncounted for a moment, which is harmless because a
// key cannot be guessed.
func (t *Throttle) checkKey(ctx context.Context, a *Attempt, begin func(string) error) (string, error) {
	user, err := t.ask(ctx, a, a.UserID, begin)
	if !errors.Is(err, ErrRefused) {
		return user, err
	}
	if err := t.reserve(ctx, count{t.addresses, addressBucket(a.Client), "address"}); err != nil {
		return "", err
	}
	return "", err
}

// count is a bucket of a ledger, and what failed too often when it is full.
type count struct {
	ledger Ledger
	bucket [16]byte
	by     string
}

func (c count) giveBack(ctx context.Context) error { return c.ledger.GiveBack(ctx, c.bucket) }

// wait is reserve without the counting.
func (t *Throttle) wait(ctx context.Context, c count) error {
	wait, err := c.ledger.Wait(ctx, c.bucket, t.now())
	return c.throttled(wait, err)
}

func (t *Throttle) reserve(ctx context.Context, c count) error {
	wait, err := c.ledger.Reserve(ctx, c.bucket, t.now())
	return c.throttled(wait, err)
}

// throttled returns the error of an attempt that the ledger has answered so.
func (c count) throttled(wait time.Duration, err error) error {
	if err != nil {
		return fmt.Errorf("%w: counting the attempt: %w", ErrUnavailable, err)
	}
	if wait > 0 {
		return &Throttled{RetryAfter: wait, By: c.by}
	}
	return nil
}

// undone returns the error for attempts that could not be taken back.
func undone(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: taking a counted attempt back: %w", ErrUnavailable, err)
	}
	return nil
}

// instead returns err, unless attempts could not be taken back.
func instead(err error, undo ...error) error {
	if undo := undone(undo...); undo != nil {
		return undo
	}
	return err
}

// accountBucket is the bucket of the attempt's account.
func (t *Throttle) accountBucket(a *Attempt, user string) [16]byte {
	if user == a.UserID {
		return canonicalBucket(a.canonicalName())
	}
	return accountBucket(user)
}

// accountBucket is the digest of the account's canonical name. It uses SHA-256, because an attacker who found two names
// with one bucket could lock an account without a failed login for it.
func accountBucket(user string) [16]byte { return canonicalBucket(Canonical(user)) }

func canonicalBucket(canonical string) [16]byte { return bucketOf("account", []byte(canonical)) }

// lookalikeBucket is the bucket of all names that a back end may take for one: some ignore accents, and characters of no
// width. It is a bucket of the ledger that forgets quickly, because no success resets it.
func lookalikeBucket(canonical string) [16]byte {
	return bucketOf("alike", []byte(skeleton(canonical)))
}

// addressBucket is the digest of the client's address or network. An unknown address counts as one client.
func addressBucket(addr netip.Addr) [16]byte {
	return bucketOf("address", clientnet.Of(addr).AsSlice())
}

func bucketOf(kind string, b []byte) [16]byte {
	sum := sha256.Sum256(append([]byte(kind+"\x00"), b...))
	return [16]byte(sum[:16])
}
