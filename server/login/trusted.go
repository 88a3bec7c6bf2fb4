package login

import "context"

// Trusted believes the user ID of a caller that presents one of the keys: your own back end, which has authenticated the
// user.
type Trusted struct{ keys *Keys }

// NewTrusted returns the mode with the keys of the file, or an error with all mistakes of the file; see LoadKeys.
func NewTrusted(keyFile string) (*Trusted, error) {
	keys, err := LoadKeys(keyFile)
	if err != nil {
		return nil, err
	}
	return &Trusted{keys: keys}, nil
}

// Check returns the user ID that a caller with a key sends, and ErrRefused for a caller without one.
func (t *Trusted) Check(_ context.Context, a *Attempt) (string, error) {
	if !t.keys.Match(a.Authorization) {
		return "", ErrRefused
	}
	return a.UserID, nil
}

// UserOf is the name.
func (*Trusted) UserOf(a *Attempt) string { return a.UserID }

// Traits say that the secret is a key, because a caller without one must not be able to lock the accounts of those that have
// one; that it is compared at once with those in memory; and that whoever has one is believed about claims.
func (*Trusted) Traits() Traits {
	return Traits{Guesses: GuessesKey, DecidesAtOnce: true, TakesClaims: true, TakesKeys: true}
}

// Reload reads the key file again; on an error the keys stay unchanged. A removed key is refused from then on; sessions
// that were begun with it live on.
func (t *Trusted) Reload() error { return t.keys.Reload() }
