package login

import "context"

// Provider is mode oidc, in which people log in at an OpenID Connect provider. Nobody logs in with a name: Check refuses.
type Provider struct{}

// Check refuses every attempt.
func (Provider) Check(context.Context, *Attempt) (string, error) { return "", ErrRefused }

// UserOf is the name.
func (Provider) UserOf(a *Attempt) string { return a.UserID }

// Traits are the form of a provider.
func (Provider) Traits() Traits { return Traits{Guesses: GuessesNothing, Form: ProviderForm} }
