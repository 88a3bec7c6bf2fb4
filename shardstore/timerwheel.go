package shardstore

import (
	"math"
	"math/bits"
)

// timerWheel holds slots in the order in which they end, in buckets of time, so that the janitor touches what is over and not
// what lives. Time is read as digits of six bits: a slot that ends at x stands at the level of the highest digit in which
// x differs from the wheel's own time, in the bucket of x's digit there. So the buckets of level 0 are a millisecond
// wide, those of level 1 64 ms, those of level 6 two years. When the wheel's time enters a bucket above level 0, what
// stands there moves down, which happens to a session two or three times in its life. Its invariants:
//   - a bucket is a list, linked through the slots, which know their bucket; taken has a bit for each that is not empty;
//   - no slot stands in a bucket that ends after the slot does. It may end earlier: a renewed session stays where it is
//     until the janitor comes by, because most sessions are renewed many times;
//   - everything that stood before the wheel's time has been fetched.
type timerWheel struct {
	slots *slabs
	at    int64 // the wheel's time in Unix milliseconds; never goes back
	taken [levels]uint64
	first [levels << digitBits]ref
}

const (
	digitBits = 6
	digitMask = 1<<digitBits - 1
	levels    = 11 // so that the digits tell apart whatever an int64 can
)

// bucket is level times 64 plus digit.
type bucket uint16

func digit(ms int64, level int) int { return int(ms>>(level*digitBits)) & digitMask }

func bucketAt(level int, ms int64) bucket { return bucket(level<<digitBits | digit(ms, level)) }

// bucketFor returns where what ends at x belongs: what is over, in the bucket that is due now.
func (w *timerWheel) bucketFor(x int64) bucket {
	if x <= w.at {
		return bucketAt(0, w.at)
	}
	return bucketAt((bits.Len64(uint64(x^w.at))-1)/digitBits, x)
}

// add puts a slot that stands in no bucket into that of its end.
func (w *timerWheel) add(n ref) {
	s := w.slots.at(n)
	b := w.bucketFor(s.ends())
	head := w.first[b]
	s.setRef(offNext, head)
	s.setRef(offPrev, 0)
	s.setBucket(b)
	if head != 0 {
		w.slots.at(head).setRef(offPrev, n)
	}
	w.first[b] = n
	w.taken[b>>digitBits] |= 1 << (b & digitMask)
}

// remove takes a slot out of its bucket.
func (w *timerWheel) remove(n ref) {
	s := w.slots.at(n)
	w.link(s.bucket(), s.ref(offPrev), s.ref(offNext))
}

// link makes two slots of a bucket, or its ends, neighbours.
func (w *timerWheel) link(b bucket, prev, next ref) {
	if next != 0 {
		w.slots.at(next).setRef(offPrev, prev)
	}
	if prev != 0 {
		w.slots.at(prev).setRef(offNext, next)
	} else if w.first[b] = next; next == 0 {
		w.taken[b>>digitBits] &^= 1 << (b & digitMask)
	}
}

// renumber tells a slot's neighbours that it is number n now.
func (w *timerWheel) renumber(n ref) {
	s := w.slots.at(n)
	prev, next := s.ref(offPrev), s.ref(offNext)
	w.link(s.bucket(), prev, n)
	if next != 0 {
		w.slots.at(next).setRef(offPrev, n)
	}
}

// due turns the wheel up to now and returns the first slot that it must be rid of: one that is over, or one that belongs
// in another bucket. 0 is none.
func (w *timerWheel) due(now int64) ref {
	for w.at <= now {
		for level := levels - 1; level >= 0; level-- {
			if n := w.first[bucketAt(level, w.at)]; n != 0 {
				return n
			}
		}
		if w.at == now {
			break
		}
		w.at = min(w.next(), now)
	}
	return 0
}

// next returns the time at which the next bucket begins that is not empty. The buckets of a level all begin before those
// of the level above.
func (w *timerWheel) next() int64 {
	for level := range levels {
		d := digit(w.at, level)
		if later := w.taken[level] & (math.MaxUint64 << (d + 1)); later != 0 {
			shift := level * digitBits
			whole := w.at >> (shift + digitBits) << (shift + digitBits)
			return whole | int64(bits.TrailingZeros64(later))<<shift
		}
	}
	return math.MaxInt64
}
