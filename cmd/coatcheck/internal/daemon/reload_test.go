package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// recorded is a server whose store ends nobody's sessions while it is down.
type recorded struct {
	down      bool
	asked     int
	ended     []string
	notBefore time.Time
}

func (s *recorded) EndUser(_ context.Context, user string) error {
	s.asked++
	if s.down {
		return errors.New("the store is down")
	}
	s.ended = append(s.ended, user)
	return nil
}

func (s *recorded) SetNotBefore(t time.Time) { s.notBefore = t }

// REV-02: the sessions of a user whose account changed end, even if the store was down when the file was re-read; and nobody
// waits for a store that is down once for each user.
func TestRereadOwesTheEnd(t *testing.T) {
	var out bytes.Buffer
	s := &recorded{down: true}
	changed := []string{"ann", "bob", "cid"}
	r := &reloader{
		files:     []func() ([]string, error){func() ([]string, error) { return changed, nil }},
		notBefore: func() (time.Time, error) { return time.Time{}, nil },
		sessions:  s, log: slog.New(slog.NewJSONHandler(&out, nil)),
	}
	r.reload()
	assert.Equal(t, 1, s.asked, "the store is down for all of them")
	assert.Contains(t, out.String(), `"users":3`)
	changed = []string{"bob", "dan"}
	r.reload()
	r.endOwed()
	assert.Empty(t, s.ended)
	s.down = false
	r.endOwed()
	assert.Equal(t, []string{"ann", "bob", "cid", "dan"}, s.ended)
	s.asked = 0
	r.endOwed()
	assert.Zero(t, s.asked, "nothing is owed any more")
}

// A file with mistakes keeps neither another file nor --sessions-not-before from taking effect, nor these it; and the log does not
// say that all was read.
func TestEachIsRereadByItself(t *testing.T) {
	moment := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct{ first, notBefore error }{
		"a file":                {first: errors.New("mistake in a file")},
		"--sessions-not-before": {notBefore: errors.New("mistake in a time")},
		"nothing is wrong":      {},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := new(recorded)
			r := &reloader{
				files: []func() ([]string, error){
					func() ([]string, error) { return nil, tt.first },
					func() ([]string, error) { return []string{"ann"}, nil },
				},
				notBefore: func() (time.Time, error) { return moment, tt.notBefore },
				sessions:  s, log: slog.New(slog.NewJSONHandler(&out, nil)),
			}
			r.reload()
			assert.Equal(t, []string{"ann"}, s.ended)
			if tt.notBefore == nil {
				assert.Equal(t, moment, s.notBefore)
			} else {
				assert.Zero(t, s.notBefore)
			}
			if err := errors.Join(tt.first, tt.notBefore); err != nil {
				assert.Contains(t, out.String(), err.Error())
				assert.NotContains(t, out.String(), `"msg":"re-read `)
			} else {
				assert.Contains(t, out.String(), `"msg":"re-read keys, users, certificates and --sessions-not-before"`)
			}
		})
	}
}
