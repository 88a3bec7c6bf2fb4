// Package shardstore keeps sessions in this process's memory, in shards with a lock each, and on disk if it is to.
//
// The shard is chosen by the Tag, so a user's sessions, the index of them and the user's mark stand under one lock, and
// every method of the Store is one critical section. A call holds the lock of at most one shard at a time; the journal's
// locks come after it. Users whose IDs fall into one shard share its lock and nothing else: no operation looks at more than
// the sessions of its own user.
//
// What is where: a shard ties slabs (the memory), tables (from hashes to slots) and a wheel (what ends when) together. With
// Options.Dir a journal and snapshots stand beside it, in the format that format.go describes.
package shardstore
