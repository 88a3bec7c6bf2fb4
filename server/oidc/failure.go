package oidc

import (
	"errors"
	"fmt"
)

// Failure is why a login, or a logout by the provider, failed. Its kind decides the answer; the Detail is for the log, and holds
// nothing that the provider sent but numbers and names of this package.
type Failure struct {
	Kind   Kind
	Detail string
}

// Kind is one of the ways in which a login fails.
type Kind int

// The request is wrong: this server has sent no browser to make it.
const (
	BadCallback Kind = iota + 1 // its parameters are not those of OpenID Connect
	BadState                    // this browser has begun no such login, or too long ago
	BadIssuer                   // it is the answer of another provider
	BadCode                     // the provider does not take the code
	// The person is not let in.
	Denied      // by the provider
	NotAllowed  // by --oidc-allow
	NotVerified // the e-mail address that identifies the person is not verified, or the claim is missing
	// The provider's answer is not allowed.
	BadAnswer
	BadToken
	BadUserInfo
	// Unavailable: the provider could not be reached, or could not answer.
	Unavailable
	// BadLogout: a logout token is wrong.
	BadLogout
)

// Error returns the Detail.
func (f *Failure) Error() string { return f.Detail }

func failf(kind Kind, format string, args ...any) error {
	return &Failure{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

func asFailure(err error) (*Failure, bool) {
	f := new(Failure)
	ok := errors.As(err, &f)
	return f, ok
}
