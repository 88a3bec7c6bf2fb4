package login_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/server/login"
)

// Only a caller with a key is believed about claims. Behind throttling the traits are the same, but what is counted before it
// is checked does not decide at once.
func TestTraits(t *testing.T) {
	ledger := login.NewMemoryLedger(login.AccountRule())
	for name, tt := range map[string]struct {
		mode login.Mode
		want login.Traits
	}{
		"open":     {login.Open{}, login.Traits{DecidesAtOnce: true, Form: login.NameForm}},
		"trusted":  {&login.Trusted{}, login.Traits{Guesses: login.GuessesKey, DecidesAtOnce: true, TakesClaims: true, TakesKeys: true}},
		"users":    {&login.Users{}, login.Traits{Guesses: login.GuessesPassword, Form: login.PasswordForm}},
		"webhook":  {&login.Webhook{}, login.Traits{Guesses: login.GuessesPassword}},
		"provider": {login.Provider{}, login.Traits{Form: login.ProviderForm}},
	} {
		assert.Equal(t, tt.want, tt.mode.Traits(), name)
		tt.want.DecidesAtOnce = name == "trusted"
		assert.Equal(t, tt.want, login.NewThrottle(tt.mode, ledger, ledger, nil).Traits(), "%s, throttled", name)
	}
}
