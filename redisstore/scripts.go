package redisstore

import (
	"crypto/sha1" //nolint:gosec // EVALSHA names a script by its SHA-1; nothing rests on it
	"encoding/hex"
)

// script is a Lua script, one for each operation that writes. All scripts have this in common:
//
//   - They decide first and then write, so that a refusal, even one by Redis in the middle of a slot's migration, leaves
//     everything as it was.
//   - Times are Unix milliseconds. Whether a session lives is judged by the time that the caller passed and the expiry in
//     the record; Redis' own clock only removes what has expired. An index entry is removed when Redis' clock has passed
//     it.
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

// KEYS record, index (absent without a user); ARGV record, version that it replaces (8 bytes), now, its end, and one more
// if an earlier try may have gone through. Answers ok | absent | user | unknown (it may have taken effect and been
// replaced, or not) | conflict, other: the stored bytes.
var swapScript = newBare(`
local call, key, args = redis.call, KEYS[1], ARGV
local new, now = args[1], tonumber(args[3])
local v = call('GET', key)
if not v or v == '\192' then return 'absent' end
local codec = v:byte()
if codec ~= 0xC1 and codec ~= 0xC2 or #v < 94 then return {'other', v} end
local idle, absolute, size = struct.unpack('>I8I8I2', v, 74)
if now >= idle or now >= absolute then return 'absent' end
if v:sub(2, 9) ~= args[2] then
  if not args[5] then return {'conflict', v} end
  if v == new then return 'ok' end
  if struct.unpack('>I8', v, 2) > struct.unpack('>I8', new, 2) then return 'unknown' end
  return {'conflict', v}
end
if v:sub(90, 91 + size) ~= new:sub(90, 91 + size) then return 'user' end -- the user's length, and the user
local set = redis.pcall('SET', key, new, 'PXAT', args[4])
if set.err then
  -- Redis' memory is full. Where the record stays as it is or grows by little, as in a renewal, it makes room for itself.
  if not set.err:find('maxmemory', 1, true) or #new > #v + 64 then return set end
  call('DEL', key)
  call('SET', key, new, 'PXAT', args[4])
end
local was, ends = idle < absolute and idle or absolute, tonumber(args[4])
if KEYS[2] and ends ~= was then
  call('ZADD', KEYS[2], args[4], string.format('%012x', struct.unpack('>I8', v, 58)) .. key:sub(-22))
  if ends < was or redis.pcall('PEXPIREAT', KEYS[2], args[4], 'GT') ~= 1 then
    call('PEXPIREAT', KEYS[2], call('ZRANGE', KEYS[2], '-1', '-1', 'WITHSCORES')[2])
  end
end
return 'ok'
`)

