package coatcheck_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

func TestPolicyDefaults(t *testing.T) {
	m, err := coatcheck.NewManager(newMapStore(), coatcheck.Policy{})
	require.NoError(t, err)
	p := m.Policy()
	assert.Equal(t, 30*time.Minute, p.TTL)
	assert.Equal(t, 12*time.Hour, p.MaxLifetime)
	assert.Equal(t, 3*time.Minute, p.RenewEvery, "a tenth of ttl")
	assert.Equal(t, 10*time.Second, p.RotationGrace)
	assert.Equal(t, 100, p.MaxPerUser)
	assert.Equal(t, 500*time.Millisecond, p.RetryFor)
	assert.False(t, p.FixedExpiry)
	assert.False(t, p.RevokeOnReuse)
	assert.WithinDuration(t, time.Now(), p.Now(), time.Minute)
}

// The policy in force of one manager, given to another one as a reload does, means the same there.
func TestPolicyInForceIsAPolicy(t *testing.T) {
	for name, p := range map[string]coatcheck.Policy{
		"defaults": {},
		"all off":  {RenewEvery: -1, RotationGrace: -1, MaxPerUser: -1},
		"set":      {TTL: time.Hour, MaxLifetime: time.Hour, RenewEvery: time.Second, RotationGrace: time.Second, MaxPerUser: 3},
	} {
		t.Run(name, func(t *testing.T) {
			first, err := coatcheck.NewManager(newMapStore(), p)
			require.NoError(t, err)
			second, err := coatcheck.NewManager(newMapStore(), first.Policy())
			require.NoError(t, err)
			a, b := first.Policy(), second.Policy()
			a.Now, b.Now = nil, nil
			assert.Equal(t, a, b)
		})
	}
}

func TestPolicyMistakes(t *testing.T) {
	tests := map[string]struct {
		policy coatcheck.Policy
		want   []string // parts of the error; none: valid
	}{
		"zero":                    {coatcheck.Policy{}, nil},
		"short ttl":               {coatcheck.Policy{TTL: time.Microsecond}, []string{"ttl"}},
		"negative ttl":            {coatcheck.Policy{TTL: -time.Hour}, []string{"ttl"}},
		"lifetime below ttl":      {coatcheck.Policy{TTL: time.Hour, MaxLifetime: time.Minute}, []string{"max-lifetime"}},
		"lifetime as ttl":         {coatcheck.Policy{TTL: time.Hour, MaxLifetime: time.Hour}, nil},
		"ttl beyond default life": {coatcheck.Policy{TTL: 24 * time.Hour}, nil},
		"life below default ttl":  {coatcheck.Policy{MaxLifetime: 5 * time.Second}, nil},
		"renew-every, bad ttl":    {coatcheck.Policy{TTL: -1, RenewEvery: time.Minute}, []string{"ttl"}},
		"renew-every as ttl":      {coatcheck.Policy{TTL: time.Hour, RenewEvery: time.Hour}, []string{"renew-every"}},
		"grace as ttl":            {coatcheck.Policy{TTL: time.Hour, RotationGrace: time.Hour}, []string{"rotation-grace"}},
		"negative retry time":     {coatcheck.Policy{RetryFor: -1}, []string{"retry"}},
		"all at once": {coatcheck.Policy{TTL: 1, MaxLifetime: -1, RenewEvery: 2, RotationGrace: 2, RetryFor: -1}, []string{
			"ttl",
			"max-lifetime", "renew-every", "rotation-grace", "retry",
		}},
		"negative means off":       {coatcheck.Policy{RenewEvery: -1, RotationGrace: -1, MaxPerUser: -1}, nil},
		"default grace, short ttl": {coatcheck.Policy{TTL: 5 * time.Second}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.policy.Validate()
			_, err2 := coatcheck.NewManager(newMapStore(), tt.policy)
			if tt.want == nil {
				assert.NoError(t, err)
				assert.NoError(t, err2)
				return
			}
			require.Error(t, err)
			require.Error(t, err2)
			for _, part := range tt.want {
				assert.ErrorContains(t, err, part)
				assert.ErrorContains(t, err2, part)
			}
			assert.Len(t, strings.Split(err.Error(), "\n"), len(tt.want), "and no mistake that nobody made: %v", err)
		})
	}
	_, err := coatcheck.NewManager(nil, coatcheck.Policy{TTL: -1})
	assert.ErrorContains(t, err, "store")
	assert.ErrorContains(t, err, "ttl", "all mistakes at once")
}

// A record describes the client that began the session, for the list of devices.
func TestClientIsRecorded(t *testing.T) {
	tests := map[string]struct {
		ip        string
		agent     string
		wantIP    string
		wantAgent string
	}{
		"IPv4":            {"192.0.2.1", "curl", "192.0.2.1", "curl"},
		"IPv4 in IPv6":    {"::ffff:192.0.2.1", "curl", "192.0.2.1", "curl"},
		"IPv6":            {"2001:db8::1", "curl", "2001:db8::1", "curl"},
		"IPv6 and a zone": {"fe80::1%eth0", "curl", "fe80::1", "curl"},
		"nobody":          {"", "", "", ""},
		"long":            {"192.0.2.1", strings.Repeat("x", 10_000), "192.0.2.1", strings.Repeat("x", 256)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			client := coatcheck.Client{UserAgent: []byte(tt.agent)}
			if tt.ip != "" {
				client.IP = netip.MustParseAddr(tt.ip)
			}
			s := new(coatcheck.Request)
			require.NoError(t, w.m.Open(t.Context(), s, presented(), client, w.clock.Now()))
			require.NoError(t, s.Authenticate("u"))
			a := w.finish(s)
			clear(client.UserAgent) // the request's buffer is reused

			w.refresh(a.token) // a refresh by another client does not change it
			rec := w.record(a.token)
			assert.Equal(t, tt.wantAgent, string(rec.UserAgent()))
			if tt.wantIP == "" {
				assert.False(t, rec.IP().IsValid())
			} else {
				assert.Equal(t, tt.wantIP, rec.IP().String())
			}
		})
	}
}
