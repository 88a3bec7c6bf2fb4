package login_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// An address has half of the connections to the provider, however long its answers take, and 256 failed logins before it waits: then one
// in two seconds.
func TestProviderLimit(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := login.NewProviderLimit(func() time.Time { return now })
	ann, bob := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	throttled := func(by netip.Addr) {
		t.Helper()
		_, err := l.Begin(by)
		var want *login.Throttled
		require.ErrorAs(t, err, &want)
		assert.Equal(t, "address", want.By)
		assert.Equal(t, 2, want.Seconds())
	}
	for range 3 { // a login that succeeds, or fails before the provider is asked, does not count
		var ends []func(bool)
		for range 32 {
			end, err := l.Begin(ann)
			require.NoError(t, err)
			ends = append(ends, end)
		}
		throttled(ann)
		for _, end := range ends {
			end(false)
		}
	}
	for range 256 {
		end, err := l.Begin(ann)
		require.NoError(t, err)
		end(true)
	}
	throttled(ann)
	end, err := l.Begin(bob)
	require.NoError(t, err, "another client")
	end(true)
	for range 3 {
		now = now.Add(2 * time.Second)
		end, err := l.Begin(ann)
		require.NoError(t, err)
		end(true)
		throttled(ann)
	}
	var slow []func(bool)
	for range 32 {
		end, err := l.Begin(bob)
		require.NoError(t, err)
		slow = append(slow, end)
	}
	for range 100 {
		now = now.Add(2 * time.Second)
		throttled(bob)
	}
	slow[0](false)
	_, err = l.Begin(bob)
	require.NoError(t, err)
	throttled(bob)

	one, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
	for range 32 {
		_, err = l.Begin(one)
		require.NoError(t, err)
	}
	throttled(other)
}
