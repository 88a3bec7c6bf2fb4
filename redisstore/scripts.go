package redisstore

import (
	"crypto/sha1" //nolint:gosec // EVALSHA names a script by its SHA-1; nothing rests on it
	"encoding/hex"
)

// script is a Lua script, one for each operation that writes. What they have in common:
//
//   - They decide first and write then, so that a refusal, also one by Redis in the middle of a slot's migration, leaves
//     everything as it was.
//   - Times are Unix milliseconds. Whether a session lives is judged by the time that the caller passed and the expiry in
//     the record; Redis' own clock only collects what is over. An index entry goes when Redis' clock has passed it.
//   - Of what a client sent, only the record's bytes and the user ID to compare with stand in ARGV. No key and no script
//     text holds any of it.
//   - A script that must not take effect twice leaves its answer in a receipt for some seconds, and answers with it when it
//     meets it: so a caller whose connection broke may ask again. The receipt's key is in KEYS and new, which also makes
//     Redis Cluster refuse the script while the slot is on the move (TRYAGAIN), when only part of its keys could be seen.
//   - DEL and ZREM come before SET where room is made: Redis then lets a script write even when its memory is full, and
//     logging out works. Create begins with its SET, and does nothing when memory is full.
type script struct{ text, sha string }

func newScript(body string) *script {
	text := prelude + body
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see above
	return &script{text: text, sha: hex.EncodeToString(sum[:])}
}

// prelude holds what a record's bytes say, as package coatcheck encodes them in either version of its codec.
// TestScriptsKnowTheCodec holds the two together.
const prelude = `
local function expiry(v) return math.min(struct.unpack('>I8', v, 74), (struct.unpack('>I8', v, 82))) end
local function versionOf(v) return (struct.unpack('>I8', v, 2)) end
local function userOf(v) return v:sub(92, 91 + struct.unpack('>I2', v, 90)) end
local function memberOf(v, key) return string.format('%012x', struct.unpack('>I8', v, 58)) .. key end
local function state(v, now)
  if not v then return 'none' end
  if v == '\192' then return 'tombstone' end
  local codec = v:byte()
  if codec ~= 0xC1 and codec ~= 0xC2 or #v < 94 then return 'other' end
  return now < expiry(v) and 'live' or 'expired'
end
local function bury(key, now, ends)
  redis.call('DEL', key)
  if now < ends then redis.call('SET', key, '\192', 'PXAT', ends) end
end
local function prune(index)
  local t = redis.call('TIME')
  redis.call('ZREMRANGEBYSCORE', index, '-inf', t[1] * 1000 + math.floor(t[2] / 1000))
end
local function keepIndex(index)
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
  if last[2] then redis.call('PEXPIREAT', index, last[2]) end
end
local function fetch(prefix, members)
  local keys, found = {}, {}
  for i, m in ipairs(members) do keys[i] = prefix .. m:sub(13) end
  for i = 1, #keys, 500 do
    for _, v in ipairs(redis.call('MGET', unpack(keys, i, math.min(i + 499, #keys)))) do found[#found + 1] = v end
  end
  return keys, found
end
local function replay(receipt)
  local v = redis.call('GET', receipt)
  if not v then return end
  redis.call('PEXPIRE', receipt, 5000)
  return cmsgpack.unpack(v)
end
local function answer(receipt, reply)
  redis.pcall('SET', receipt, cmsgpack.pack(reply), 'PX', 5000)
  return reply
end
`

// KEYS record, index (absent without a user); ARGV record, version that it replaces (8 bytes), now, index member,
// and one more if an earlier try may have gone through.
// Answers ok | absent | user | unknown (gone through and replaced, or not: nobody can tell) | conflict, other: the stored bytes.
var swapScript = newScript(`
local new, now = ARGV[1], tonumber(ARGV[3])
local v = redis.call('GET', KEYS[1])
local is = state(v, now)
if is == 'other' then return {'other', v} end
if is ~= 'live' then return {'absent'} end
if v:sub(2, 9) ~= ARGV[2] then
  if not ARGV[5] then return {'conflict', v} end
  if v == new then return {'ok'} end
  if versionOf(v) > versionOf(new) then return {'unknown'} end
  return {'conflict', v}
end
if userOf(v) ~= userOf(new) then return {'user'} end
local ends = expiry(new)
redis.call('SET', KEYS[1], new, 'PXAT', ends)
if KEYS[2] and ends ~= expiry(v) then
  redis.call('ZADD', KEYS[2], ends, ARGV[4])
  keepIndex(KEYS[2])
end
return {'ok'}
`)

