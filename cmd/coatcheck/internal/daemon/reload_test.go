package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/redisstore"

	dto "github.com/prometheus/client_model/go"
)

// recorded is a server whose store ends nobody's sessions while it is down.
type recorded struct {
	down      bool
	fails     func(ctx context.Context, user string) error // nil: the store is well unless it is down
	asked     int
	ended     []string
	notBefore time.Time
}

func (s *recorded) EndUser(ctx context.Context, user string) error {
	s.asked++
	if s.down {
		return errors.New("the store is down")
	}
	if s.fails != nil {
		if err := s.fails(ctx, user); err != nil {
			return err
		}
	}
	s.ended = append(s.ended, user)
	return nil
}

func (s *recorded) SetNotBefore(t time.Time) { s.notBefore = t }

// rereading is a reloader whose clock is the test's.
type rereading struct {
	*reloader
	server recorded
	out    bytes.Buffer
	clock  time.Time
}

func newRereading(notBefore func() (time.Time, error), sources ...credentials.Source) *rereading {
	r := &rereading{clock: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}
	log := slog.New(slog.NewJSONHandler(&r.out, nil))
	r.reloader = newReloader(sources, notBefore, "", &r.server, newRereads(), log)
	r.now = func() time.Time { return r.clock }
	return r
}

// after lets time pass, in which the reloader looks once a second.
func (r *rereading) after(d time.Duration) {
	for range d / time.Second {
		r.clock = r.clock.Add(time.Second)
		r.retry()
	}
}

// shows returns the two metrics of a setting.
func (r *rereading) shows(setting string) (failures, failing float64) {
	value := func(m prometheus.Metric) float64 {
		var read dto.Metric
		_ = m.Write(&read) // of a counter and a gauge it never fails
		return read.GetCounter().GetValue() + read.GetGauge().GetValue()
	}
	return value(r.state.failures.WithLabelValues(setting)), value(r.state.failing.WithLabelValues(setting))
}

func always() (time.Time, error) { return time.Time{}, nil }

// REV-02: the sessions of a user whose account changed end, even if the store was down when the file was re-read.
func TestRereadOwesTheEnd(t *testing.T) {
	changed := []string{"ann", "bob", "cid"}
	r := newRereading(always, credentials.Source{Name: "users-file", Read: func() ([]string, error) { return changed, nil }})
	r.server.down = true
	r.reload()
	assert.Equal(t, 3, r.server.asked)
	assert.Contains(t, r.out.String(), `"users":3`)
	changed = []string{"bob", "dan"}
	r.reload()
	r.after(owedEvery)
	assert.Empty(t, r.server.ended)
	r.server.down = false
	r.after(owedEvery)
	assert.Equal(t, []string{"ann", "bob", "cid", "dan"}, r.server.ended)
	r.server.asked = 0
	r.after(time.Minute)
	assert.Zero(t, r.server.asked, "nothing is owed any more")
}

// usersFile is a users file in which these users have changed since it was last read.
func usersFile(users ...string) credentials.Source {
	return credentials.Source{Name: "users-file", Read: func() (changed []string, _ error) {
		changed, users = users, nil
		return changed, nil
	}}
}

// A user whose sessions cannot be ended, as when a part of a Cluster is down, keeps nobody else's from being ended.
func TestRereadGoesOnAfterAFailure(t *testing.T) {
	r := newRereading(always, usersFile("ann", "bob", "cid"))
	down := true
	r.server.fails = func(_ context.Context, user string) error {
		if user == "ann" && down {
			return errors.New("CLUSTERDOWN")
		}
		return nil
	}
	r.reload()
	require.Equal(t, []string{"bob", "cid"}, r.server.ended)
	assert.Contains(t, r.out.String(), `"user":"ann","users":1,"error":"CLUSTERDOWN"`)
	r.after(owedEvery - time.Second)
	assert.Equal(t, 3, r.server.asked)
	down = false
	r.after(time.Second)
	assert.Equal(t, []string{"bob", "cid", "ann"}, r.server.ended)
}

