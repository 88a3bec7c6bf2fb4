package shardstore

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/coatcheck/coatcheck"
)

// beyondLimit returns the sessions that end so that one more keeps the user within the limit, replaced not counting: the
// oldest, never the new one.
func (sh *shard) beyondLimit(user []byte, limit int, replaced ref, now int64) []ref {
	if limit <= 0 || len(user) == 0 || !sh.has(user, limit) {
		return nil
	}
	live := slices.DeleteFunc(sh.livingOf(user, now), func(n ref) bool { return n == replaced })
	excess := len(live) + 1 - limit
	if excess <= 0 {
		return nil
	}
	slices.SortFunc(live, func(m, n ref) int {
		a, b := sh.at(m), sh.at(n)
		return cmp.Or(
			cmp.Compare(coatcheck.EncodedCreated(a.payload()), coatcheck.EncodedCreated(b.payload())),
			bytes.Compare(a[:offNext], b[:offNext]))
	})
	return live[:excess]
}

// has reports whether the user has so many sessions, expired ones included, without looking at more of them.
func (sh *shard) has(user []byte, many int) bool {
	n := sh.firstOf(user)
	for ; n != 0 && many > 1; many-- {
		n = sh.at(n).ref(offNextUser)
	}
	return n != 0
}
