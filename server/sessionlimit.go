package server

import (
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
)

// endOthersLimit bounds how often a session may end the others of its user, because the holder of a stolen session must not
// be able to sign its owner out again and again. The zero value is ready for use, by several goroutines.
type endOthersLimit struct {
	mu     sync.Mutex
	since  time.Time             // guarded by mu: when the present minute began
	counts map[coatcheck.Key]int // guarded by mu: in the present minute
}

const (
	// endOthersPerMinute is the limit per session and minute.
	endOthersPerMinute = 6
	// endOthersSessions bounds the memory of counts. Each key is a session of a user.
	endOthersSessions = 100_000
)

// allow counts one more request, or returns how long it is until the next one is allowed.
func (l *endOthersLimit) allow(key coatcheck.Key, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed := now.Sub(l.since); passed >= time.Minute || passed < 0 {
		l.since, l.counts = now, make(map[coatcheck.Key]int)
	}
	if l.counts[key] >= endOthersPerMinute {
		return l.since.Add(time.Minute).Sub(now)
	}
	if len(l.counts) >= endOthersSessions && l.counts[key] == 0 {
		for other := range l.counts { // a full map must not keep everybody else from signing out elsewhere
			delete(l.counts, other)
			break
		}
	}
	l.counts[key]++
	return 0
}
