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
	return patiently(t, func() (*redisstore.Store, error) { return redisstore.New(t.Context(), opt) })
}

// StoreFor is Store for an application whose own way to open its store is tried once, on a server of its own. The application gives Redis
// half a second, the default, and on a busy machine an answer may take longer.
func StoreFor(t testing.TB, prefix string, open func(url string) (coatcheck.Store, error)) *redisstore.Store {
	t.Helper()
	url := Start(t).URL()
	require.NoError(t, patiently(t, func() (coatcheck.Store, error) { return open(url) }).Close())
	return Store(t, redisstore.Options{URL: url, Prefix: prefix})
}

func patiently[S coatcheck.Store](t testing.TB, open func() (S, error)) S {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		store, err := open()
		if errors.Is(err, coatcheck.ErrUnavailable) && time.Now().Before(end) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		require.NoError(t, err)
		return store
	}
}
