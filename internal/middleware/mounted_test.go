package middleware

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/shardstore"
)

// A middleware within another one of its cookie does nothing only if it would do the same; else it says so.
func TestMounted(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	admits := func([]byte) bool { return true }
	since := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return time.UnixMilli(1) }
	for name, c := range map[string]struct {
		outer, inner Config
		refused      bool
	}{
		"two of the defaults":     {},
		"equal ones":              {outer: Config{Policy: coatcheck.Policy{TTL: time.Hour}, DBSC: "/d"}, inner: Config{Policy: coatcheck.Policy{TTL: time.Hour}, DBSC: "/d"}},
		"a default and its value": {inner: Config{Policy: coatcheck.Policy{TTL: coatcheck.DefaultTTL}, Cookie: cookie.Config{Path: "/"}}},
		"one time in two zones": {
			outer: Config{Policy: coatcheck.Policy{NotBefore: since}}, inner: Config{Policy: coatcheck.Policy{NotBefore: since.In(time.FixedZone("", 3600))}},
		},
		"a shorter TTL":           {inner: Config{Policy: coatcheck.Policy{TTL: time.Minute}}, refused: true},
		"Admits in the inner one": {inner: Config{Policy: coatcheck.Policy{Admits: admits}}, refused: true},
		"Admits in both":          {outer: Config{Policy: coatcheck.Policy{Admits: admits}}, inner: Config{Policy: coatcheck.Policy{Admits: admits}}, refused: true},
		"a clock":                 {inner: Config{Policy: coatcheck.Policy{Now: clock}}, refused: true},
		"another cookie":          {inner: Config{Cookie: cookie.Config{SameSite: "strict"}}, refused: true},
		"other proxies":           {inner: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, refused: true},
		"device-bound sessions":   {inner: Config{DBSC: "/d"}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			outer, err := NewFor(store, c.outer)
			require.NoError(t, err)
			inner, err := NewFor(store, c.inner)
			require.NoError(t, err)
			x := outer.Acquire(nil)
			defer outer.Release(x)
			mounted, err := inner.Mounted(x)
			assert.Equal(t, !c.refused, mounted)
			if c.refused {
				assert.ErrorContains(t, err, `"__Host-coatcheck"`)
				assert.ErrorContains(t, err, "a cookie name and a store of its own", "it says what to do")
				return
			}
			assert.NoError(t, err)
		})
	}
}

// A time that is set at run time counts as one that was configured.
func TestMountedAfterSetNotBefore(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	outer, err := NewFor(store, Config{})
	require.NoError(t, err)
	inner, err := NewFor(store, Config{})
	require.NoError(t, err)
	x := outer.Acquire(nil)
	defer outer.Release(x)
	_, err = inner.Mounted(x)
	require.NoError(t, err)
	inner.Manager.SetNotBefore(time.UnixMilli(1))
	_, err = inner.Mounted(x)
	assert.ErrorContains(t, err, "different settings")
}

// What one manager admits is the same everywhere, its functions included.
func TestMountedWithOneManager(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	manager, err := coatcheck.NewManager(store, coatcheck.Policy{Admits: func([]byte) bool { return true }})
	require.NoError(t, err)
	outer, err := New(manager, Config{}, nil)
	require.NoError(t, err)
	inner, err := New(manager, Config{}, nil)
	require.NoError(t, err)
	x := outer.Acquire(nil)
	defer outer.Release(x)
	mounted, err := inner.Mounted(x)
	assert.NoError(t, err)
	assert.True(t, mounted)
}

// A store of an application's may be a value: one that cannot be compared, which a type with an interface in it does not show, is no store of
// its own where the manager is the same.
func TestMountedWithAStoreByValue(t *testing.T) {
	memory, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, memory.Close()) })
	type decorated struct{ coatcheck.Store }
	type tagged struct {
		coatcheck.Store
		tags []string
	}
	for name, c := range map[string]struct {
		store      coatcheck.Store
		comparable bool
	}{
		"comparable":            {decorated{memory}, true},
		"not comparable":        {tagged{Store: memory}, false},
		"not comparable inside": {decorated{tagged{Store: memory, tags: []string{"a"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			manager, err := coatcheck.NewManager(c.store, coatcheck.Policy{})
			require.NoError(t, err)
			outer, err := New(manager, Config{}, nil)
			require.NoError(t, err)
			x := outer.Acquire(nil)
			defer outer.Release(x)
			inner, err := New(manager, Config{}, nil)
			require.NoError(t, err)
			mounted, err := inner.Mounted(x)
			assert.NoError(t, err)
			assert.True(t, mounted)
			inner, err = NewFor(c.store, Config{})
			require.NoError(t, err)
			mounted, err = inner.Mounted(x)
			assert.Equal(t, c.comparable, mounted)
			if !c.comparable {
				assert.ErrorContains(t, err, "stores of their own")
			}
		})
	}
}
