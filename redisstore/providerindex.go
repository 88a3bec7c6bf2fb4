package redisstore

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
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

// Ended reports whether the provider's session has ended.
func (x *ProviderIndex) Ended(ctx context.Context, session [16]byte, now time.Time) (bool, error) {
	reply, err := x.run(ctx, x.sessionKey(session), operation{
		name: "provider session: ended", script: endedScript, args: []string{millis(now)},
	})
	return len(reply) == 1 && reply[0] == "ended", err
}

// Add notes a session of ours, and reports whether the provider's session had been ended before. As a login, it does not wait for
// replicas.
func (x *ProviderIndex) Add(ctx context.Context, session [16]byte, entry string, now, until time.Time) (ended bool, err error) {
	reply, err := x.run(ctx, x.sessionKey(session), operation{
		name: "provider session: add", script: addEntryScript, args: []string{millis(now), millis(until), entry},
	})
	return len(reply) == 1 && reply[0] == "ended", err
}

// End notes that the provider's session has ended, and returns its entries.
func (x *ProviderIndex) End(ctx context.Context, session [16]byte, now, until time.Time) (entries []string, err error) {
	return x.run(ctx, x.sessionKey(session), operation{
		name: "provider session: end", script: endEntriesScript, args: []string{millis(now), millis(until)}, durable: true,
	})
}

// Begin begins an attempt at a token's work. It does not wait for replicas, because the work does.
func (x *ProviderIndex) Begin(
	ctx context.Context, token [16]byte, attempt string, _ time.Time, atMost time.Duration,
) (done, busy bool, err error) {
	reply, err := x.run(ctx, x.tokenKey(token), operation{
		name: "logout token: begin", script: beginTokenScript, args: []string{attempt, strconv.FormatInt(atMost.Milliseconds(), 10)},
	})
	return len(reply) == 1 && reply[0] == "done", len(reply) == 1 && reply[0] == "busy", err
}

// Done notes that the token's work is done.
func (x *ProviderIndex) Done(ctx context.Context, token [16]byte, attempt string, _, until time.Time) error {
	_, err := x.run(ctx, x.tokenKey(token), operation{
		name: "logout token: done", script: doneTokenScript, args: []string{attempt, millis(until)}, durable: true,
	})
	return err
}

// Forget takes back that this attempt has begun. It does not wait for replicas: the token is free for the next attempt, or will be when
// this one's time is over.
func (x *ProviderIndex) Forget(ctx context.Context, token [16]byte, attempt string) error {
	_, err := x.run(ctx, x.tokenKey(token), operation{name: "logout token: forget", script: forgetTokenScript, args: []string{attempt}})
	return err
}

func (x *ProviderIndex) sessionKey(session [16]byte) string {
	return x.key(kindProviderSession, session)
}
func (x *ProviderIndex) tokenKey(token [16]byte) string { return x.key(kindProviderToken, token) }

func (x *ProviderIndex) key(kind string, digest [16]byte) string {
	return x.store.key(coatcheck.Tag(digest[:4]), kind, base64.RawURLEncoding.EncodeToString(digest[:]))
}

func (x *ProviderIndex) run(ctx context.Context, key string, op operation) ([]string, error) {
	if err := x.store.usable(); err != nil {
		return nil, err
	}
	op.keys, op.touches = []string{key}, none
	reply, err := x.store.run(ctx, op)
	if err != nil {
		return nil, err
	}
	var texts []string
	for i := range reply {
		text, err := reply[i].ToString()
		if err != nil {
			return nil, fmt.Errorf("redisstore: %s: %w: the script's answer: %w", op.name, coatcheck.ErrUnavailable, err)
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

// KEYS the provider's session; ARGV now.
var endedScript = newBare(`
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  if all[i] == '!' and tonumber(all[i + 1]) > tonumber(ARGV[1]) then return {'ended'} end
end
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

// KEYS token; ARGV a text of this attempt's own, how many milliseconds it keeps others away, by Redis' clock alone. Called again it answers
// the same. A token whose work is done has the text of the attempt that did it, and "done " before it.
var beginTokenScript = newBare(`
local v = redis.call('GET', KEYS[1])
if v and v:sub(1, 5) == 'done ' then return {'done'} end
if v and v ~= ARGV[1] then return {'busy'} end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'begun'}
`)

// KEYS token; ARGV a text of this attempt's own, until when the token is remembered.
var doneTokenScript = newBare(`
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], 'done ' .. ARGV[1], 'PXAT', ARGV[2])
return {'ok'}
`)

// KEYS token; ARGV a text of this attempt's own. What is done stays, and so does what another attempt has noted: Redis may run this long
// after it was sent.
var forgetTokenScript = newBare(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
`)
