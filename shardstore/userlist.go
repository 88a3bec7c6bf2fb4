package shardstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/coatcheck/coatcheck"
)

// The sessions of a user are a ring, linked through their slots. The table shard.users leads to its first session, which
// also carries what is known of the whole ring, so that a login need not walk it:
//
//   - how many sessions it has, expired ones that nobody has removed yet included;
//   - whether the ring is in order: the first session is the oldest then, and each next one is younger;
//   - a lower bound, in whole seconds, of when the first of the sessions ends. Before that time all of them live. A session
//     that is renewed or removed leaves the bound as it is. An operation that meets a bound that has passed walks the ring
//     once and raises it; so does each login at the limit in the second in which a session ends.
//
// A new session is the youngest as a rule, and is linked in behind the last one. A session that belongs elsewhere (two logins
// in one millisecond, a clock that was corrected, a restart) is moved back a few places; if those are too few, the ring loses
// its order, and is sorted when a limit next asks for the oldest.
//
// The whole user ID is compared: users who share a Tag share a shard and no ring. A user without a session has no ring.

// maxStepsBack is how many places a new session moves back to stand in order.
const maxStepsBack = 16

const unordered = 1 << 31 // the bit beside the count

// owner is a user's ID and its hash, which is computed once for an operation.
type owner struct {
	id   []byte
	hash uint32
}

func (sh *shard) owner(id []byte) owner {
	if len(id) == 0 {
		return owner{}
	}
	return owner{id, sh.hash(id)}
}

func (o owner) none() bool { return len(o.id) == 0 }

// findOwner returns what stands for the owner in a table of users; 0 is none.
func (sh *shard) findOwner(t *hashTable, o owner) ref {
	return t.find(o.hash, func(n ref) bool { return bytes.Equal(sh.at(n).user(), o.id) })
}

// firstOf returns the first session of the owner's ring; 0 is none.
func (sh *shard) firstOf(o owner) ref {
	if o.none() {
		return 0
	}
	return sh.findOwner(&sh.users, o)
}

func (s slot) userCount() int { return int(uint32(s.ref(offUserCount)) &^ unordered) }
func (s slot) ordered() bool  { return s.ref(offUserCount)&unordered == 0 }
func (s slot) loseOrder()     { s.setRef(offUserCount, s.ref(offUserCount)|unordered) }

func (s slot) addUserCount(n int) {
	s.setRef(offUserCount, s.ref(offUserCount)&unordered|ref(s.userCount()+n))
}

func (s slot) userEnd() uint32       { return binary.LittleEndian.Uint32(s[offUserEnd:]) }
func (s slot) setUserEnd(sec uint32) { binary.LittleEndian.PutUint32(s[offUserEnd:], sec) }

// inSeconds rounds a time down, so that it stays a lower bound. A bound of 0 says nothing.
func inSeconds(ms int64) uint32 { return uint32(min(max(ms/1000, 0), math.MaxUint32)) }

// allLive reports whether no session of the ring that begins here has ended. False means that one may have.
func (s slot) allLive(now int64) bool {
	return s.userEnd() != 0 && now < int64(s.userEnd())*1000
}

// compareAge orders sessions by the time of creation, then by key, as coatcheck.CreateOptions wants it.
func (s slot) compareAge(t slot) int {
	return cmp.Or(
		cmp.Compare(coatcheck.Encoded(s.payload()).Created(), coatcheck.Encoded(t.payload()).Created()),
		bytes.Compare(s[:keyBytes], t[:keyBytes]))
}

// addToUser links a session into the ring of its user.
func (sh *shard) addToUser(n ref) {
	s := sh.at(n)
	o := sh.owner(s.user())
	if o.none() {
		return
	}
	first := sh.firstOf(o)
	if first == 0 {
		sh.link(n, n)
		s.setRef(offUserCount, 1)
		s.setUserEnd(inSeconds(s.ends()))
		sh.users.add(o.hash, n)
		return
	}
	at := sh.at(first)
	at.addUserCount(1)
	at.setUserEnd(min(at.userEnd(), inSeconds(s.ends())))
	s.setRef(offUserCount, 0)
	after, isFirst := sh.placeOf(n, first)
	next := sh.at(after).ref(offNextUser)
	sh.link(after, n)
	sh.link(n, next)
	if isFirst {
		sh.makeFirst(n, first, o.hash)
	}
}

