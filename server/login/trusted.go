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

// DecidesAtOnce is Open's: a key is compared with those in memory.
func (*Trusted) DecidesAtOnce() bool { return true }

// Reload reads the key file again; on an error the keys stay unchanged. A removed key is refused from then on; sessions
// that were begun with it live on.
func (t *Trusted) Reload() error { return t.keys.Reload() }

// Guesses is GuessesKey: a caller without a key must not be able to lock the accounts of those that have one.
func (*Trusted) Guesses() Guesses { return GuessesKey }

// TakesKeys reports whether a caller of the mode presents a key as a Bearer token, with throttling around the mode or without.
func TakesKeys(m Mode) bool {
	t, ok := m.(interface{ TakesKeys() bool })
	return ok && t.TakesKeys()
}

// TakesKeys is true.
func (*Trusted) TakesKeys() bool { return true }

// TakesKeys is that of the mode.
func (t *Throttle) TakesKeys() bool { return TakesKeys(t.mode) }
