package redisstore

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck"
)

// kindLedger is the kind of the keys in which failed logins are counted.
const kindLedger = "}:l:"

// Ledger counts failed logins in buckets, for all nodes that share this Redis; see login.Ledger and login.Rule, whose
// arithmetic it follows. A bucket is one key, "coatcheck:{<8 hex digits of it>}:l:<name>:<bucket>", that holds two times
// and expires when its failures are forgotten. It holds no name of a user and no address of a client.
type Ledger struct {
	store *Store
	name  string
	rule  []string // the script's arguments for the rule: how long a failure counts, and the delays, in milliseconds
}

// Ledger returns the ledger of that name. A failure is forgotten after forget; after n failures no attempt is accepted for
// delays[n-1], and the last delay holds for all further failures. Times are kept to the millisecond.
func (s *Store) Ledger(name string, forget time.Duration, delays []time.Duration) *Ledger {
	rule := []string{strconv.FormatInt(forget.Milliseconds(), 10)}
	for _, d := range delays {
		rule = append(rule, strconv.FormatInt(d.Milliseconds(), 10))
	}
	return &Ledger{store: s, name: name, rule: rule}
}

// Reserve counts a failure in advance and returns 0; or counts nothing and returns how long to wait.
func (l *Ledger) Reserve(ctx context.Context, bucket [16]byte, now time.Time) (time.Duration, error) {
	return l.waiting(ctx, "reserve", reserveScript, bucket, now)
}

// Wait is Reserve without the counting. It writes nothing, but that times in the future may move back, as Reserve moves them.
func (l *Ledger) Wait(ctx context.Context, bucket [16]byte, now time.Time) (time.Duration, error) {
	return l.waiting(ctx, "wait", waitScript, bucket, now)
}

func (l *Ledger) waiting(ctx context.Context, name string, s *script, bucket [16]byte, now time.Time) (time.Duration, error) {
	reply, err := l.run(ctx, name, s, bucket, append([]string{millis(now)}, l.rule...))
	if err != nil {
		return 0, err
	}
	ms, err := strconv.ParseInt(reply, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("redisstore: %s: %w: the script answered %.*q", name, coatcheck.ErrUnavailable, maxQuoted, reply)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// GiveBack takes one counted failure back.
func (l *Ledger) GiveBack(ctx context.Context, bucket [16]byte) error {
	_, err := l.run(ctx, "give back", giveBackScript, bucket, l.rule[:1])
	return err
}

// Reset forgets the bucket's failures.
func (l *Ledger) Reset(ctx context.Context, bucket [16]byte) error {
	_, err := l.run(ctx, "reset", resetScript, bucket, nil)
	return err
}

func (l *Ledger) run(ctx context.Context, name string, s *script, bucket [16]byte, args []string) (string, error) {
	if err := l.store.usable(); err != nil {
		return "", err
	}
	tag := coatcheck.Tag(bucket[:4])
	key := l.store.key(tag, kindLedger, l.name+":"+base64.RawURLEncoding.EncodeToString(bucket[:]))
	reply, err := l.store.run(ctx, operation{name: name, script: s, keys: []string{key, l.store.receiptKey(tag)}, args: args, touches: none})
	return statusOf(reply), err
}

// waitText begins the scripts that look at a bucket. The bucket holds the times at which all failures will be forgotten and the last was
// counted. If the last was counted by a clock that was ahead, both times move back. It answers how long to wait if that is not 0.
const waitText = `
local now, forget = tonumber(ARGV[1]), tonumber(ARGV[2])
local empty, last = 0, 0
local v = redis.call('GET', KEYS[1])
if v then
  empty, last = v:match('^(%d+) (%d+)$')
  empty, last = tonumber(empty) or 0, tonumber(last) or 0
end
local ahead, most = last > now, (#ARGV - 2) * forget
if ahead then empty, last = empty - (last - now), now end
empty = math.min(empty, last + most)
local n = math.floor(math.max(0, empty - last + forget - 1) / forget)
if n > 0 then
  local delay = tonumber(ARGV[math.min(2 + n, #ARGV)])
  local wait = math.max(0, last + delay - now)
  if wait > 0 then
    if ahead then redis.call('SET', KEYS[1], string.format('%d %d', empty, last), 'PX', empty - last) end
    return {string.format('%d', wait)}
  end
end
`

// KEYS bucket, receipt; ARGV now, how long a failure counts, the delays. Answers how long to wait; 0 if no attempt has to.
var waitScript = newBare(waitText + `return {'0'}
`)

// KEYS bucket, receipt; ARGV now, how long a failure counts, the delays. Answers how long to wait; 0 if a failure was counted.
var reserveScript = newScript(`
local done = replay(KEYS[2])
if done then return done end
` + strings.TrimPrefix(waitText, "\n") + `empty = math.min(math.max(empty, now) + forget, now + most)
redis.call('SET', KEYS[1], string.format('%d %d', empty, now), 'PX', empty - now)
return answer(KEYS[2], {'0'})
`)

// KEYS bucket, receipt; ARGV how long a failure counts.
var giveBackScript = newScript(`
local done = replay(KEYS[2])
if done then return done end
local empty, last = (redis.call('GET', KEYS[1]) or ''):match('^(%d+) (%d+)$')
if empty then
  redis.call('SET', KEYS[1], string.format('%d %d', math.max(0, tonumber(empty) - tonumber(ARGV[1])), last), 'KEEPTTL')
end
return answer(KEYS[2], {'ok'})
`)

// KEYS bucket, receipt.
var resetScript = newScript(`
redis.call('DEL', KEYS[1])
return {'ok'}
`)
