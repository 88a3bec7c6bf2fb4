package oidc_test

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// A provider that takes longer to fail than the time between two fetches is not asked once for each request that waited: anybody can send
// those, and each keeps a connection until its turn has come.
func TestProviderThatHangs(t *testing.T) {
	for _, path := range []string{"/.well-known/openid-configuration", "/keys"} {
		t.Run(path, func(t *testing.T) {
			p := oidctest.New(t)
			began := time.Now()
			var passed atomic.Int64
			now := func() time.Time { return began.Add(time.Duration(passed.Load())) }
			p.Edit(func(b *oidctest.Behaviour) {
				b.Now = now
				b.Handlers = map[string]http.HandlerFunc{path: func(w http.ResponseWriter, _ *http.Request) {
					passed.Add(int64(5 * time.Second)) // which the request took
					w.WriteHeader(http.StatusGatewayTimeout)
				}}
			})
			c := newClient(t, p, func(o *oidc.Options) { o.Now = now })
			for range 5 {
				_, err := login(t, c, oidc.Wanted{})
				require.Equal(t, oidc.Unavailable, kindOf(t, err))
			}
			assert.Equal(t, 1, p.Calls(path))
			passed.Add(int64(time.Second))
			_, err := login(t, c, oidc.Wanted{})
			require.Error(t, err)
			assert.Equal(t, 2, p.Calls(path), "it is asked again")
		})
	}
}

// A caller who does not wait any longer has not found out that the provider is away: others can log in.
func TestCallerThatGoesAway(t *testing.T) {
	p := oidctest.New(t)
	now := time.Now()
	c := newClient(t, p, func(o *oidc.Options) { o.Now = func() time.Time { return now } })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	c.EndSessionURL(gone)
	_, _, err := c.Begin(t.Context(), oidc.Wanted{}, nil)
	require.NoError(t, err)
}

// However many look at a page while the provider hangs, one goroutine asks it.
func TestPagesThatDoNotWait(t *testing.T) {
	const path = "/.well-known/openid-configuration"
	p := oidctest.New(t)
	began := time.Now()
	var passed atomic.Int64
	c := newClient(t, p, func(o *oidc.Options) {
		o.Now = func() time.Time { return began.Add(time.Duration(passed.Load())) }
	})
	asked, released := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	p.Edit(func(b *oidctest.Behaviour) {
		b.Handlers = map[string]http.HandlerFunc{path: func(w http.ResponseWriter, _ *http.Request) {
			close(asked)
			<-released
			w.WriteHeader(http.StatusServiceUnavailable)
		}}
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Empty(t, c.EndSessionURL(gone))
	<-asked
	before := runtime.NumGoroutine()
	for range 100 {
		assert.Empty(t, c.EndSessionURL(gone))
	}
	assert.Less(t, runtime.NumGoroutine(), before+50)
	assert.Equal(t, 1, p.Calls(path))
	p.Edit(func(b *oidctest.Behaviour) { b.Handlers = nil })
	release()
	require.Eventually(t, func() bool {
		passed.Add(int64(time.Second)) // a document that could not be had is asked for again
		return c.EndSessionURL(t.Context()) != ""
	}, time.Minute, time.Millisecond)
}
