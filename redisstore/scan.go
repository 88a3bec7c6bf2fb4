package redisstore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// Scan is Redis' SCAN on one primary after the other, in the order of the lowest slot that each serves. Each call of Scan
// sends one SCAN, and then reads the records whose keys it found.

const (
	// scanCount is how many keys a SCAN asks for at most: Redis serves nobody else meanwhile.
	scanCount = 500
	// scanReads is how many records are asked for at once, so that the requests of others need not wait for many.
	scanReads = 100
	// scanSpare is by how much less than what fits a SCAN is asked for, because it finds whole cells of Redis' table.
	scanSpare = 16
)

// place is where a scan goes on.
type place struct {
	slot   uint64 // the lowest slot of the primary; primaries of lower ones are done
	node   uint64 // the sum of the primary's address: another server has other cursors
	cursor uint64 // for SCAN, which has been followed up to here
	// A SCAN has found more keys than fitted: the same one, with this count, is sent again, and keys whose sum is at most after
	// have been shown.
	count, after uint64
}

// primary is a server that is to be scanned.
type primary struct {
	slot   uint64
	addr   string
	client rueidis.Client
}

// Scan implements coatcheck.Store. What it promises is what SCAN does: a session that lives during the whole scan is shown at
// least once, and may be shown twice, changed or not. If a primary is replaced meanwhile, its part begins again. If slots move
// from one primary to another meanwhile, their sessions may be missed.
func (s *Store) Scan(ctx context.Context, cursor string, limit int, now time.Time, yield func(*coatcheck.Record)) (string, error) {
	if err := s.usable(); err != nil {
		return "", err
	}
	at, err := parsePlace(cursor)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	primaries, err := s.primaries(ctx)
	if err != nil {
		s.stats.errors.Add(1)
		return "", unavailable("scan", err)
	}
	i := slices.IndexFunc(primaries, func(p primary) bool { return p.slot >= at.slot })
	if i < 0 {
		return "", nil
	}
	p := primaries[i]
	if p.slot != at.slot || sum(p.addr) != at.node {
		at = place{slot: p.slot, node: sum(p.addr)}
	}
	next, keys, err := s.scanOne(ctx, p.client, at, limit)
	if err == nil {
		err = s.readAll(ctx, keys, now, yield)
	}
	if err != nil {
		s.stats.errors.Add(1)
		return "", unavailable("scan", err)
	}
	if next.cursor != 0 || next.after != 0 {
		return next.String(), nil
	}
	if i+1 == len(primaries) {
		return "", nil
	}
	return place{slot: primaries[i+1].slot}.String(), nil
}

// scanOne sends one SCAN, and returns up to limit keys of records and where to go on; a place without a cursor means that this
// primary is done.
//
// A SCAN may find some more keys than it was asked for. If they are too many, those with the smallest sums are taken, and the
// next call sends the same SCAN again and takes the others. (If Redis makes its table smaller just between the two, the second
// one may find keys that the first did not, and pass over some of them.)
func (s *Store) scanOne(ctx context.Context, node rueidis.Client, at place, limit int) (place, []coatcheck.Key, error) {
	began := time.Now()
	count := at.count
	if count == 0 {
		count = uint64(min(scanCount, max(1, limit-scanSpare, limit/2)))
	}
	cmd := node.B().Scan().Cursor(at.cursor).Match(s.recordPattern()).Count(int64(min(count, scanCount))).Type("string").Build().Pin()
	entry, err := node.Do(ctx, cmd).AsScanEntry()
	s.stats.roundTrip(began)
	if err != nil {
		return at, nil, err
	}
	found := make(map[uint64]coatcheck.Key, len(entry.Elements)) // SCAN may name a key twice
	for _, name := range entry.Elements {
		if key, ok := s.recordOf(name); ok && sum(name) > at.after {
			found[sum(name)] = key
		}
	}
	sums := make([]uint64, 0, len(found))
	for n := range found {
		sums = append(sums, n)
	}
	slices.Sort(sums)
	next := place{slot: at.slot, node: at.node, cursor: entry.Cursor}
	if len(sums) > limit {
		sums = sums[:limit]
		next.cursor, next.count, next.after = at.cursor, count, sums[limit-1]
	}
	keys := make([]coatcheck.Key, 0, len(sums))
	for _, n := range sums {
		keys = append(keys, found[n])
	}
	return next, keys, nil
}

