// Package shardstore keeps sessions in this process's memory, in shards with a lock each, and on disk if Options.Dir is
// set.
//
// The shard is chosen by the Tag, so the sessions of a user, the list of them and the user's mark stand under one lock, and
// every method of the Store is one critical section. Users whose IDs fall into one shard share its lock and nothing else: no
// operation visits more than the sessions of its own user.
//
// # Files
//
//	store.go         Store: New, Load, Swap, End, Len, Ping, Close
//	create.go        Create, which is a login
//	users.go         List and EndUser
//	scan.go          Scan, which visits the sessions of all users
//	userlist.go      the list of a user's sessions, in order of age, with their count
//	userlimit.go     the limit of a user's sessions (CreateOptions.Limit)
//	maxsessions.go   the limit of the store's sessions (Options.MaxSessions)
//	marks.go         the marks that EndUser leaves
//	janitor.go       the goroutine that removes what has ended
//	options.go, stats.go
//
// The memory, from the bottom up:
//
//	slab.go          slots, the bytes of one session, tombstone or mark; and slabs of slots, in size classes
//	hashtable.go     from hashes to slots
//	timerwheel.go    which slot ends next
//	shard.go         a lock, one of each of these under it, and the frame in which an operation is written to the journal
//
// The disk:
//
//	datadir.go       opening, locking and closing the folder; when to sync and when to take a snapshot
//	journal.go       the journal, and the batches in which it is written
//	snapshot.go      writing a snapshot
//	restore.go       reading snapshot and journals at the start
//	verify.go        Verify, which reads them and changes nothing
//	format.go        the bytes of journal and snapshot
//	framereader.go   reading these bytes, and telling damage from what a crash leaves
//	filesystem.go, lock_unix.go, lock_other.go
//
// # Lock order
//
// The lock that serializes snapshots comes first, then a shard's, then the journal's: syncing, writing, collecting. A call
// holds the lock of at most one shard. An operation that waits for a batch of the journal holds a shard's lock; the
// operation that writes the batch waits for no other shard.
package shardstore