// A store that is down and takes its time to say so does not keep the server from all else for each user once.
func TestRereadTakesTurns(t *testing.T) {
	users := make([]string, 100)
	for i := range users {
		users[i] = fmt.Sprintf("user %02d", i)
	}
	read := 0
	r := newRereading(always, usersFile(users...), credentials.Source{Name: "tls-cert", Read: func() ([]string, error) {
		read++
		return nil, errors.New("half written")
	}})
	down := true
	r.server.fails = func(context.Context, string) error {
		if !down {
			return nil
		}
		r.clock = r.clock.Add(500 * time.Millisecond)
		return errors.New("the store is down")
	}
	r.reload()
	require.Equal(t, 20, r.server.asked)
	require.Equal(t, 1, read)
	r.retry()
	r.retry()
	assert.Equal(t, 60, r.server.asked, "those who come next")
	assert.Equal(t, 3, read, "what else could not be read is tried again meanwhile")
	hup := make(chan os.Signal, 1)
	r.hup = hup
	hup <- syscall.SIGHUP
	r.retry()
	assert.Equal(t, 60, r.server.asked, "nobody comes before a HUP")
	<-hup
	down = false
	r.retry()
	assert.Equal(t, users[60:], r.server.ended)
	r.after(owedEvery)
	assert.ElementsMatch(t, users, r.server.ended, "soon after the store is back: it did not look through its keys")
}

// Where the store has to look through all of its keys, it ends first what it finds at once. So every user is tried for a short while,
// before any of them may take as long as the store needs; and the store does not look through its keys all the time.
func TestRereadOfALargeStore(t *testing.T) {
	r := newRereading(always, usersFile("ann", "bob", "cid"))
	var began []string
	var searched time.Duration
	needs := redisstore.EndUserWithin - 10*time.Second
	r.server.fails = func(ctx context.Context, user string) error {
		began = append(began, user)
		until, _ := ctx.Deadline()
		took := min(time.Until(until).Round(time.Second), needs)
		r.clock = r.clock.Add(took)
		searched += took
		if took < needs {
			return context.DeadlineExceeded
		}
		return nil
	}
	r.reload()
	r.retry()
	require.Equal(t, []string{"ann", "bob", "cid"}, began)
	require.Empty(t, r.server.ended)
	r.after(time.Minute)
	require.Equal(t, []string{"ann", "bob", "cid"}, r.server.ended)

	needs = time.Hour
	r.sources = append(r.sources, &source{Source: usersFile("dan")})
	r.reload()
	before := r.clock
	searched = 0
	r.after(10 * time.Minute)
	assert.Less(t, searched, r.clock.Sub(before)*2/3)
}

// A file with mistakes keeps neither another file nor --sessions-not-before from taking effect, nor these it; and the log does not
// say that all was read.
func TestEachIsRereadByItself(t *testing.T) {
	moment := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct{ first, notBefore error }{
		"a file":                {first: errors.New("mistake in a file")},
		"--sessions-not-before": {notBefore: errors.New("mistake in a time")},
		"both":                  {errors.New("mistake in a file"), errors.New("mistake in a time")},
		"nothing is wrong":      {},
	} {
		t.Run(name, func(t *testing.T) {
			var r *rereading
			var inForce time.Time
			r = newRereading(func() (time.Time, error) { return moment, tt.notBefore },
				credentials.Source{Name: "login-key-file", Read: func() ([]string, error) { inForce = r.server.notBefore; return nil, tt.first }},
				credentials.Source{Name: "users-file", Read: func() ([]string, error) { return []string{"ann"}, nil }},
			)
			r.reload()
			assert.Equal(t, []string{"ann"}, r.server.ended)
			if tt.notBefore == nil {
				assert.Equal(t, moment, r.server.notBefore)
				assert.Equal(t, moment, inForce, "it waits for no file")
			} else {
				assert.Zero(t, r.server.notBefore)
			}
			for setting, err := range map[string]error{"login-key-file": tt.first, "sessions-not-before": tt.notBefore, "users-file": nil} {
				failures, failing := r.shows(setting)
				if err == nil {
					assert.Zero(t, failures+failing, setting)
					continue
				}
				assert.Equal(t, [2]float64{1, 1}, [2]float64{failures, failing}, setting)
				assert.Contains(t, r.out.String(), err.Error())
			}
			failed := errors.Join(tt.first, tt.notBefore) != nil
			assert.Equal(t, failed, r.state.any())
			assert.Equal(t, !failed, strings.Contains(r.out.String(), `"msg":"re-read keys, users, certificates and --sessions-not-before"`))
		})
	}
}

