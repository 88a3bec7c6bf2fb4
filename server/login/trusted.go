package login

import "context"

// Trusted believes the user ID of a caller that presents one of the keys: your own back end, which has verified the person.
type Trusted struct{ keys *Keys }

// NewTrusted returns the mode with the keys of the file, or all that is wrong with the file; see LoadKeys.
func NewTrusted(keyFile string) (*Trusted, error) {
	keys, err := LoadKeys(keyFile)
	if err != nil {
		return nil, err
	}
	return &Trusted{keys: keys}, nil
}

// Check lets whoever the caller names in, or returns ErrRefused to a caller without a key.
func (t *Trusted) Check(_ context.Context, a *Attempt) (string, error) {
	if !t.keys.Match(a.Authorization) {
		return "", ErrRefused
	}
	return a.UserID, nil
}

// Reload reads the key file again; on an error the keys stay what they were. A key that is gone lets nobody in any more;
// sessions that it began live on.
func (t *Trusted) Reload() error { return t.keys.Reload() }

// Guesses is GuessesKey: a caller without a key must not be able to lock the accounts of those that have one.
func (*Trusted) Guesses() Guesses { return GuessesKey }
