package server

import (
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
)

// endLimit bounds how often a session may end others of its user, because the holder of a stolen session must not be able to
// sign its owner out again and again, and because each try reads the user's list of sessions. For use by several goroutines.
type endLimit struct {
	perMinute int

	mu     sync.Mutex
	counts map[coatcheck.Key]minute // guarded by mu
}

// minute is how often a session has ended others in the minute that began then.
type minute struct {
	began time.Time
	n     int
}

const (
	// endOthersPerMinute is how often a session may end all others in a minute.
	endOthersPerMinute = 6
	// endOnePerMinute is how often it may end, or try to end, a single one.
	endOnePerMinute = 60
	// endLimitSessions bounds the memory of counts. Each key is a session of a user.
	endLimitSessions = 100_000
)

// allow counts one more request, or returns how long it is until the next one is allowed.
func (l *endLimit) allow(key coatcheck.Key, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, known := l.counts[key]
	if passed := now.Sub(m.began); passed >= time.Minute || passed < 0 {
		m = minute{began: now}
	}
	if m.n >= l.perMinute {
		return m.began.Add(time.Minute).Sub(now)
	}
	if !known && len(l.counts) >= endLimitSessions {
		for other := range l.counts { // a full map must not keep everybody else from signing out elsewhere
			delete(l.counts, other)
			break
		}
	}
	if l.counts == nil {
		l.counts = make(map[coatcheck.Key]minute)
	}
	m.n++
	l.counts[key] = m
	return 0
}
