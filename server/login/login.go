// Package login decides who may log in. A Mode is one way of deciding: Open, Trusted, Users, Webhook; with Provider an OpenID
// Connect provider decides. Throttle wraps any of them and slows down guessing.
package login

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/coatcheck/coatcheck"
)

// These are the errors of a Mode, beside *Throttled.
var (
	// ErrRefused means that the credentials are refused. The client is told no more than that.
	ErrRefused = errors.New("login refused")
	// ErrUnavailable means that the mode could not decide.
	ErrUnavailable = errors.New("login back end is unavailable")
	// ErrBusy means that too many logins are being checked at this moment; this one was not checked and does not count.
	ErrBusy = errors.New("too many logins are being checked")
)

// Attempt is a login request. Its slices point into the request and are valid during Check only.
type Attempt struct {
	// UserID is the name as the user typed it: 1 to 256 bytes of UTF-8 without control characters.
	UserID string
	// Password is nil if there was none.
	Password []byte
	// Authorization is the value of the request's header of that name, nil if there was none.
	Authorization []byte
	// Body is the request's body, the JSON object as it came, which a webhook gets.
	Body []byte
	// Claims are what is known of the user: those of the body where the mode takes them, else Check sets them.
	Claims coatcheck.ClaimSet
	// ClaimsTooLarge is the error of the body's claims, which refuses the login once the mode has admitted it; nil: none.
	ClaimsTooLarge error
	// Client is where the request comes from, the zero Addr if that is not known.
	Client netip.Addr

	canonical string // what canonicalName has returned; empty: not yet
}

// canonicalName returns the canonical name, which is computed once for an attempt.
func (a *Attempt) canonicalName() string {
	if a.canonical == "" {
		a.canonical = Canonical(a.UserID)
	}
	return a.canonical
}

// tooLong reports whether the name is one that no client may send. It is refused before it is normalised, because a name can
// become eleven times as long by that.
func (a *Attempt) tooLong() bool { return len(a.UserID) > coatcheck.MaxUserID }

// Format keeps the credentials out of every fmt verb, and so out of logs and panics.
func (a Attempt) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("login.Attempt")) }

// Mode decides about attempts. It is safe for concurrent use.
type Mode interface {
	// Check returns the ID of the user that the attempt lets in, and sets the claims that it knows of the user; or ErrRefused,
	// ErrUnavailable, ErrBusy, coatcheck.ErrClaimsTooLarge or a *Throttled.
	Check(ctx context.Context, a *Attempt) (userID string, err error)
	// UserOf returns the user that the attempt is for, before anything is checked, if the mode knows such a user, and else the
	// name that was typed.
	UserOf(a *Attempt) string
	// Traits returns what the server has to know of the mode.
	Traits() Traits
}

// Check asks the mode about the attempt. Before the mode sees it, but not if too many attempts like it have failed, begin is
// called with the user that it is most likely for, which nothing has proved yet; an error of begin ends the check and is
// returned as it is. Without begin it is Mode.Check.
func Check(ctx context.Context, mode Mode, a *Attempt, begin func(user string) error) (userID string, err error) {
	if t, ok := mode.(*Throttle); ok {
		return t.check(ctx, a, begin)
	}
	if err := begin(mode.UserOf(a)); err != nil {
		return "", err
	}
	return mode.Check(ctx, a)
}

// Open believes any user ID, as the recipe does: for development, and for a server that only your own back ends can reach.
type Open struct{}

// Check accepts every attempt.
func (Open) Check(_ context.Context, a *Attempt) (string, error) { return a.UserID, nil }

// UserOf is the name.
func (Open) UserOf(a *Attempt) string { return a.UserID }

// Traits are a decision at once, and a form with a name.
func (Open) Traits() Traits {
	return Traits{Guesses: GuessesNothing, DecidesAtOnce: true, Form: NameForm}
}
