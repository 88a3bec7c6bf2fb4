package coatcheck

import "time"

// SetSinceBoot replaces the clock that measures how long a login takes.
func (m *Manager) SetSinceBoot(clock func() time.Duration) { m.sinceBoot = clock }