// KEYS record, receipt, index, mark, replaced record (the last three absent without a user, the last without Replace);
// ARGV record, now, index member, prefix of record keys, mark (8 bytes), limit, end of tombstones, key text of the replaced.
// Answers ok, how many the limit ended, replaced record or "" | exists | revoked.
var createScript = newScript(`
-- present tells the members whose records are there from those that were evicted, or deleted by hand.
local function present(prefix, members)
  local n = 0
  for i = 1, #members, 500 do
    local keys = {}
    for k = i, math.min(i + 499, #members) do keys[#keys + 1] = prefix .. members[k]:sub(13) end
    n = n + redis.call('EXISTS', unpack(keys))
  end
  if n == #members then return members, {} end
  local here, gone = {}, {}
  local _, found = fetch(prefix, members)
  for i, m in ipairs(members) do
    local to = found[i] and here or gone
    to[#to + 1] = m
  end
  return here, gone
end
-- oldest returns the n that were created first; of those created at the same time, the ones with the smaller keys. The order
-- of a key's letters is not that of their values, and Redis compares strings as its locale has it.
local function oldest(members, n)
  if n <= 0 then return {} end
  local created, value = {}, {}
  for _, m in ipairs(members) do created[m] = tonumber(m:sub(1, 12), 16) end
  local function rank(m)
    if not next(value) then
      local i = 0
      for c in ('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'):gmatch('.') do
        value[c] = string.format('%02d', i)
        i = i + 1
      end
    end
    return (m:sub(13):gsub('.', value))
  end
  local function older(a, b)
    if created[a] ~= created[b] then return created[a] < created[b] end
    return rank(a) < rank(b)
  end
  if n > 1 then
    table.sort(members, older)
    local first = {}
    for i = 1, n do first[i] = members[i] end
    return first
  end
  local first = members[1]
  for _, m in ipairs(members) do
    if older(m, first) then first = m end
  end
  return {first}
end

local done = replay(KEYS[2])
if done then return done end
local new, now, limit, ends = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[6]), tonumber(ARGV[7])
local index = KEYS[3]
if index then
  local mark = redis.call('GET', KEYS[4])
  if mark and mark:sub(1, 8) ~= ARGV[5] and now < struct.unpack('>I8', mark, 9) then return {'revoked'} end
end
local taken = state(redis.call('GET', KEYS[1]), now)
if taken ~= 'none' and taken ~= 'expired' then return {'exists'} end

local replaced = KEYS[5] and redis.call('GET', KEYS[5]) or false
if state(replaced, now) ~= 'live' or userOf(replaced) ~= userOf(new) then replaced = false end
local replacedMember = replaced and memberOf(replaced, ARGV[8])

local gone, ended = {}, {}
if index and limit > 0 and redis.call('ZCOUNT', index, '(' .. ARGV[2], '+inf') + 1 > limit then
  local members = {}
  for _, m in ipairs(redis.call('ZRANGEBYSCORE', index, '(' .. ARGV[2], '+inf')) do
    if m ~= replacedMember and m ~= ARGV[3] then members[#members + 1] = m end
  end
  members, gone = present(ARGV[4], members)
  for _, m in ipairs(oldest(members, #members + 1 - limit)) do
    ended[#ended + 1] = ARGV[4] .. m:sub(13)
    gone[#gone + 1] = m
  end
end

redis.call('SET', KEYS[1], new, 'PXAT', expiry(new))
if replaced then
  bury(KEYS[5], now, ends)
  gone[#gone + 1] = replacedMember
end
for _, key in ipairs(ended) do bury(key, now, ends) end
if index then
  prune(index)
  for i = 1, #gone, 500 do redis.call('ZREM', index, unpack(gone, i, math.min(i + 499, #gone))) end
  redis.call('ZADD', index, expiry(new), ARGV[3])
  keepIndex(index)
end
return answer(KEYS[2], {'ok', #ended, replaced or ''})
`)

// KEYS record, receipt, index (absent without a user); ARGV now, end of the tombstone, key text, user.
// Answers ok, the record that ended | absent | user | other, the stored bytes.
var endScript = newScript(`
local done = replay(KEYS[2])
if done then return done end
local now = tonumber(ARGV[1])
local v = redis.call('GET', KEYS[1])
local is = state(v, now)
if is == 'other' then return {'other', v} end
if is ~= 'live' then return answer(KEYS[2], {'absent'}) end
if userOf(v) ~= ARGV[4] then return {'user'} end
bury(KEYS[1], now, tonumber(ARGV[2]))
if KEYS[3] then
  redis.call('ZREM', KEYS[3], memberOf(v, ARGV[3]))
  prune(KEYS[3])
  keepIndex(KEYS[3])
end
return answer(KEYS[2], {'ok', v})
`)

// KEYS index, receipt, mark, record to keep (absent if none); ARGV now, end of tombstones, prefix of record keys, new mark
// (8 bytes, 8 bytes of its end), its end, key text of the one to keep, user.
// Answers ok, how many ended | absent.
var endUserScript = newScript(`
local done = replay(KEYS[2])
if done then return done end
local now, ends = tonumber(ARGV[1]), tonumber(ARGV[2])
local keep
if KEYS[4] then
  local v = redis.call('GET', KEYS[4])
  if state(v, now) ~= 'live' or userOf(v) ~= ARGV[7] then return answer(KEYS[2], {'absent'}) end
  keep = memberOf(v, ARGV[6])
end
local members = {}
for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if m ~= keep then members[#members + 1] = m end
end
local keys, found = fetch(ARGV[3], members)
local ended = 0
for i = 1, #members, 500 do redis.call('ZREM', KEYS[1], unpack(members, i, math.min(i + 499, #members))) end
for i, key in ipairs(keys) do
  local is = state(found[i], now)
  if is == 'live' or is == 'other' then
    bury(key, now, ends)
    ended = ended + 1
  elseif is == 'expired' then
    redis.call('DEL', key)
  end
end
keepIndex(KEYS[1])
redis.call('SET', KEYS[3], ARGV[4], 'PXAT', ARGV[5])
return answer(KEYS[2], {'ok', ended})
`)

// KEYS index, a key that never exists (see script); ARGV now, prefix of record keys.
// Answers key text and record of each session that the index holds, one after the other.
var listScript = newScript(`
prune(KEYS[1])
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')
local _, found = fetch(ARGV[2], members)
local reply = {}
for i, m in ipairs(members) do
  if found[i] then
    reply[#reply + 1] = m:sub(13)
    reply[#reply + 1] = found[i]
  end
end
return reply
`)

// KEYS record; ARGV bytes. Deletes what stands there if it still is these bytes.
var dropScript = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
`)

// KEYS receipt. Writes, so that a WAIT after it waits for all that was written before.
var confirmScript = newScript(`return answer(KEYS[1], {'ok'})`)
