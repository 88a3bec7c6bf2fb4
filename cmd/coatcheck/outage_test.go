package main

import (
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// heard is an answer of /auth/verify.
type heard struct {
	began  time.Time
	took   time.Duration
	status int
}

// FWD-03: when Redis hangs under load, verify lets nobody in any more: at once without a cache, and with one when what it holds may
// be out of date, five seconds later. Nobody is logged out by it.
func TestVerifyWhileRedisHangs(t *testing.T) {
	const storeTimeout = 500 * time.Millisecond
	for name, c := range map[string]struct {
		args  []string
		bound time.Duration // how long after the outage a session may be let in
	}{
		"without a cache": {[]string{"--redis-cache-ttl=0s"}, 0},
		"with a cache":    {nil, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			p := start(t, append([]string{"--store", redis.URL(), "--redis-timeout=" + storeTimeout.String(), "--log-level=error"}, c.args...)...)
			var cookie string
			require.Eventually(t, func() bool {
				var status int
				status, _, cookie = p.ask(t, "POST", "/auth/login", "", `{"user_id":"ada"}`)
				return status == http.StatusOK
			}, patience, time.Millisecond)

			asking := p.askVerdicts(t, cookie)
			asking.hears(t, http.StatusOK, time.Time{})
			redis.Signal(syscall.SIGSTOP)
			hung := time.Now()
			asking.hears(t, http.StatusServiceUnavailable, hung.Add(c.bound))
			all := asking.end()
			redis.Signal(syscall.SIGCONT)

			for _, v := range all {
				late := v.took >= storeTimeout*4/5 // on a busy machine also while all is well
				if v.began.Add(v.took).Before(hung) && !late {
					require.Equal(t, http.StatusOK, v.status)
				}
				if v.began.After(hung.Add(c.bound)) {
					require.Equal(t, http.StatusServiceUnavailable, v.status, "%v after Redis hung", v.began.Sub(hung))
					assert.Less(t, v.took, 20*storeTimeout)
				}
			}
			require.Eventually(t, func() bool {
				status, _, _ := p.ask(t, "GET", "/auth/verify", cookie, "")
				return status == http.StatusOK
			}, patience, 10*time.Millisecond)
		})
	}
}

// verdicts collects what several clients hear from verify; they ask until end is called.
type verdicts struct {
	clients sync.WaitGroup
	stop    sync.Once
	over    chan struct{}
	mu      sync.Mutex
	all     []heard
}

func (p *process) askVerdicts(t *testing.T, cookie string) *verdicts {
	t.Helper()
	v := &verdicts{over: make(chan struct{})}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	for range 16 {
		v.clients.Go(func() {
			for v.ask(t, client, p.url+"/auth/verify", cookie) {
			}
		})
	}
	t.Cleanup(func() { v.end() })
	return v
}

// ask asks once, and reports whether to go on.
func (v *verdicts) ask(t *testing.T, client *http.Client, url, cookie string) bool {
	select {
	case <-v.over:
		return false
	default:
	}
	answer := heard{began: time.Now()}
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody) //nolint:noctx // the client has a timeout
	if !assert.NoError(t, err) {
		return false
	}
	req.Header.Set("Cookie", cookie)
	resp, err := client.Do(req)
	if !assert.NoError(t, err) {
		return false
	}
	answer.took, answer.status = time.Since(answer.began), resp.StatusCode
	assert.Empty(t, resp.Header["Set-Cookie"], "nobody is logged out")
	_, _ = io.Copy(io.Discard, resp.Body) // the next request finds out
	_ = resp.Body.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, answer)
	return true
}

// hears waits for 16 answers with this status to requests that began after then.
func (v *verdicts) hears(t *testing.T, status int, then time.Time) {
	t.Helper()
	require.Eventually(t, func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		n := 0
		for _, answer := range v.all {
			if answer.status == status && answer.began.After(then) {
				n++
			}
		}
		return n >= 16
	}, patience, 10*time.Millisecond)
}

func (v *verdicts) end() []heard {
	v.stop.Do(func() { close(v.over) })
	v.clients.Wait()
	return v.all
}
