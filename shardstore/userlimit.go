package shardstore

// appendBeyondLimit appends the owner's sessions that must end so that one more keeps the owner within the limit: the oldest
// of those that live. The session that the new one replaces does not count and is not among them. A user within the limit
// costs no walk, however many sessions there are; beyond it, each session that ends costs a step.
func (sh *shard) appendBeyondLimit(ending []ref, o owner, limit int, replaced ref, now int64) []ref {
	first := sh.firstOf(o)
	if limit <= 0 || first == 0 || sh.excess(first, limit, replaced) <= 0 {
		return ending
	}
	if first = sh.expireOf(o, now); first == 0 {
		return ending
	}
	excess := sh.excess(first, limit, replaced)
	if excess <= 0 {
		return ending
	}
	for n := sh.putInOrder(first, o.hash); excess > 0; n = sh.at(n).ref(offNextUser) {
		if n != replaced {
			ending = append(ending, n)
			excess--
		}
	}
	return ending
}

// excess returns how many sessions of the ring that begins at first stand above the limit once one more has been added.
func (sh *shard) excess(first ref, limit int, replaced ref) int {
	count := sh.at(first).userCount() + 1
	if replaced != 0 {
		count--
	}
	return count - limit
}
