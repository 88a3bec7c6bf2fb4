package coatcheck

import (
	"crypto/subtle"
	"time"
)

// Standing is what a record says of an ID that a request presented.
type Standing int

const (
	// Unknown is an ID that is neither the current nor the previous one.
	Unknown Standing = iota
	// Reused is the previous ID after it ceased to be admitted.
	Reused
	// Previous is the previous ID while it is admitted.
	Previous
	// Current is the record's ID.
	Current
)

// Admitted reports whether a token of this standing opens the session.
func (s Standing) Admitted() bool { return s >= Previous }

// Standing compares id with the record's IDs in constant time. This comparison is the check of the token's secret.
func (r *Record) Standing(id ID, now time.Time) Standing {
	switch {
	case id == (ID{}):
		return Unknown
	case subtle.ConstantTimeCompare(id[:], r.ID[:]) == 1:
		return Current
	case subtle.ConstantTimeCompare(id[:], r.PrevID[:]) == 0:
		return Unknown
	case now.UnixMilli() < r.PrevUntil:
		return Previous
	default:
		return Reused
	}
}

// tooOld reports whether the last proof of the device is so long ago that the tokens of its session open nothing.
func (m *Manager) tooOld(r *Record, now time.Time) bool {
	if len(r.binding) == 0 || !r.binding.used() {
		return false
	}
	ttl := m.policy.BoundTTL
	return now.UnixMilli()-r.binding.provedAt() > (ttl + max(ttl/10, time.Second)).Milliseconds()
}

// Lives reports whether the session is within both of its expiries.
func (r *Record) Lives(now time.Time) bool {
	ms := now.UnixMilli()
	return ms < r.IdleExpiry && ms < r.AbsoluteExpiry
}

// void reports whether a record in the store is not a valid session, because of its age or its user.
func (m *Manager) void(r *Record) bool {
	return r.CreatedAt < m.since.Load() || m.policy.Admits != nil && len(r.user) > 0 && !m.policy.Admits(r.user)
}
