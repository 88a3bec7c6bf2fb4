package redisstore_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/storetest"
)

// open returns a store that the test closes itself.
func open(t testing.TB, opt redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(context.Background(), opt)
	require.NoError(t, err)
	return s
}

// conform runs the suite of storetest against stores with these options.
func conform(t *testing.T, opt redisstore.Options) {
	storetest.Run(t, func(t *testing.T) coatcheck.Store { return open(t, opt) })
}

func TestConformance(t *testing.T) {
	server := redistest.Start(t)
	for name, opt := range map[string]redisstore.Options{
		"with a cache":      {},
		"without a cache":   {CacheTTL: -1},
		"with a tiny cache": {CacheSize: 1000},
		"with a prefix":     {Prefix: "ünusual prefix/"},
	} {
		t.Run(name, func(t *testing.T) {
			opt.URL = server.URL()
			conform(t, opt)
		})
	}
}
