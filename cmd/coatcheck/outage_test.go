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
			p := start(t, append([]string{"--store", redis.URL(), "--log-level=error"}, c.args...)...)
			_, _, cookie := p.ask(t, "POST", "/auth/login", "", `{"user_id":"ada"}`)

			over := make(chan struct{})
			done := p.verdicts(t, cookie, over)
			time.Sleep(50 * time.Millisecond) // some are let in
			redis.Signal(syscall.SIGSTOP)
			hung := time.Now()
			time.Sleep(c.bound + time.Second)
			close(over)
			all := done()
			redis.Signal(syscall.SIGCONT)

			before, refused := 0, 0
			for _, v := range all {
				if v.began.Add(v.took).Before(hung) {
					require.Equal(t, http.StatusOK, v.status)
					before++
				}
				if v.began.Before(hung.Add(c.bound)) {
					continue
				}
				require.Equal(t, http.StatusServiceUnavailable, v.status, "%v after Redis hung", v.began.Sub(hung))
				assert.Less(t, v.took, 10*time.Second, "the store's timeout is half a second")
				refused++
			}
			assert.Positive(t, before)
			assert.Positive(t, refused)
			require.Eventually(t, func() bool {
				status, _, _ := p.ask(t, "GET", "/auth/verify", cookie, "")
				return status == http.StatusOK
			}, patience, 10*time.Millisecond)
		})
	}
}

// verdicts asks verify from several clients at once until over is closed; done waits for them and returns what they heard.
func (p *process) verdicts(t *testing.T, cookie string, over <-chan struct{}) (done func() []heard) {
	t.Helper()
	var (
		clients sync.WaitGroup
		mu      sync.Mutex
		all     []heard
	)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: patience}
	for range 16 {
		clients.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				v := heard{began: time.Now()}
				req, err := http.NewRequest(http.MethodGet, p.url+"/auth/verify", http.NoBody) //nolint:noctx // the client has a timeout
				if !assert.NoError(t, err) {
					return
				}
				req.Header.Set("Cookie", cookie)
				resp, err := client.Do(req)
				if !assert.NoError(t, err) {
					return
				}
				v.took, v.status = time.Since(v.began), resp.StatusCode
				assert.Empty(t, resp.Header["Set-Cookie"], "nobody is logged out")
				_, _ = io.Copy(io.Discard, resp.Body) // the next request finds out
				_ = resp.Body.Close()
				mu.Lock()
				all = append(all, v)
				mu.Unlock()
			}
		})
	}
	return func() []heard {
		clients.Wait()
		client.CloseIdleConnections()
		return all
	}
}
