package daemon

import (
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/login/ledgertest"
)

// The store does not know of logins, and the logins do not know of Redis; this test has both.
func TestRedisLedger(t *testing.T) {
	redis := redistest.Start(t)
	store := redistest.Store(t, redisstore.Options{URL: redis.URL()})
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	ledgertest.Run(t, func(_ *testing.T, rule login.Rule) login.Ledger {
		return store.Ledger(rand.Text(), rule.Forget, rule.Delays)
	})
}