// readAll calls yield for each of the records that lives at now. Records that have ended meanwhile and those that it cannot
// read are left out.
func (s *Store) readAll(ctx context.Context, keys []coatcheck.Key, now time.Time, yield func(*coatcheck.Record)) error {
	var rec coatcheck.Record
	for part := range slices.Chunk(keys, scanReads) {
		began := time.Now()
		gets := make([]rueidis.Completed, 0, len(part))
		for _, key := range part {
			gets = append(gets, s.client.B().Get().Key(s.recordKey(key)).Build().Pin())
		}
		replies := s.client.DoMulti(ctx, gets...)
		s.stats.roundTrip(began)
		for i, reply := range replies {
			b, err := reply.AsBytes()
			switch {
			case rueidis.IsRedisNil(err):
			case err != nil:
				return err
			case rec.Read(part[i], b) == nil && rec.Lives(now):
				yield(&rec)
			}
		}
	}
	return nil
}

// primaries returns the servers that hold sessions, in the order of their lowest slots. Without a Cluster there is one.
func (s *Store) primaries(ctx context.Context) ([]primary, error) {
	nodes := s.client.Nodes()
	if s.client.Mode() != rueidis.ClientModeCluster {
		for addr, node := range nodes {
			return []primary{{0, addr, node}}, nil
		}
	}
	var errs []error
	for addr, node := range nodes {
		v, err := ask(ctx, addr, node)
		if err == nil && len(v.claims) > 0 { // a node that was reset knows nobody
			return v.primaries(nodes)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, errors.New("no node of the Cluster tells who serves which slots"))...)
}

// primaries returns the primaries of the view, in the order of their lowest slots.
func (v view) primaries(nodes map[string]rueidis.Client) ([]primary, error) {
	var all []primary
	seen := make(map[string]bool)
	for _, c := range v.claims {
		if seen[c.id] {
			continue
		}
		seen[c.id] = true
		client, ok := nodes[c.addr]
		if !ok {
			return nil, fmt.Errorf("the address %q of the node %s is not known yet", c.addr, c.id)
		}
		all = append(all, primary{uint64(c.first), c.addr, client})
	}
	return all, nil
}

// recordPattern is the pattern of the keys of records, for SCAN.
func (s *Store) recordPattern() string {
	return escaped(s.prefix) + "{" + strings.Repeat("?", 2*len(coatcheck.Tag{})) + kindRecord + strings.Repeat("?", keyLen)
}

// escaped returns a pattern that matches the text itself.
func escaped(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}

// recordOf returns the session whose record has that Redis key.
func (s *Store) recordOf(name string) (coatcheck.Key, bool) {
	if len(name) < keyLen {
		return coatcheck.Key{}, false
	}
	key, ok := coatcheck.ParseKey([]byte(name[len(name)-keyLen:]))
	return key, ok && s.recordKey(key) == name
}

// sum puts keys in an order without showing them. It is never 0.
func sum(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // it returns no error
	return max(1, h.Sum64())
}

// String is the place as a cursor.
func (p place) String() string {
	return fmt.Sprintf("r%x.%x.%x.%x.%x", p.slot, p.node, p.cursor, p.count, p.after)
}

func parsePlace(cursor string) (p place, err error) {
	if cursor == "" {
		return place{}, nil
	}
	_, err = fmt.Sscanf(cursor, "r%x.%x.%x.%x.%x", &p.slot, &p.node, &p.cursor, &p.count, &p.after)
	if err != nil || p.String() != cursor {
		return place{}, coatcheck.ErrCursor
	}
	return p, nil
}