// Behind the mark and its end, the mark's key may hold a list of the user's oldest sessions, which the limit will end next,
// the oldest first. Making the list takes a look at all of the user's sessions, which costs more than ten logins; the next
// logins are spared that look. A new session that is older than the last of the list (of a node whose clock is behind)
// deletes the list. A session that has ended meanwhile is not in the index any more, and so is skipped.
//
// KEYS record, index, mark (both absent without a user), replaced record (absent without Replace); ARGV record, its end, index
// member, mark (8 bytes; empty for any), limit (empty for none), now, end of tombstones, and one more if an earlier try may
// have gone through.
// Answers ok, and where another session ended: how many the limit ended, replaced record or "", the text of their keys
// | exists | revoked.
var createScript = newBare(`
local call, index, args = redis.call, KEYS[2], ARGV
local new, ends, mine, mark, limit, now = args[1], args[2], args[3], args[4], args[5], args[6]
if args[8] then
  local receipt = KEYS[1]:gsub('}:s:', '}:r:', 1)
  local done = call('GET', receipt)
  if done then
    call('PEXPIRE', receipt, '5000') -- WAIT waits for what was written
    if done:byte() >= 128 then return cmsgpack.unpack(done) end
    return {'ok', #done / 22, '', done}
  end
  local v = call('GET', KEYS[1])
  if v == new or v == '\192' then return 'ok' end
end
local known = index and call('GET', KEYS[3])
if known then
  if mark ~= '' and known:sub(1, 8) ~= mark and tonumber(now) < struct.unpack('>I8', known, 9) then
    return 'revoked'
  end
  if #known > 16 and tonumber(mine:sub(1, 12), 16) <= tonumber(known:sub(-34, -23), 16) then known = 'outdated' end
end
if not call('SET', KEYS[1], new, 'NX', 'PXAT', ends) then
  local v = call('GET', KEYS[1])
  local codec, now = v and v:byte(), tonumber(now)
  local over = v and (codec == 0xC1 or codec == 0xC2) and #v >= 94 and
    (now >= struct.unpack('>I8', v, 74) or now >= struct.unpack('>I8', v, 82))
  if v and not over then
    call('SET', (KEYS[1]:gsub('}:s:', '}:r:', 1)), cmsgpack.pack('exists'), 'PX', '5000')
    return 'exists'
  end
  call('SET', KEYS[1], new, 'PXAT', ends)
end
if not index then return 'ok' end

if known == 'outdated' then -- not before the SET, which Redis would let pass then although its memory is full
  call('DEL', KEYS[3])
  known = false
end
call('ZADD', index, ends, mine)
-- The index stays for as long as its last member. Redis answers 0 where it stays longer and where it is new, and an error
-- before 7.0.
if redis.pcall('PEXPIREAT', index, ends, 'GT') ~= 1 then
  call('PEXPIREAT', index, call('ZRANGE', index, '-1', '-1', 'WITHSCORES')[2])
end
if mine:byte(-2) % 16 == 0 then -- one login in twenty removes what has expired
  local t = call('TIME')
  call('ZREMRANGEBYSCORE', index, '-inf', t[1] * 1000 + math.floor(t[2] / 1000))
end
-- Members by rank cost nothing where there are none. Those whose sessions have expired count only if they are still there.
local over, expired = 0, false
if limit ~= '' then
  over = #call('ZRANGE', index, limit, '-1')
  if over > 0 then
    expired = #call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', '0', '1') > 0
    if expired then over = call('ZCOUNT', index, '(' .. now, '+inf') - limit end
  end
end
if not KEYS[4] and over <= 0 then return 'ok' end

local prefix, buried, names, replaced = KEYS[1]:sub(1, -23), args[7], {}, ''
local late = tonumber(now) >= tonumber(buried)
-- bury leaves a tombstone and reports whether a session was there. Redis lets it, full or not: the script has written before.
local function bury(key)
  if late then return call('DEL', key) == 1 end
  return call('SET', key, '\192', 'XX', 'PXAT', buried)
end

local v = KEYS[4] and call('GET', KEYS[4])
if v and #v >= 94 and (v:byte() == 0xC1 or v:byte() == 0xC2) and
  tonumber(now) < struct.unpack('>I8', v, 74) and tonumber(now) < struct.unpack('>I8', v, 82) then
  local user = 91 + struct.unpack('>I2', v, 90)
  if v:sub(90, user) == new:sub(90, user) then
    replaced = v
    bury(KEYS[4])
    if call('ZREM', index, string.format('%012x', struct.unpack('>I8', v, 58)) .. KEYS[4]:sub(-22)) == 1 then over = over - 1 end
  end
end

if over > 0 and known and #known > 16 and not expired then
  local from = 17
  while over > 0 and from < #known do
    local member = known:sub(from, from + 33)
    from = from + 34
    if call('ZREM', index, member) == 1 then
      over = over - 1
      local name = member:sub(13)
      if bury(prefix .. name) then names[#names + 1] = name end
    end
  end
  if from < #known then
    call('SET', KEYS[3], known:sub(1, 16) .. known:sub(from), 'PX', '60000')
  else
    call('DEL', KEYS[3])
  end
end
if over > 0 then
  -- The others whose records are there: not those that were evicted, or deleted by hand.
  local others, keys, found = {}, {}, {}
  for _, m in ipairs(call('ZRANGEBYSCORE', index, '(' .. now, '+inf')) do
    if m ~= mine then
      others[#others + 1] = m
      keys[#keys + 1] = prefix .. m:sub(13)
    end
  end
  local there = 0
  for i = 1, #keys, 500 do there = there + call('EXISTS', unpack(keys, i, math.min(i + 499, #keys))) end
  if there < #keys then
    local here = {}
    for i, m in ipairs(others) do
      if call('EXISTS', keys[i]) == 1 then here[#here + 1] = m else call('ZREM', index, m) end
    end
    others = here
  end
  -- In the order of creation, and of those created at the same time, of their keys' values. Redis compares strings as its
  -- locale has it, so numbers are sorted: the times.
  local times, at = {}, {}
  for _, m in ipairs(others) do
    local t = tonumber(m:sub(1, 12), 16)
    local same = at[t]
    if not same then
      times[#times + 1] = t
      at[t] = m
    elseif type(same) == 'table' then
      same[#same + 1] = m
    else
      at[t] = {same, m}
    end
  end
  table.sort(times)
  local value
  local function rank(m)
    if not value then
      local i = 0
      value = {}
      for c in ('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'):gmatch('.') do
        value[c] = string.format('%02d', i)
        i = i + 1
      end
    end
    return (m:sub(13):gsub('.', value))
  end
  local sorted = {}
  for _, t in ipairs(times) do
    local same = at[t]
    if type(same) == 'string' then
      sorted[#sorted + 1] = same
    else
      table.sort(same, function(a, b) return rank(a) < rank(b) end)
      for _, m in ipairs(same) do sorted[#sorted + 1] = m end
    end
  end
  over = #sorted + 1 - limit
  for i = 1, over do
    call('ZREM', index, sorted[i])
    local name = sorted[i]:sub(13)
    if bury(prefix .. name) then names[#names + 1] = name end
  end
  -- Not before this session, which is none of the others, is younger than all of them.
  local last = math.min(over + 64, #sorted)
  if tonumber(limit) > 16 and over > 0 and last > over and tonumber(sorted[last]:sub(1, 12), 16) < tonumber(mine:sub(1, 12), 16) and
    (not known or struct.unpack('>I8', known, 9) == 0) then
    call('SET', KEYS[3], string.rep('\0', 16) .. table.concat(sorted, '', over + 1, last), 'PX', '60000')
  end
end
if #names == 0 and replaced == '' then return 'ok' end
local receipt = table.concat(names)
local reply = {'ok', #names, replaced, receipt}
if replaced ~= '' then receipt = cmsgpack.pack(reply) end
call('SET', prefix:sub(1, -3) .. 'r:' .. KEYS[1]:sub(-22), receipt, 'PX', '5000')
return reply
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
if not idle or now >= idle or now >= absolute then
  redis.pcall('SET', KEYS[2], '', 'PX', 5000)
  return 'absent'
end
if v:sub(92, 91 + struct.unpack('>I2', v, 90)) ~= ARGV[3] then return 'user' end
call('DEL', KEYS[1])
if now < tonumber(ARGV[2]) then call('SET', KEYS[1], '\192', 'PXAT', ARGV[2]) end
if KEYS[3] then call('ZREM', KEYS[3], string.format('%012x', struct.unpack('>I8', v, 58)) .. KEYS[1]:sub(-22)) end
call('SET', KEYS[2], v, 'PX', 5000)
return {'ok', v}
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
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4], 'PXAT', ARGV[5]) end
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

// KEYS record; ARGV bytes. The script deletes the record if it still has these bytes.
var dropScript = newScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
`)

// KEYS receipt. The script writes, so that a WAIT after it waits for all earlier writes.
var confirmScript = newScript(`return answer(KEYS[1], {'ok'})`)
