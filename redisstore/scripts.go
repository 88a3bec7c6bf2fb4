package redisstore

import (
	"crypto/sha1" //nolint:gosec // EVALSHA names a script by its SHA-1; nothing rests on it
	"encoding/hex"
)

// script is a Lua script, one for each operation that writes, and one each for List and a ledger's Wait. All scripts have this in common:
//
//   - They decide first and then write, so that a refusal, even one by Redis in the middle of a slot's migration, leaves
//     everything as it was. If Redis refuses a later command, because the user lacks it or a key is of a foreign type, Create
//     and Swap take back what they wrote, and Create ends the session that a login replaces last. End and EndUser may have
//     ended sessions then. No session is left without its index entry: nobody could end it.
//   - Times are Unix milliseconds. Whether a session lives is judged by the time that the caller passed and the expiry in
//     the record; Redis' own clock only removes what has expired. An index entry is removed when Redis' clock has passed
//     it. A mark lives by Redis' clock alone: the node that left it and the node of the login may have different times.
//   - Only the record's bytes and the user ID to compare with carry client input, and both stand in ARGV. No key and no
//     script text holds any of it.
//   - A script that must not take effect twice leaves its answer in a receipt for some seconds, unless what it stores shows
//     that it has run (Swap, and Create where no other session ended). A caller whose connection broke says so when it
//     calls again, and gets that answer.
//   - One of the KEYS is new, the receipt's or the record's. So Redis Cluster refuses the script while the slot is
//     migrating (TRYAGAIN), when the script could see only a part of its keys. A Create that is called again and finds its
//     record does nothing more.
//   - DEL and ZREM come before SET where room is made: Redis then lets a script write even when its memory is full, and
//     logging out works, and so does a renewal. Create begins with its SET, and does nothing when memory is full.
//   - No script uses a command that the user of docs/redis.md lacks, so that an upgrade needs no new user.
type script struct{ text, sha string }

// newScript returns a script that begins with the prelude.
func newScript(body string) *script { return newBare(prelude + body) }

// newBare returns a script without the prelude, for a script that runs often: Redis creates the prelude's functions anew
// for each run.
func newBare(text string) *script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // EVALSHA names a script by its SHA-1; no secret depends on it
	return &script{text: text, sha: hex.EncodeToString(sum[:])}
}

// prelude decodes a record's bytes, as package coatcheck encodes them in either version of its codec.
// TestScriptsKnowTheCodec holds the two together.
const prelude = `
local function expiry(v) return math.min(struct.unpack('>I8', v, 74), (struct.unpack('>I8', v, 82))) end
local function userOf(v) return v:sub(92, 91 + struct.unpack('>I2', v, 90)) end
local function memberOf(v, key) return string.format('%012x', struct.unpack('>I8', v, 58)) .. key end
local function state(v, now)
  if not v then return 'none' end
  if v == '\192' then return 'tombstone' end
  local codec = v:byte()
  if codec and codec > 0xC2 and codec <= 0xCF then return 'newer' end
  if codec ~= 0xC1 and codec ~= 0xC2 or #v < 94 then return 'damaged' end
  return now < expiry(v) and 'live' or 'expired'
end
local function bury(key, now, ends)
  redis.call('DEL', key)
  if now < ends then redis.call('SET', key, '\192', 'PXAT', ends) end
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

// KEYS record, index (absent without a user); ARGV record, version that it replaces (8 bytes), now, its end, and one more
// if an earlier try may have gone through. Answers ok | absent | user | created | unknown (it may have taken effect and been
// replaced, or not) | conflict, other: the stored bytes.
var swapScript = newBare(`
local call, key, args = redis.call, KEYS[1], ARGV
local new, now = args[1], tonumber(args[3])
local v = call('GET', key)
if not v or v == '\192' then return 'absent' end
local codec = v:byte()
if codec ~= 0xC1 and codec ~= 0xC2 or #v < 94 then return {'other', v} end
local created, _, idle, absolute, size = struct.unpack('>I8I8I8I8I2', v, 58)
if now >= idle or now >= absolute then return 'absent' end
if v:sub(2, 9) ~= args[2] then
  if not args[5] then return {'conflict', v} end
  if v == new then return 'ok' end
  if struct.unpack('>I8', v, 2) > struct.unpack('>I8', new, 2) then return 'unknown' end
  return {'conflict', v}
