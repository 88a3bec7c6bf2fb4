package linear

import (
	"crypto/rand"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/shardstore"
)

// The histories that clients see of running servers are histories of the contract. COATCHECK_VERIFY_VARIANT selects one variant.
func TestHistories(t *testing.T) {
	t.Parallel()
	each := duration(t) // first: a mistake in it must not wait for nodes
	strict := func(limit int) rules { return rules{grace: grace.Milliseconds(), limit: limit} }
	variants := map[string]func(t *testing.T) variant{
		"memory": func(t *testing.T) variant {
			return variant{nodes: []node{serve(t, shaky(memory(t, shardstore.Options{})), -1)}, rules: strict(0)}
		},
		"memory-limit": func(t *testing.T) variant {
			return variant{nodes: []node{serve(t, shaky(memory(t, shardstore.Options{})), 2)}, rules: strict(2)}
		},
		"memory-disk": func(t *testing.T) variant {
			store := memory(t, shardstore.Options{Dir: t.TempDir(), FsyncEvery: -1, SnapshotBytes: 1 << 16})
			return variant{nodes: []node{serve(t, shaky(store), -1)}, rules: strict(0)}
		},
		"memory-lossy": func(t *testing.T) variant {
			v := variant{nodes: []node{serve(t, losing(shaky(memory(t, shardstore.Options{}))), -1)}, rules: strict(0)}
			v.rules.lossy = true
			return v
		},
		"redis": func(t *testing.T) variant {
			url, prefix := redistest.Start(t).URL(), rand.Text()+":"
			return variant{nodes: []node{serve(t, shaky(onRedis(t, url, prefix, 0)), 3)}, rules: strict(3)}
		},
		"redis-two-nodes": func(t *testing.T) variant {
			url, prefix := redistest.Start(t).URL(), rand.Text()+":"
			return variant{
				nodes: []node{serve(t, shaky(onRedis(t, url, prefix, -1)), -1), serve(t, shaky(onRedis(t, url, prefix, -1)), -1)},
				rules: strict(0),
			}
		},
		"redis-two-caches": func(t *testing.T) variant {
			url, prefix := redistest.Start(t).URL(), rand.Text()+":"
			return variant{
				nodes: []node{serve(t, shaky(onRedis(t, url, prefix, 0)), -1), serve(t, shaky(onRedis(t, url, prefix, 0)), -1)},
				rules: strict(0), healthy: 50 * time.Millisecond, bound: 5 * time.Second,
			}
		},
	}
	if only := os.Getenv("COATCHECK_VERIFY_VARIANT"); only != "" {
		if variants[only] == nil {
			t.Fatalf("there is no variant %q: %s", only, strings.Join(slices.Sorted(maps.Keys(variants)), ", "))
		}
		maps.DeleteFunc(variants, func(name string, _ func(*testing.T) variant) bool { return name != only })
	}
	for name, make := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			make(t).hold(t, each)
		})
	}
}

// A test that fails before its nodes serve ends.
func TestNodeStopsBeforeItServes(t *testing.T) {
	t.Parallel()
	for range 10 {
		if !t.Run("", func(t *testing.T) { serve(t, memory(t, shardstore.Options{}), -1) }) {
			return // the others would wait as long
		}
	}
}

func memory(t *testing.T, opt shardstore.Options) coatcheck.Store {
	t.Helper()
	store, err := shardstore.New(opt)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}

func onRedis(t *testing.T, url, prefix string, cache time.Duration) coatcheck.Store {
	t.Helper()
	store := redistest.Store(t, redisstore.Options{URL: url, Prefix: prefix, CacheTTL: cache})
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}
