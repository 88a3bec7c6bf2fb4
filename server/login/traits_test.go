package login_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// Only a mode whose callers have keys believes claims. A throttle has the traits of its mode, except that it does not decide at once
// if it counts attempts before they are checked.
func TestTraits(t *testing.T) {
	ledger := login.NewMemoryLedger(login.AccountRule())
	for name, tt := range map[string]struct {
		mode login.Mode
		want login.Traits
	}{
		"open":     {login.Open{}, login.Traits{Guesses: login.GuessesNothing, DecidesAtOnce: true, Form: login.NameForm}},
		"trusted":  {&login.Trusted{}, login.Traits{Guesses: login.GuessesKey, DecidesAtOnce: true, TakesClaims: true, TakesKeys: true}},
		"users":    {&login.Users{}, login.Traits{Guesses: login.GuessesPassword, Form: login.PasswordForm}},
		"webhook":  {&login.Webhook{}, login.Traits{Guesses: login.GuessesPassword}},
		"provider": {login.Provider{}, login.Traits{Guesses: login.GuessesNothing, Form: login.ProviderForm}},
	} {
		assert.Equal(t, tt.want, tt.mode.Traits(), name)
		tt.want.DecidesAtOnce = name == "trusted"
		assert.Equal(t, tt.want, around(t, tt.mode, ledger, ledger, nil).Traits(), "%s, throttled", name)
	}
}

// A mode that forgets to say what its secret is would not be throttled.
func TestTraitsUnsaid(t *testing.T) {
	for _, guesses := range []login.Guesses{0, -1, login.GuessesKey + 1} {
		throttle, err := login.NewThrottle(&guessed{what: guesses}, nil, nil, nil)
		require.ErrorContains(t, err, "Guesses", "%d", guesses)
		assert.Nil(t, throttle)
	}
}

// around is throttling around a mode that says what its secret is.
func around(t testing.TB, mode login.Mode, accounts, addresses login.Ledger, now func() time.Time) *login.Throttle {
	t.Helper()
	throttle, err := login.NewThrottle(mode, accounts, addresses, now)
	require.NoError(t, err)
	return throttle
}
