package redistest

import (
	"cmp"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
)

// Store opens a store for a test that is not about time: its Timeout is the longest if opt has none, and on a busy machine, where
// a server may take longer to greet a connection than redisstore.New waits, it tries again. The test closes the store.
func Store(t testing.TB, opt redisstore.Options) *redisstore.Store {
	t.Helper()
	opt.Timeout = cmp.Or(opt.Timeout, 3*time.Second)
	for end := time.Now().Add(time.Minute); ; {
		store, err := redisstore.New(t.Context(), opt)
		if errors.Is(err, coatcheck.ErrUnavailable) && time.Now().Before(end) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		require.NoError(t, err)
		return store
	}
}
