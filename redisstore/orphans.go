package redisstore

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck"
)

// EndUserWithin is how long EndUser may take at most, and so how long its callers have to wait: with a mark, and where a user's
// index may have been evicted, it goes through all keys. When it could not do so in that time, the sessions that the index holds
// have ended nevertheless.
const EndUserWithin = maxTimeout + orphansWithin

// orphansWithin is how long the search for a user's records may take: Redis goes through some millions of keys a second.
const orphansWithin = 30 * time.Second

// endOrphans ends the sessions of a user that are not in the index, because Redis has evicted it, and removes those that have expired. A
// session that is in the index began after EndUser has emptied it. The scan goes through all keys, so it is made only where eviction is possible.
func (s *Store) endOrphans(ctx context.Context, user string, keep coatcheck.Key, now, until time.Time) (ended int, err error) {
	ctx, cancel := context.WithTimeout(ctx, orphansWithin)
	defer cancel()
	tag := coatcheck.TagOf(user)
	index := s.key(tag, kindIndex, userName(user))
	err = s.eachKey(ctx, escaped(s.key(tag, kindRecord, ""))+"*", func(redisKey string) error {
		key, ok := s.recordOf(redisKey)
		if !ok || key == keep {
			return nil
		}
		reply, err := s.run(ctx, operation{
			name: "end an orphan", script: endOrphanScript, keys: []string{s.recordKey(key), s.receiptKey(tag), index}, durable: true,
			touches: []coatcheck.Key{key}, args: []string{millis(now), millis(until), user},
		})
		if err == nil && statusOf(reply) == "ok" {
			ended++
		}
		return err
	})
	return ended, err
}

// KEYS record, receipt, index; ARGV now, end of the tombstone, user. Answers ok | other.
var endOrphanScript = newScript(`
local done = replay(KEYS[2])
if done then return done end
local v, now = redis.call('GET', KEYS[1]), tonumber(ARGV[1])
local is = state(v, now)
if is ~= 'live' and is ~= 'expired' or userOf(v) ~= ARGV[3] then return answer(KEYS[2], {'other'}) end
-- Answers nothing where the index does not hold the session, and changes nothing where it does.
if redis.call('ZADD', KEYS[3], 'XX', 'INCR', 0, memberOf(v, KEYS[1]:sub(-22))) then return answer(KEYS[2], {'other'}) end
if is == 'expired' then
  redis.call('DEL', KEYS[1])
  return answer(KEYS[2], {'other'})
end
bury(KEYS[1], now, tonumber(ARGV[2]))
return answer(KEYS[2], {'ok'})
`)

// eachKey calls f for each key that matches the pattern, on all primaries. A key may come twice.
func (s *Store) eachKey(ctx context.Context, pattern string, f func(key string) error) error {
	primaries, err := s.primaries(ctx)
	if err != nil {
		s.stats.errors.Add(1)
		return unavailable("scan", err)
	}
	for _, p := range primaries {
		for cursor := uint64(0); ; {
			cmd := p.client.B().Scan().Cursor(cursor).Match(pattern).Count(scanCount).Build().Pin()
			entry, err := p.client.Do(ctx, cmd).AsScanEntry()
			if err != nil {
				s.stats.errors.Add(1)
				return unavailable("scan", err)
			}
			for _, key := range entry.Elements {
				if err := f(key); err != nil {
					return err
				}
			}
			if cursor = entry.Cursor; cursor == 0 {
				break
			}
		}
	}
	return nil
}
