package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

const (
	// watchEvery is how often the store tries a write and, in a Cluster, looks at which node serves which slots. A session
	// that another node has ended is served for at most five seconds, so this and the time that a look takes is less.
	watchEvery = 2 * time.Second
	// lookWithin is how long the nodes of a Cluster may take to say which slots they know of.
	lookWithin = time.Second
	// policyEvery is how often, in watches, the store looks whether Redis may evict keys.
	policyEvery = 30
	// probeLife is how long the key that is written to try a write lives: as long as every receipt.
	probeLife = 5 * time.Second
)

// watcher is what a store does beside its callers until it is closed.
type watcher struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	refusal  atomic.Pointer[refusal] // nil: Redis accepts writes; written by note
	mayEvict atomic.Bool             // a user's index may have been evicted; never reset, because what was evicted stays so
	topology topology                // of the watch only
	// primaries are a tag of a slot of each primary of a Cluster, nil outside one; written by look
	primaries atomic.Pointer[[]coatcheck.Tag]
	refused   map[string]error // of the watch only: what each primary, by its ID, refused when it last answered
}

// refusal says why Redis refuses writes.
type refusal struct{ reason string }

// watch starts what the store does until Close.
func (s *Store) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	s.watcher.cancel = cancel
	s.watcher.running.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.turn(ctx, n)
		}
	})
}

// turn is the nth watch.
func (s *Store) turn(ctx context.Context, n int) {
	s.look(ctx)
	s.probe(ctx)
	if n%policyEvery == 0 {
		s.watchPolicy(ctx)
	}
}

// stop ends what watch started.
func (w *watcher) stop() {
	if w.cancel != nil {
		w.cancel()
		w.running.Wait()
	}
}

// WritesRefused reports whether Redis answers reads but refuses writes, and why: READONLY (it is a replica), MISCONF (it cannot
// write to its disk), OOM (its memory is full), NOREPLICAS (fewer replicas than its min-replicas-to-write) or NOPERM (the user
// may not). A write is tried every two seconds, on each primary of a Cluster.
func (s *Store) WritesRefused() (reason string, refused bool) {
	if r := s.watcher.refusal.Load(); r != nil {
		return r.reason, true
	}
	return "", false
}

// probeScript calls each command that the store's scripts call, so that what Redis refuses them it refuses this one.
//
// KEYS a key of this process (in a Cluster one of each primary, which all nodes share); ARGV how long it lives.
var probeScript = newBare(`
local key, life = KEYS[1], ARGV[1]
redis.call('SET', key, '1', 'PX', life) -- first: after a write of its own no script is refused for a full memory
redis.call('GET', key)
redis.call('MGET', key)
redis.call('PEXPIRE', key, life)
redis.call('PEXPIREAT', key, redis.call('TIME')[1] * 1000 + life)
redis.call('DEL', key)
redis.call('EXISTS', key)
redis.call('ZADD', key, 'XX', 1, 'member') -- adds nothing: no key stays without an expiry if a later command is refused
redis.call('ZCOUNT', key, 0, 0)
redis.call('ZRANGE', key, 0, 0)
redis.call('ZRANGEBYSCORE', key, 0, 0)
redis.call('ZREMRANGEBYSCORE', key, 0, 0)
redis.call('ZREM', key, 'member')
return redis.call('SET', key, '1', 'PX', life)`)

// probe tries a write on each primary, on all at once: one that does not answer takes no time from the others.
func (s *Store) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	refused, answered := map[string]error{}, false
	for id, tag := range s.watcher.topology.tags() {
		asking.Go(func() {
			err := s.tryWrite(ctx, tag)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case refusalOf(err) != "":
				refused[id] = err
			case err == nil:
				answered = true
			case s.watcher.refused[id] != nil:
				// What cannot be reached is no refusal, and no end of one. Whether Redis can be reached is told by Ping.
				refused[id] = s.watcher.refused[id]
			}
		})
	}
	asking.Wait()
	s.watcher.refused = refused
	switch {
	case len(refused) > 0:
		s.note(refused[slices.Min(slices.Collect(maps.Keys(refused)))]) // the same one each time, so that the log has one line
	case answered:
		s.note(nil)
	}
}

func (s *Store) tryWrite(ctx context.Context, tag coatcheck.Tag) error {
	_, err := s.call(ctx, operation{
		name: "probe", script: probeScript, keys: []string{s.key(tag, kindReceipt, "probe")},
		args: []string{fmt.Sprint(probeLife.Milliseconds())}, touches: none,
	}, false)
	s.distrust(err)
	return err
}

// note keeps why Redis refuses writes, or with nil that it accepts them, and logs a change.
func (s *Store) note(err error) {
	reason := refusalOf(err)
	if reason == "" {
		if err == nil && s.watcher.refusal.Swap(nil) != nil {
			s.log.Info("redisstore: Redis accepts writes again")
		}
		return
	}
	if was := s.watcher.refusal.Swap(&refusal{reason}); was == nil || was.reason != reason {
		s.log.Error("redisstore: Redis refuses writes: logins, changes and renewals fail, and sessions in use will expire", "reason", reason, "err", quoted(err))
	}
}

// refusals are the beginnings of the errors with which Redis refuses writes, until an operator or a failover changes something.
var refusals = []string{"READONLY", "MISCONF", "OOM", "NOREPLICAS", "NOPERM"}

// refusalOf returns which of the refusals an error is, or "".
func refusalOf(err error) string {
	re, ok := rueidis.IsRedisErr(err)
	if !ok {
		return ""
	}
	text := re.Error()
	for _, r := range refusals {
		// Before version 7 a script's error has the command's within.
		if strings.HasPrefix(text, r) || strings.Contains(text, "-"+r+" ") {
			return r
		}
	}
	switch {
	case strings.Contains(text, "ACL failure"), strings.Contains(text, "can't run this command"), strings.Contains(text, "has no permissions"):
		return "NOPERM"
	case strings.Contains(text, "read only replica"):
		return "READONLY"
	case strings.Contains(text, "used memory > 'maxmemory'"):
		return "OOM"
	}
	return ""
}

// distrust closes the connections if an error says that a server which was the primary is none any more. The address may lead
// to another server by now, as that of a load balancer does, and the old connections would never find out. What came over them
// leaves the cache.
func (s *Store) distrust(err error) {
	re, ok := rueidis.IsRedisErr(err)
	if !ok {
		return
	}
	text := re.Error()
	if strings.HasPrefix(text, "READONLY") || strings.HasPrefix(text, "MASTERDOWN") || strings.HasPrefix(text, "UNBLOCKED") ||
		strings.Contains(text, "read only replica") {
		s.dialer.closeAll()
	}
}

// ErrEviction means that New was refused, because Redis may evict keys; see Options.AllowEviction.
var ErrEviction = errors.New("redisstore: Redis may evict keys")

// watchPolicy warns when Redis' policy has become one that may evict keys.
func (s *Store) watchPolicy(ctx context.Context) {
	if s.watcher.mayEvict.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxTimeout)
	defer cancel()
	for addr, node := range s.client.Nodes() {
		if f := eviction(ctx, addr, node, true); f.evicts && !s.watcher.mayEvict.Swap(true) {
			f.warn(s.log)
		}
	}
}

// onlyTag is the tag of the keys that Ping reads and a trial of a write writes where there is one primary. It is this process's own: TagOf is
// random without a user.
var onlyTag = coatcheck.TagOf("")
