package shardstore

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Sweep is one round of the janitor.
func (s *Store) Sweep() { s.sweep() }

// SweepOnce is one hold of the first shard's lock.
func (s *Store) SweepOnce(now time.Time) (more bool) { return s.shards[0].sweep(now.UnixMilli()) }

// CompactOnce is one hold of the first shard's lock that empties a slab.
func (s *Store) CompactOnce() (more bool) { return s.shards[0].compact() }

// SweepHolds sweeps all shards and returns how long each hold of a lock took.
func (s *Store) SweepHolds(now time.Time) (holds []time.Duration) {
	for i := range s.shards {
		for more := true; more; {
			began := time.Now()
			more = s.shards[i].sweep(now.UnixMilli())
			holds = append(holds, time.Since(began))
		}
	}
	return holds
}

// Hold takes a shard's lock, and returns the function that releases it.
func (s *Store) Hold(shard int) (letGo func()) {
	s.shards[shard].mu.Lock()
	return s.shards[shard].mu.Unlock
}

// Break makes the next use of a shard's wheel panic, and returns the function that repairs it.
func (s *Store) Break(shard int) (mend func()) {
	sh := &s.shards[shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := indexAt(0, sh.wheel.at)
	before := sh.wheel.first[b]
	sh.wheel.first[b] = 1 << 31
	return func() { sh.wheel.first[b] = before }
}

// Sizes is how much a store holds.
type Sizes struct{ Sessions, Tombstones, Users, Indexed, Marks int }

// Sizes counts what the store holds, and returns which of the invariants at type shard do not hold.
func (s *Store) Sizes() (n Sizes, err error) {
	var errs []error
	for i := range s.shards {
		errs = append(errs, s.shards[i].count(&n))
	}
	if n.Sessions != s.Len() {
		errs = append(errs, fmt.Errorf("%d sessions, the count is %d", n.Sessions, s.Len()))
	}
	if taken := s.taken.Load(); s.max != 0 && int(taken) != n.Sessions {
		errs = append(errs, fmt.Errorf("%d sessions, %d places are taken", n.Sessions, taken))
	}
	return n, errors.Join(errs...)
}

// Bytes is how many bytes the store's slabs and tables have.
func (s *Store) Bytes() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		for id := range sh.slots.list {
			n += len(sh.slots.list[id].data)
		}
		for _, t := range [...]*hashTable{&sh.keys, &sh.users, &sh.marks} {
			n += 8 * (len(t.cells) + len(t.old))
		}
	}
	return n
}

func (sh *shard) count(n *Sizes) error {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	c := counter{sh: sh, n: n}
	var keys, marks, slots int
	for id := range sh.slots.list {
		if sh.slots.list[id].data == nil {
			continue
		}
		used := 0
		sh.slots.each(uint32(id), func(at ref, s slot) {
			used++
			c.slot(at, s)
			switch s.kind() {
			case session:
				n.Sessions++
				keys++
			case tombstone:
				n.Tombstones++
				keys++
			case mark:
				n.Marks++
				marks++
			}
		})
		c.check(used == int(sh.slots.list[id].used), "a slab's count")
		slots += used
	}
	c.check(keys == sh.keys.count, "the table of keys")
	c.check(marks == sh.marks.count, "the table of marks")
	c.check(c.indexed == c.withUser, "the index holds more or less than the sessions")
	c.check(slots == sh.wheel.count(&c), "the wheel")
	c.check(c.firsts == sh.users.count, "the table of users")
	n.Users += c.firsts
	n.Indexed += c.indexed
	c.classes()
	return errors.Join(c.errs...)
}

// counter checks one shard.
type counter struct {
	sh                        *shard
	n                         *Sizes
	errs                      []error
	withUser, indexed, firsts int
}

func (c *counter) check(ok bool, what string) {
	if !ok {
		c.errs = append(c.errs, errors.New(what))
	}
}

func (c *counter) slot(n ref, s slot) {
	c.check(classOf(len(s.payload())) == c.sh.slots.classAt(n), "a slot of the wrong class")
	if s.is(mark) {
		c.check(c.sh.findOwner(&c.sh.marks, c.sh.owner(s.user())) == n, "a mark that its table does not know")
		return
	}
	c.check(c.sh.find(s.key(), c.sh.hash(s[:keyBytes])) == n, "a slot that its table does not know")
	if !s.is(session) || len(s.user()) == 0 {
		return
	}
	c.withUser++
	if s.userCount() != 0 {
		c.ring(n, s)
	}
}

// ring checks the ring of a user whose first session stands in n.
func (c *counter) ring(n ref, first slot) {
	c.firsts++
	c.check(c.sh.firstOf(c.sh.owner(first.user())) == n, "a first session that the table of users does not know")
	prev, at := first.ref(offPrevUser), n
	for i := range first.userCount() {
		s := c.sh.at(at)
		c.indexed++
		c.check(s.is(session) && string(s.user()) == string(first.user()), "a session in another user's ring")
		c.check(s.ref(offPrevUser) == prev, "a broken ring")
		c.check((s.userCount() != 0) == (i == 0), "two first sessions in a ring")
		c.check(int64(first.userEnd())*1000 <= max(0, s.ends()), "a session that ends before its user's first")
		c.check(i == 0 || !first.ordered() || s.compareAge(c.sh.at(prev)) > 0, "a ring that is out of order")
		prev, at = at, s.ref(offNextUser)
	}
	c.check(at == n, "a ring of another length than its count")
}

func (c *counter) classes() {
	var want [len(sizes)]class
	for id := range c.sh.slots.list {
		if sl := &c.sh.slots.list[id]; sl.data != nil {
			want[sl.class].used += int(sl.used)
			want[sl.class].slots += sl.slots()
		}
	}
	for i := range want {
		got := c.sh.slots.classes[i]
		got.open = 0
		c.check(got == want[i], "a class's count")
		for id := c.sh.slots.classes[i].open; id != 0; id = c.sh.slots.list[id].next {
			c.check(!c.sh.slots.list[id].full(), "a full slab among those with room")
		}
	}
}

// count returns how many slots stand in the wheel.
func (w *timerWheel) count(c *counter) (n int) {
	for i, first := range w.first {
		c.check((first != 0) == (w.taken[i>>digitBits]&(1<<(i&digitMask)) != 0), "a bucket's bit")
		level := i >> digitBits
		begins := w.at>>((level+1)*digitBits)<<((level+1)*digitBits) | int64(i&digitMask)<<(level*digitBits)
		n += w.countList(c, first, bucket(i)|w.epoch, begins)
	}
	for i, first := range w.stale {
		n += w.countList(c, first, bucket(i)|w.epoch^epochBit, math.MinInt64)
	}
	return n
}

func (w *timerWheel) countList(c *counter, first ref, b bucket, begins int64) (n int) {
	prev := ref(0)
	for at := first; at != 0; at = w.slots.at(at).ref(offNext) {
		s := w.slots.at(at)
		n++
		c.check(s.bucket() == b && s.ref(offPrev) == prev, "a broken bucket")
		c.check(begins <= max(s.ends(), w.at), "a bucket that begins after what stands in it ends")
		prev = at
	}
	return n
}