end
if v:sub(90, 91 + size) ~= new:sub(90, 91 + size) then return 'user' end -- the user's length, and the user
if created ~= struct.unpack('>I8', new, 58) then return 'created' end -- the index would not find its entry
local was, ends = idle < absolute and idle or absolute, tonumber(args[4])
-- Create's list of the user's oldest sessions knows when the first of them expires. It is read before anything is written.
local oldest = KEYS[2] and ends < was and KEYS[2]:sub(1, -25) .. 'm:' .. KEYS[2]:sub(-22)
local list = oldest and call('GET', oldest)
local set = redis.pcall('SET', key, new, 'PXAT', args[4])
if set.err then
  -- Redis' memory is full. Where the record stays as it is or grows by little, as in a renewal, it makes room for itself.
  if not set.err:find('maxmemory', 1, true) or #new > #v + 64 then return set end
  call('DEL', key)
  call('SET', key, new, 'PXAT', args[4])
end
if list and #list > 16 then call('DEL', oldest) end
if KEYS[2] and ends ~= was then
  local member = string.format('%012x', created) .. key:sub(-22)
  local done = redis.pcall('ZADD', KEYS[2], args[4], member)
  if done == 0 or done == 1 then
    done = ends > was and redis.pcall('PEXPIREAT', KEYS[2], args[4], 'GT')
    if done ~= 1 then
      local last = redis.pcall('ZRANGE', KEYS[2], '-1', '-1', 'WITHSCORES')
      done = last.err and last or redis.pcall('PEXPIREAT', KEYS[2], last[2])
    end
  end
  if done ~= 1 then -- Redis refused one of them
    call('SET', key, v, 'PXAT', was)
    redis.pcall('ZADD', KEYS[2], was, member)
    return done
  end
end
return 'ok'
`)

// KEYS record, receipt, index (absent without a user); ARGV now, end of the tombstone, user, and one more if an earlier try may
// have gone through.
// Answers absent | user | ok, other: the record that ended, the stored bytes.
var endScript = newBare(`
local call = redis.call
if ARGV[4] then
  local done = call('GET', KEYS[2])
  if done then call('PEXPIRE', KEYS[2], 5000) end
  if done == '' then return 'absent' end
  if done then return {'ok', done} end
end
local v, now = call('GET', KEYS[1]), tonumber(ARGV[1])
local codec = v and v:byte()
if v and v ~= '\192' and (codec ~= 0xC1 and codec ~= 0xC2 or #v < 94) then return {'other', v} end
local idle, absolute
if v and v ~= '\192' then idle, absolute = struct.unpack('>I8I8', v, 74) end
if idle and v:sub(92, 91 + struct.unpack('>I2', v, 90)) ~= ARGV[3] then return 'user' end
if idle then
  call('DEL', KEYS[1])
  -- If Redis refuses this, the session has ended nevertheless: an entry without a session counts nowhere.
  if KEYS[3] then redis.pcall('ZREM', KEYS[3], string.format('%012x', struct.unpack('>I8', v, 58)) .. KEYS[1]:sub(-22)) end
end
if not idle or now >= idle or now >= absolute then
  redis.pcall('SET', KEYS[2], '', 'PX', 5000)
  return 'absent'
end
if now < tonumber(ARGV[2]) then call('SET', KEYS[1], '\192', 'PXAT', ARGV[2]) end
call('SET', KEYS[2], v, 'PX', 5000)
return {'ok', v}
`)

// KEYS index, receipt, mark, record to keep (absent if none); ARGV now, end of tombstones, prefix of record keys, new mark
// (8 bytes, and 8 of its end, for a release before this one), its life, key text of the one to keep, user.
// Answers ok, how many ended (those of a newer release too, but not what is damaged) | absent.
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
for i, key in ipairs(keys) do
  local is = state(found[i], now)
  if is == 'live' or is == 'newer' then
    bury(key, now, ends)
    ended = ended + 1
  elseif is == 'expired' or is == 'damaged' then
    redis.call('DEL', key)
  end
end
for i = 1, #members, 500 do redis.call('ZREM', KEYS[1], unpack(members, i, math.min(i + 499, #members))) end
keepIndex(KEYS[1])
if ARGV[4] ~= '' then
  redis.call('DEL', KEYS[3])
  redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5])
end
return answer(KEYS[2], {'ok', ended})
`)

// KEYS index, a key that never exists (see script); ARGV now, prefix of record keys.
// Answers key text and record of each session that the index holds, one after the other. It writes nothing, so that it answers while Redis
// refuses writes.
var listScript = newScript(`
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

// KEYS record; ARGV bytes. The script deletes the record if it still has these bytes.
var dropScript = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
`)

// KEYS receipt. The script writes, so that a WAIT after it waits for all earlier writes.
var confirmScript = newScript(`return answer(KEYS[1], {'ok'})`)
