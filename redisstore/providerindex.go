package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck"
)

// The kinds of the keys of a ProviderIndex.
const (
	kindProviderSession = "}:o:"
	kindProviderToken   = "}:j:"
)

// ProviderIndex knows, for all nodes that share this Redis, which sessions began with which session of an OpenID Connect provider,
// and which logout tokens were taken; see oidc.Index. A session of the provider is one key in a slot of its own,
// "coatcheck:{<8 hex digits of its digest>}:o:<digest>": a sorted set of our sessions by when they end at the latest. A token is
// "…:j:<digest>". Neither has a name of the provider's in it.
type ProviderIndex struct{ store *Store }

// ProviderIndex returns the index.
func (s *Store) ProviderIndex() *ProviderIndex { return &ProviderIndex{store: s} }

// Add notes a session of ours, and reports whether the provider's session had been ended before.
func (x *ProviderIndex) Add(ctx context.Context, session [16]byte, entry string, now, until time.Time) (ended bool, err error) {
	reply, err := x.run(ctx, "provider session: add", addEntryScript, kindProviderSession, session, []string{millis(now), millis(until), entry})
	return len(reply) == 1 && reply[0] == "ended", err
}

// End notes that the provider's session has ended, and returns its entries.
func (x *ProviderIndex) End(ctx context.Context, session [16]byte, now, until time.Time) (entries []string, err error) {
	return x.run(ctx, "provider session: end", endEntriesScript, kindProviderSession, session, []string{millis(now), millis(until)})
}

// Once reports whether a token is taken for the first time.
func (x *ProviderIndex) Once(ctx context.Context, token [16]byte, _, until time.Time) (first bool, err error) {
	reply, err := x.run(ctx, "logout token", takeTokenScript, kindProviderToken, token, []string{rand.Text(), millis(until)})
	return len(reply) == 1 && reply[0] == "first", err
}

// Forget takes Once back.
func (x *ProviderIndex) Forget(ctx context.Context, token [16]byte) error {
	_, err := x.run(ctx, "logout token", resetScript, kindProviderToken, token, nil)
	return err
}

func (x *ProviderIndex) run(ctx context.Context, name string, s *script, kind string, digest [16]byte, args []string) ([]string, error) {
	if err := x.store.usable(); err != nil {
		return nil, err
	}
	key := x.store.key(coatcheck.Tag(digest[:4]), kind, base64.RawURLEncoding.EncodeToString(digest[:]))
	reply, err := x.store.run(ctx, operation{name: name, script: s, keys: []string{key}, args: args, touches: none, durable: true})
	if err != nil {
		return nil, err
	}
	var texts []string
	for i := range reply {
		text, err := reply[i].ToString()
		if err != nil {
			return nil, fmt.Errorf("redisstore: %s: %w: the script's answer: %w", name, coatcheck.ErrUnavailable, err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// KEYS the provider's session; ARGV now, the entry's end, entry. The member ! stands for "ended"; each member's score is when it
// may be forgotten. Called again it does the same again.
var addEntryScript = newBare(`
local now = tonumber(ARGV[1])
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  if all[i] == '!' and tonumber(all[i + 1]) > now then return {'ended'} end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all - 512, 2 do redis.call('ZREM', KEYS[1], all[i]) end
redis.call('PEXPIREAT', KEYS[1], all[#all])
return {'ok'}
`)

// KEYS the provider's session; ARGV now, until when it counts as ended. Answers the entries that have not expired, which stay, so
// that a logout whose work failed finds them again.
var endEntriesScript = newBare(`
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[2], '!')
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
redis.call('PEXPIREAT', KEYS[1], all[#all])
local entries = {}
for i = 1, #all, 2 do
  if all[i] ~= '!' then entries[#entries + 1] = all[i] end
end
return entries
`)

// KEYS token; ARGV a text of this call's own, until when the token is remembered. Called again it answers the same.
var takeTokenScript = newBare(`
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PXAT', ARGV[2]) then return {'first'} end
return {redis.call('GET', KEYS[1]) == ARGV[1] and 'first' or 'again'}
`)
