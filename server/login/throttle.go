package login

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Throttled is the error of an attempt that was not checked because too many before it failed. An account that does not
// exist is throttled like any other. It is about logins only: no session is touched.
type Throttled struct {
	// RetryAfter is how long it takes until an attempt is taken again; above zero.
	RetryAfter time.Duration
	// By is what failed too often, "account" or "address": for the audit, not for the client.
	By string
}

// Error tells what is throttled, and not for how long: that is a header's business.
func (t *Throttled) Error() string { return "too many failed logins of this " + t.By }

// Seconds is RetryAfter as the header of that name has it: whole seconds, rounded up.
func (t *Throttled) Seconds() int { return int((t.RetryAfter + time.Second - 1) / time.Second) }

// Guesses says what somebody guesses who tries to get past a mode.
type Guesses int

const (
	// GuessesPassword of an account: a failure counts against the account and against the client's address, and it does
	// so before the check, so that guesses in parallel count too. Whoever is over the limit is not checked.
	GuessesPassword Guesses = iota + 1
	// GuessesKey, which is too long for it: only a failure counts, and only against the client's address. A right key
	// passes even from an address that is locked, because a back end may share it with whoever has none.
	GuessesKey
)

// Guessable is a Mode that says what its secrets are.
type Guessable interface {
	Mode
	Guesses() Guesses
}

// Throttle is a Mode that slows down whoever guesses at another one. Safe for concurrent use.
type Throttle struct {
	mode                Guessable
	accounts, addresses Ledger
	now                 func() time.Time
}

// NewThrottle returns the mode with throttling around it. The ledgers count by account (AccountRule) and by client address
// (AddressRule) and must be two, or keep their buckets apart. Nil now: time.Now.
func NewThrottle(mode Guessable, accounts, addresses Ledger, now func() time.Time) *Throttle {
	if now == nil {
		now = time.Now
	}
	return &Throttle{mode: mode, accounts: accounts, addresses: addresses, now: now}
}

// Check is the mode's, or a *Throttled. A success forgets the account's failures; of the address's it takes back no more
// than what it had counted itself, else one account of his own would let an attacker go on. What was not decided does not
// count.
func (t *Throttle) Check(ctx context.Context, a *Attempt) (string, error) {
	address := addressBucket(a.Client)
	if t.mode.Guesses() == GuessesKey {
		return t.checkKey(ctx, a, address)
	}
	account := accountBucket(t.UserOf(a.UserID)) // all names that are known to be one user's are one account
	// The address first: one that is locked must not count against accounts.
	if err := t.reserve(ctx, t.addresses, address, "address"); err != nil {
		return "", err
	}
	if err := t.reserve(ctx, t.accounts, account, "account"); err != nil {
		if undo := undone(t.addresses.GiveBack(ctx, address)); undo != nil {
			return "", undo
		}
		return "", err
	}
	user, err := t.mode.Check(ctx, a)
	ctx = context.WithoutCancel(ctx)
	switch {
	case err == nil:
		err = undone(errors.Join(t.accounts.Reset(ctx, account), t.addresses.GiveBack(ctx, address)))
	case !errors.Is(err, ErrRefused):
		err = errors.Join(err, undone(errors.Join(t.accounts.GiveBack(ctx, account), t.addresses.GiveBack(ctx, address))))
	}
	if err != nil {
		return "", err
	}
	return user, nil
}

// checkKey counts a refusal when it has happened. That guesses in parallel go uncounted for a moment lets nobody in.
func (t *Throttle) checkKey(ctx context.Context, a *Attempt, address [16]byte) (string, error) {
	user, err := t.mode.Check(ctx, a)
	if !errors.Is(err, ErrRefused) {
		return user, err
	}
	if err := t.reserve(ctx, t.addresses, address, "address"); err != nil {
		return "", err
	}
	return "", err
}

func (t *Throttle) reserve(ctx context.Context, l Ledger, bucket [16]byte, by string) error {
	wait, err := l.Reserve(ctx, bucket, t.now())
	if err != nil {
		return fmt.Errorf("%w: counting the attempt: %w", ErrUnavailable, err)
	}
	if wait > 0 {
		return &Throttled{RetryAfter: wait, By: by}
	}
	return nil
}

func undone(err error) error {
	if err != nil {
		return fmt.Errorf("%w: taking a counted attempt back: %w", ErrUnavailable, err)
	}
	return nil
}

// accountBucket is the digest of the account's canonical name. SHA-256, because who can make two names of one bucket can
// lock an account without failing at it.
func accountBucket(user string) [16]byte {
	return bucketOf("account", []byte(Canonical(user)))
}

// addressBucket is the digest of the address; of an IPv6 address the first 64 bits, which is what one customer gets. An
// unknown address is one like any other.
func addressBucket(addr netip.Addr) [16]byte {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	return bucketOf("address", addr.AsSlice())
}

func bucketOf(kind string, b []byte) [16]byte {
	sum := sha256.Sum256(append([]byte(kind+"\x00"), b...))
	return [16]byte(sum[:16])
}
