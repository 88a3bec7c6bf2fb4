package coatcheck

import "time"

// SetSinceBoot replaces the clock that measures how long a login takes.
func (m *Manager) SetSinceBoot(clock func() time.Duration) { m.sinceBoot = clock }

// SetClocks replaces the clocks by which a login is measured that reads no mark: the wall's and the process's.
func (m *Manager) SetClocks(read func() (wall time.Time, process time.Duration)) {
	m.thisMoment = func() moment {
		wall, process := read()
		return moment{wall, process}
	}
}

// SinceBoot reads that clock.
func (m *Manager) SinceBoot() time.Duration { return m.sinceBoot() }

// SetWatchEvery sets how often watched sessions are looked at.
func (m *Manager) SetWatchEvery(every time.Duration) { m.watches.every = every }

// LookAtWatched looks at all watched sessions once, as long as reads do not fail for longer than this.
func (m *Manager) LookAtWatched(failing time.Duration) {
	m.lookAtAll(m.watches.snapshot(nil, m.watches.none), time.Now().Add(failing))
}
