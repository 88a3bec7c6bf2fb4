package dbsc_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsc"
)

func TestHeaders(t *testing.T) {
	n, c := "AQAAAAAAAAAAAAAAAAAAAg", "AwAAAAAAAAAAAAAAAAAABA"
	assert.Equal(t, n+"."+c, jti)
	assert.Equal(t, `(ES256 RS256);path="/auth/dbsc/register";challenge="`+jti+`"`,
		string(dbsc.AppendRegistration(nil, "/auth/dbsc/register", name, challenge)))
	assert.Equal(t, `"`+jti+`";id="`+n+`"`, string(dbsc.AppendNext(nil, name, challenge)))

	key, got, ok := dbsc.ParseChallenge([]byte(jti))
	require.True(t, ok)
	assert.Equal(t, name, key)
	assert.Equal(t, challenge, got)
	for _, text := range []string{"", ".", n, n + ".", "." + c, n + "." + c + ".", n + "." + c + "A", n + c, "AAAAAAAAAAAAAAAAAAAAAA." + c} {
		_, _, ok := dbsc.ParseChallenge([]byte(text))
		assert.False(t, ok, text)
	}
	for text, want := range map[string]bool{n: true, `"` + n + `"`: true, `"` + n: false, "": false, `"`: false, `""`: false, n + ";a": false, "AAAAAAAAAAAAAAAAAAAAAA": false} {
		key, ok := dbsc.ParseName([]byte(text))
		assert.Equal(t, want, ok, text)
		assert.Equal(t, want, key == name, text)
	}
}

// The instructions are those that Chromium accepts, to the letter.
func TestInstructions(t *testing.T) {
	i := dbsc.Instructions{Name: "NAME", RefreshURL: "/auth/dbsc/refresh", Cookie: "__Host-coatcheck", Attributes: "Path=/; Secure; HttpOnly; SameSite=Lax"}
	assert.Equal(t, `{"session_identifier":"NAME","refresh_url":"/auth/dbsc/refresh","scope":{"include_site":false},"allowed_refresh_initiators":["*"],`+
		`"credentials":[{"type":"cookie","name":"__Host-coatcheck","attributes":"Path=/; Secure; HttpOnly; SameSite=Lax"}]}`, string(i.JSON()))
}

// Failures count for a session and a client's network together, for a minute.
func TestFailures(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	mine, neighbour, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff"), netip.MustParseAddr("2001:db8:0:1::1")
	four := netip.MustParseAddr("192.0.2.1")
	checks := dbsc.NewChecks()
	for range dbsc.FailuresPerMinute {
		assert.False(t, checks.Throttled(name, mine, now))
		checks.Failed(name, mine, now)
	}
	assert.True(t, checks.Throttled(name, mine, now))
	assert.True(t, checks.Throttled(name, neighbour, now), "of the same /64")
	assert.False(t, checks.Throttled(name, other, now), "another client")
	assert.False(t, checks.Throttled(name, four, now), "another client")
	assert.False(t, checks.Throttled(coatcheck.Key{1}, mine, now), "another session")
	assert.True(t, checks.Throttled(name, mine, now.Add(59*time.Second)))
	assert.False(t, checks.Throttled(name, mine, now.Add(time.Minute)))
	assert.False(t, checks.Throttled(name, mine, now.Add(-time.Second)), "a clock that was set back throttles nobody")
	checks.Failed(name, mine, now.Add(time.Minute))
	assert.False(t, checks.Throttled(name, mine, now.Add(time.Minute)), "a new minute")
	for range dbsc.FailuresPerMinute {
		checks.Failed(name, four, now)
	}
	assert.True(t, checks.Throttled(name, netip.MustParseAddr("::ffff:192.0.2.1"), now), "the same IPv4 address")
}

// The memory of failures is bounded, and being forgotten frees nobody who goes on.
func TestFailuresAreBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	checks := dbsc.NewChecks()
	for i := range 12_000 {
		checks.Failed(coatcheck.Key{1, byte(i), byte(i >> 8)}, netip.Addr{}, now)
	}
	assert.LessOrEqual(t, checks.Kept(), 10_000)
	for range dbsc.FailuresPerMinute {
		checks.Failed(name, netip.Addr{}, now)
	}
	assert.True(t, checks.Throttled(name, netip.Addr{}, now))
}