// placeOf returns the session of a ring behind which a new one belongs, and whether the new one is to be the first.
func (sh *shard) placeOf(n, first ref) (after ref, isFirst bool) {
	last := sh.at(first).ref(offPrevUser)
	if !sh.at(first).ordered() {
		return last, false
	}
	s := sh.at(n)
	at := last
	for range maxStepsBack {
		if s.compareAge(sh.at(at)) > 0 {
			return at, false
		}
		if at == first {
			return last, true
		}
		at = sh.at(at).ref(offPrevUser)
	}
	sh.at(first).loseOrder()
	return last, false
}

// link makes b the next session behind a.
func (sh *shard) link(a, b ref) {
	sh.at(a).setRef(offNextUser, b)
	sh.at(b).setRef(offPrevUser, a)
}

// makeFirst makes n the first session in the place of another one, and hands over what that one records of the ring.
func (sh *shard) makeFirst(n, first ref, hash uint32) {
	to, from := sh.at(n), sh.at(first)
	copy(to[offUserCount:offBucket], from[offUserCount:offBucket])
	from.setRef(offUserCount, 0)
	sh.users.set(hash, first, n)
}

// removeFromUser takes a session out of its user's ring, at the same cost however many sessions the user has.
func (sh *shard) removeFromUser(n ref) {
	s := sh.at(n)
	o := sh.owner(s.user())
	if o.none() {
		return
	}
	prev, next := s.ref(offPrevUser), s.ref(offNextUser)
	if next == n {
		sh.users.remove(o.hash, n)
		return
	}
	sh.link(prev, next)
	if s.userCount() != 0 {
		sh.makeFirst(next, n, o.hash)
		sh.at(next).addUserCount(-1)
		return
	}
	sh.at(sh.firstOf(o)).addUserCount(-1)
}

// renumberInUser tells a session's neighbours that it has moved to another slot.
func (sh *shard) renumberInUser(n, to ref) {
	s := sh.at(n)
	o := sh.owner(s.user())
	if o.none() {
		return
	}
	if prev, next := s.ref(offPrevUser), s.ref(offNextUser); next == n {
		sh.link(to, to)
	} else {
		sh.link(prev, to)
		sh.link(to, next)
	}
	if s.userCount() != 0 {
		sh.users.set(o.hash, n, to)
	}
}

// endsEarlier notes that a session of the owner ends earlier than it did.
func (sh *shard) endsEarlier(n ref) {
	s := sh.at(n)
	if first := sh.firstOf(sh.owner(s.user())); first != 0 {
		sh.at(first).setUserEnd(min(sh.at(first).userEnd(), inSeconds(s.ends())))
	}
}

// expireOf removes the owner's sessions that have ended, and returns the first of those that are left; 0 is none.
func (sh *shard) expireOf(o owner, now int64) (first ref) {
	first = sh.firstOf(o)
	if first == 0 || sh.at(first).allLive(now) {
		return first
	}
	n, end := first, int64(math.MaxInt64)
	for range sh.at(first).userCount() {
		next := sh.at(n).ref(offNextUser)
		if ends := sh.at(n).ends(); now < ends {
			end = min(end, ends)
		} else {
			sh.expire(n)
		}
		n = next
	}
	if first = sh.firstOf(o); first != 0 {
		sh.at(first).setUserEnd(inSeconds(end))
	}
	return first
}

// putInOrder returns the first session of the ring that begins at first when it is in order.
func (sh *shard) putInOrder(first ref, hash uint32) ref {
	if sh.at(first).ordered() {
		return first
	}
	all := make([]ref, 0, sh.at(first).userCount())
	for n := first; len(all) < cap(all); n = sh.at(n).ref(offNextUser) {
		all = append(all, n)
	}
	slices.SortFunc(all, func(m, n ref) int { return sh.at(m).compareAge(sh.at(n)) })
	for i, n := range all {
		sh.link(all[(i+len(all)-1)%len(all)], n)
	}
	if all[0] != first {
		sh.makeFirst(all[0], first, hash)
	}
	oldest := sh.at(all[0])
	oldest.setRef(offUserCount, oldest.ref(offUserCount)&^unordered)
	return all[0]
}

// livingOf returns the owner's sessions that live at now.
func (sh *shard) livingOf(o owner, now int64) []ref {
	first := sh.firstOf(o)
	if first == 0 {
		return nil
	}
	count := sh.at(first).userCount()
	live := make([]ref, 0, count)
	for n := first; count > 0; count-- {
		if now < sh.at(n).ends() {
			live = append(live, n)
		}
		n = sh.at(n).ref(offNextUser)
	}
	return live
}
