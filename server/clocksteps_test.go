package server_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/shardstore"
)

// steppedClock is the machine's, set forward or back.
type steppedClock struct{ by atomic.Int64 }

func (c *steppedClock) now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

// stepper sends requests while the clock steps, and remembers which of its sessions live.
type stepper struct {
	address string
	number  int
	users   int
	http    http.Client
	live    map[string]string // user by cookie; the sessions of one user at a time
	ended   map[string]string
	done    map[string]int // by what was done
}

// TestClockSteps is the part of the chaos test (cmd/coatcheck.TestChaos) that a program which reads the machine's clock cannot show: under
// mixed traffic the clock steps by hours, both ways, many times a second, by less than a session lives. At no time does a session that was ended
// live, or is another one signed out; a login that succeeds is a session that lives. Then the clock goes four years ahead and back,
// after which the server serves as before. COATCHECK_CHAOS says for how long the clock steps.
func TestClockSteps(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("COATCHECK_CHAOS"), "1s"))
	require.NoError(t, err)
	for _, name := range []string{"memory", "redis"} {
		t.Run(name, func(t *testing.T) {
			clock := new(steppedClock)
			var store coatcheck.Store
			var err error
			if name == "memory" {
				store, err = shardstore.New(shardstore.Options{Now: clock.now})
			} else {
				store = redistest.Store(t, redisstore.Options{URL: redistest.Start(t).URL()})
			}
			require.NoError(t, err)
			ln := serveStore(t, store, server.Config{
				Policy: coatcheck.Policy{TTL: 100 * time.Hour, MaxLifetime: 200 * time.Hour, Now: clock.now},
				Logger: slog.New(slog.DiscardHandler),
			})
			stepClock(t, clock, ln.Addr().String(), length)
		})
	}
}

func stepClock(t *testing.T, clock *steppedClock, address string, length time.Duration) {
	const atLeast = 100 // steps of each, or a slow machine would leave out what is done rarely
	over, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	done, stopClock := context.WithCancel(t.Context())
	defer stopClock()
	var all, jumps sync.WaitGroup
	steppers := make([]*stepper, 6)
	for i := range steppers {
		s := &stepper{address: address, number: i, live: make(map[string]string), ended: make(map[string]string), done: make(map[string]int)}
		steppers[i] = s
		s.http.Transport, s.http.Timeout = new(http.Transport), 2*time.Minute
		t.Cleanup(s.http.CloseIdleConnections)
		all.Go(func() {
			for i := 0; (i < atLeast || over.Err() == nil) && !t.Failed(); i++ {
				s.step(t)
			}
		})
	}
	jumps.Go(func() {
		for done.Err() == nil {
			clock.by.Store(int64(time.Duration(rand.IntN(40)-20) * time.Hour)) //nolint:gosec // no secret
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)        //nolint:gosec // likewise
		}
	})
	all.Wait()
	stopClock()
	jumps.Wait()
	clock.by.Store(0)
	did := make(map[string]int)
	for _, s := range steppers {
		s.settle(t)
		for what, n := range s.done {
			did[what] += n
		}
	}
	t.Logf("%v", did)
	for _, what := range []string{"login", "me", "refresh", "logout", "others"} {
		assert.Positive(t, did[what], what)
	}

	clock.by.Store(int64(4 * 365 * 24 * time.Hour))
	s := steppers[0]
	s.login(t)
	clock.by.Store(0)
	s.live, s.users = make(map[string]string), s.users+1
	s.login(t)
	s.settle(t)
}

func (s *stepper) user() string { return fmt.Sprintf("user-%d-%d", s.number, s.users) }

// send returns the status, the body and the cookie that was set.
func (s *stepper) send(t *testing.T, method, path, cookie, body string) (status int, text, set string) {
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address+path, strings.NewReader(body))
	if !assert.NoError(t, err) {
		return 0, "", ""
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", cookie)
	resp, err := s.http.Do(req)
	if !assert.NoError(t, err) {
		return 0, "", ""
	}
	raw, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	_ = resp.Body.Close() // read to its end
	set, _, _ = strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	if resp.StatusCode != http.StatusTooManyRequests {
		assert.Less(t, resp.StatusCode, 300, "%s %s: %s", method, path, raw)
	}
	return resp.StatusCode, string(raw), set
}

func (s *stepper) step(t *testing.T) {
	if len(s.ended) >= 20 { // of one user
		s.settle(t)
		s.live, s.ended, s.users = make(map[string]string), make(map[string]string), s.users+1
	}
	if len(s.live) == 0 || len(s.live) < 6 && rand.IntN(4) == 0 { //nolint:gosec // no secret
		s.login(t)
		return
	}
	for cookie, user := range s.live { // any of them
		switch rand.IntN(16) { //nolint:gosec // likewise
		default:
			s.look(t)
		case 0, 1, 2, 3:
			s.done["refresh"]++
			_, text, set := s.send(t, http.MethodPost, "/auth/refresh", cookie, "")
			assert.Contains(t, text, user, "a live session was signed out")
			delete(s.live, cookie)
			s.live[set] = user
		case 4, 5:
			s.done["logout"]++
			s.send(t, http.MethodPost, "/auth/logout", cookie, "")
			delete(s.live, cookie)
			s.ended[cookie] = user
		case 6:
			if status, _, _ := s.send(t, http.MethodDelete, "/auth/sessions", cookie, ""); status == http.StatusOK {
				s.done["others"]++
				for other := range s.live {
					if other != cookie {
						delete(s.live, other)
						s.ended[other] = user
					}
				}
			}
		}
		return
	}
}

func (s *stepper) login(t *testing.T) {
	s.done["login"]++
	user := s.user()
	if _, _, set := s.send(t, http.MethodPost, "/auth/login", "", `{"user_id":"`+user+`"}`); assert.NotEmpty(t, set) {
		s.live[set] = user
	}
}

// look asks about one session that lives, and about one that was ended.
func (s *stepper) look(t *testing.T) {
	s.done["me"]++
	for cookie, user := range s.live {
		_, text, _ := s.send(t, http.MethodGet, "/auth/me", cookie, "")
		assert.Contains(t, text, `"user_id":"`+user+`"`, "a live session was signed out")
		break
	}
	for cookie := range s.ended {
		_, text, _ := s.send(t, http.MethodGet, "/auth/me", cookie, "")
		assert.Contains(t, text, `"authenticated":false`, "a session that was ended lives")
		break
	}
}

// settle asks about all of them.
func (s *stepper) settle(t *testing.T) {
	for cookie, user := range s.live {
		_, text, _ := s.send(t, http.MethodGet, "/auth/me", cookie, "")
		assert.Contains(t, text, `"user_id":"`+user+`"`, "a live session was signed out")
	}
	for cookie := range s.ended {
		_, text, _ := s.send(t, http.MethodGet, "/auth/me", cookie, "")
		assert.Contains(t, text, `"authenticated":false`, "a session that was ended lives")
	}
}
