package login_test

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// asked is a throttled webhook whose clock stands still.
type asked struct {
	testing.TB
	mode *login.Throttle
	now  time.Time
}

func newAsked(t testing.TB, w *login.Webhook) *asked {
	d := &asked{TB: t, now: time.Unix(1_800_000_000, 0)}
	now := func() time.Time { return d.now }
	w.SetClock(now)
	d.mode = around(t, w, login.NewMemoryLedger(login.AccountRule()), login.NewMemoryLedger(login.AddressRule()), now)
	return d
}

func (d *asked) login(from string) error {
	_, err := d.mode.Check(d.Context(), &login.Attempt{UserID: "ann", Body: []byte(`{"user_id":"ann","password":"x"}`), Client: netip.MustParseAddr(from)})
	return err
}

// throttled checks that logins from the address are, and returns for how long.
func (d *asked) throttled(from string) time.Duration {
	d.Helper()
	throttled, ok := errors.AsType[*login.Throttled](d.login(from))
	require.True(d, ok)
	assert.Equal(d, "address", throttled.By)
	return throttled.RetryAfter
}

// An address can have a webhook asked only so often without being let in, whatever it answers; and when the back end is well again,
// all who waited behind one address get in one after the other, without a wait in between.
func TestWebhookLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"an error":   {500, "", login.ErrUnavailable},
		"a redirect": {302, "", login.ErrUnavailable},
		"no user":    {200, `{}`, login.ErrUnavailable},
		"too large":  {200, strings.Repeat(" ", 17<<10), login.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var well atomic.Bool
			var calls atomic.Int64
			s := backEnd(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				if well.Load() {
					_, _ = w.Write([]byte(`{"user_id":"ann"}`))
					return
				}
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			})
			d := newAsked(t, newWebhook(t, s.URL, login.WebhookOptions{}))
			for range 32 {
				require.ErrorIs(t, d.login(home), tc.want)
			}
			for range 30 { // a minute in which the back end is down, and people try again and again
				for range 20 {
					require.Equal(t, 2*time.Second, d.throttled(home))
				}
				d.now = d.now.Add(2 * time.Second)
				require.ErrorIs(t, d.login(home), tc.want)
			}
			assert.EqualValues(t, 62, calls.Load())
			require.ErrorIs(t, d.login(away), tc.want, "another client's address")

			well.Store(true)
			require.Positive(t, d.throttled(home))
			d.now = d.now.Add(2 * time.Second)
			for range 100 {
				require.NoError(t, d.login(home), "what succeeds does not count")
			}
		})
	}
}

// However long the back end takes, one address has half of the connections to it.
func TestWebhookLimitOfSlowAnswers(t *testing.T) {
	arrived, over := make(chan struct{}, 100), make(chan struct{})
	s := backEnd(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-over
		_, _ = w.Write([]byte(`{"user_id":"ann"}`))
	})
	w := newWebhook(t, s.URL, login.WebhookOptions{Timeout: time.Hour})
	attempt := func() error {
		_, err := w.Check(t.Context(), &login.Attempt{UserID: "ann", Body: []byte(`{}`), Client: netip.MustParseAddr(home)})
		return err
	}
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() { assert.NoError(t, attempt()) })
	}
	for range 32 {
		<-arrived
	}
	var throttled *login.Throttled
	late := make(chan error, 1)
	go func() { late <- attempt() }()
	select {
	case err := <-late:
		assert.ErrorAs(t, err, &throttled)
	case <-arrived:
		assert.Fail(t, "it was asked about")
	}
	close(over)
	all.Wait()
	require.NoError(t, attempt(), "what has succeeded does not count")
}
