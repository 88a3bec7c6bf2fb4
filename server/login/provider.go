package login

import "context"

// Provider is mode oidc, in which people log in at an OpenID Connect provider. Nobody logs in with a name: Check refuses.
type Provider struct{}

// Check refuses every attempt.
func (Provider) Check(context.Context, *Attempt) (string, error) { return "", ErrRefused }

// Form is ProviderForm.
func (Provider) Form() Form { return ProviderForm }