// What could not be read is tried again every ten seconds until it succeeds, and nothing else is.
func TestRereadIsTriedAgain(t *testing.T) {
	var wrong, tooLate error
	moment := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	var tries, others int
	r := newRereading(func() (time.Time, error) { return moment, tooLate },
		credentials.Source{Name: "users-file", Read: func() ([]string, error) {
			tries++
			if wrong != nil {
				return nil, wrong
			}
			return []string{"ann"}, nil
		}},
		credentials.Source{Name: "admin-key-file", Read: func() ([]string, error) { others++; return nil, nil }},
	)
	r.after(time.Hour)
	assert.Zero(t, tries, "nobody has asked for it")

	wrong, tooLate = errors.New("too many open files"), errors.New("no such time")
	r.reload()
	require.Equal(t, 1, tries)
	assert.True(t, r.state.any())
	r.after(9 * time.Second)
	assert.Equal(t, 1, tries)
	r.after(time.Second)
	assert.Equal(t, 2, tries)
	r.after(30 * time.Second)
	assert.Equal(t, 5, tries)
	assert.Equal(t, 1, strings.Count(r.out.String(), "too many open files"), "the log says it once")
	wrong = errors.New("no such file")
	r.after(10 * time.Second)
	assert.Equal(t, 1, strings.Count(r.out.String(), "no such file"), "the log says what is new")
	assert.Empty(t, r.server.ended)
	assert.Equal(t, 1, others)

	wrong = nil
	r.after(9 * time.Second)
	failures, failing := r.shows("users-file")
	assert.Equal(t, [2]float64{6, 1}, [2]float64{failures, failing})
	r.after(time.Second)
	failures, failing = r.shows("users-file")
	assert.Equal(t, [2]float64{6, 0}, [2]float64{failures, failing})
	r.after(owedEvery)
	assert.Equal(t, []string{"ann"}, r.server.ended, "with all that follows from it")
	assert.True(t, r.state.any(), "the other one still fails")

	tooLate = nil
	r.after(10 * time.Second)
	assert.Equal(t, moment, r.server.notBefore)
	assert.False(t, r.state.any())
	tries = 0
	r.after(time.Hour)
	assert.Zero(t, tries)
	assert.Equal(t, 1, others)
}

// A file that somebody is writing is left alone until it has been unchanged for two seconds.
func TestRereadWaitsForTheWriter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var tries int
	wrong := errors.New("half a line")
	r := newRereading(always, credentials.Source{Name: "users-file", Files: []string{file}, Read: func() ([]string, error) { tries++; return nil, wrong }})
	r.reload()
	written := 0
	write := func() {
		written++
		require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("x"), written), 0o600))
	}
	r.after(8 * time.Second)
	for range 20 {
		write()
		r.after(time.Second)
	}
	require.Equal(t, 1, tries, "it is being written")
	r.after(time.Second)
	require.Equal(t, 1, tries, "it was, a second ago")
	wrong = nil
	r.after(time.Second)
	assert.Equal(t, 2, tries)
	assert.False(t, r.state.any())

	// A file that is not there is no different.
	wrong = os.ErrNotExist
	require.NoError(t, os.Remove(file))
	r.reload()
	r.after(9 * time.Second)
	write()
	wrong = nil
	r.after(2 * time.Second)
	assert.Equal(t, 3, tries)
	r.after(time.Second)
	assert.Equal(t, 4, tries)
}

// A certificate is also re-read at a handshake: what goes wrong there is counted, shown and tried again too, and what goes right there
// is no failure any more.
func TestRereadByItself(t *testing.T) {
	var wrong error
	var tries int
	r := newRereading(always, credentials.Source{
		Name: "tls-cert", Failure: func() error { return wrong },
		Read: func() ([]string, error) { tries++; return nil, wrong },
	})
	r.after(time.Minute)
	assert.Zero(t, tries)
	wrong = errors.New("no PEM")
	r.after(time.Second)
	assert.True(t, r.state.any())
	assert.NotContains(t, r.out.String(), "no PEM", "the handshake has said it")
	r.after(10 * time.Second)
	assert.Equal(t, 1, tries)
	failures, _ := r.shows("tls-cert")
	assert.Equal(t, 2.0, failures)
	wrong = nil
	r.after(time.Second)
	assert.False(t, r.state.any())
	assert.Equal(t, 1, tries)
}
