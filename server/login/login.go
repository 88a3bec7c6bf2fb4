// Package login decides who may log in. A Mode is one way of deciding: Open, Trusted, Users, Webhook. Throttle slows down
// those who guess, around any of them.
package login

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Errors of a Mode. There is one more, *Throttled.
var (
	// ErrRefused: these credentials let nobody in. The client is told no more than that.
	ErrRefused = errors.New("login refused")
	// ErrUnavailable: the mode could not decide.
	ErrUnavailable = errors.New("login back end is unavailable")
	// ErrBusy: too many logins are being checked at this moment; this one was not checked and does not count.
	ErrBusy = errors.New("too many logins are being checked")
)

// Attempt is what a login request brought. Its slices are the request's and are valid during Check only.
type Attempt struct {
	// UserID as the client typed it: 1 to 256 bytes of UTF-8 without control characters.
	UserID string
	// Password, nil if there was none.
	Password []byte
	// Authorization is the value of the request's header of that name, nil if there was none.
	Authorization []byte
	// Body is the request's body, the JSON object as it came: what a webhook is shown.
	Body []byte
	// Client is where the request comes from, the zero Addr if that is not known.
	Client netip.Addr
}

// Format keeps the credentials out of every fmt verb, and so out of logs and panics.
func (a Attempt) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("login.Attempt")) }

// Mode decides about attempts. It is safe for concurrent use.
type Mode interface {
	// Check returns the ID of the user that the attempt lets in, ErrRefused, ErrUnavailable, ErrBusy or a *Throttled.
	Check(ctx context.Context, a *Attempt) (userID string, err error)
}

// Open believes any user ID, as the recipe does: for development, and for a server that nobody but its own back ends can
// reach.
type Open struct{}

// Check lets everybody in.
func (Open) Check(_ context.Context, a *Attempt) (string, error) { return a.UserID, nil }
