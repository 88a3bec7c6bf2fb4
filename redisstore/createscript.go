package redisstore

// Where a login found its user at the limit, the mark's key holds behind the mark and its end a list of the user's oldest
// sessions, which the limit will end next, the oldest first. Making the list takes a look at all of the user's sessions,
// which costs more than ten logins; the next logins are spared that look:
//
//	 8  creation time of the list's last session. A new session that is older (of a node whose clock is behind) deletes the list.
//	 8  when the first of the user's sessions expires. From then on the list is not used: those that have expired do not count.
//	 2  number of the next ten
//	 2  how many tens there were at first; 0 if these are not all of the user's sessions
//	44  keys' text of the session that began last and of the one that it ended: the answer if that login is tried again
//	34  for each session, what the index has. One that has ended meanwhile is not in the index any more, and so is skipped.
//
// Redis hashes each string that comes into a script as a whole, so there are ten at most. The next ten have a key of their own.
// A new list deletes the key behind its last ten, so what an earlier one has left is not taken for a part of it.
//
// KEYS record, index, mark (both absent without a user), replaced record (absent without Replace); ARGV record, its end, index
// member, mark (8 bytes; empty for any), limit (empty for none), now, end of tombstones (empty if they end at once), and one
// more if an earlier try may have gone through.
// Answers ok and behind it the text of the keys of the sessions that the limit ended, and in a second part the replaced
// record if there was one | exists | revoked.
var createScript = newBare(`
local call, index, args = redis.call, KEYS[2], ARGV
local new, ends, mine, mark, limit, now = args[1], args[2], args[3], args[4], args[5], args[6]
if args[8] then
  local receipt = KEYS[1]:gsub('}:s:', '}:r:', 1)
  local done = call('GET', receipt)
  if done then
    call('PEXPIRE', receipt, '5000') -- WAIT waits for what was written
    if done:byte() >= 128 then return cmsgpack.unpack(done) end
    return 'ok' .. done
  end
  local v = call('GET', KEYS[1])
  if v == new or v == '\192' then
    local list = index and call('GET', KEYS[3])
    if list and #list > 16 and list:sub(37, 58) == mine:sub(13) then return 'ok' .. list:sub(59, 80) end
    return 'ok'
  end
end
local known = index and call('GET', KEYS[3])
local marked, youngest, first = known and #known == 16
if marked then
  if mark ~= '' and known:sub(1, 8) ~= mark then return 'revoked' end
  known = nil
elseif known then
  youngest, first = struct.unpack('>I8I8', known, 17)
  -- The list of a release before this one has text in the youngest's place, and so is outdated, too.
  if struct.unpack('>I8', new, 58) <= youngest or tonumber(ends) < first then known = 'outdated' end
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

-- makeRoom removes what has expired, and ends what the login ends. What it needs is passed, because a local of the script's that it used
-- would cost an allocation.
local function makeRoom(call, index, known, marked, first, over, new, mine, limit, now, buried, taken)
local expired = over > 0 and not (known and tonumber(now) < first) and #call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', '0', '1') > 0
if expired or mine:byte(-2) % 16 == 0 then -- one login in twenty removes what has expired
  local t = call('TIME')
  call('ZREMRANGEBYSCORE', index, '-inf', t[1] * 1000 + math.floor(t[2] / 1000))
end
if expired then over = call('ZCOUNT', index, '(' .. now, '+inf') - limit end
if not KEYS[4] and over <= 0 then return 'ok' end

local prefix, names, replaced = KEYS[1]:sub(1, -23), {}, ''
-- bury leaves a tombstone and reports whether a session was there. Redis lets it, full or not: the script has written before.
local function bury(key)
  if buried == '' then return call('DEL', key) == 1 end
  return call('SET', key, '\192', 'XX', 'PXAT', buried)
end

local v = KEYS[4] and call('GET', KEYS[4])
if v and #v >= 94 and (v:byte() == 0xC1 or v:byte() == 0xC2) then
  local created, _, idle, absolute, size = struct.unpack('>I8I8I8I8I2', v, 58)
  local last = math.min(idle, absolute)
  if tonumber(now) < last and v:sub(90, 91 + size) == new:sub(90, 91 + size) then
    replaced = v
    local member = string.format('%012x', created) .. KEYS[4]:sub(-22)
    if call('ZREM', index, member) == 1 then over, taken[1], taken[2] = over - 1, last, member end
  end
end

local told, finished = false, false -- whether the list has the answer, and whether it has come to its end
if over > 0 and known and not expired then
  local head, from = known:sub(1, 36), 81
  while over > 0 and from <= #known do
    local member = known:sub(from, from + 33)
    if call('ZREM', index, member) == 1 then
      over = over - 1
      local name = member:sub(13)
      if bury(prefix .. name) then names[#names + 1] = name end
    end
    from = from + 34
    if from > #known then
      local n, tens = struct.unpack('>I2I2', head, 33)
      local key = KEYS[3]:sub(1, -25) .. 'n:' .. KEYS[3]:sub(-22) .. ':' .. n
      local more = call('GET', key)
      if not more then -- The last one stays: a release before this one fails on a list without any.
        finished = n == tens
        from = from - 34
        break
      end
      head = head:sub(1, 32) .. struct.pack('>I2I2', n + 1, tens)
      known, from = head .. more, 37
      call('DEL', key)
    end
  end
  told = over <= 0 and #names == 1 and not KEYS[4] and first > tonumber(now) + 5000
  call('SET', KEYS[3], head .. (told and mine:sub(13) .. names[1] or string.rep('\0', 44)) .. known:sub(from), 'PXAT', first)
end
if over > 0 then
  -- By the time of creation, and of those created at the same time, by their keys' values. Redis compares strings as its
  -- locale has it, so numbers are sorted: the times.
  local function sort(members)
    local times, at, value, sorted = {}, {}, {}, {}
    local i = 0
    for c in ('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'):gmatch('.') do
      value[c] = string.format('%02d', i)
      i = i + 1
    end
    local function rank(m) return (m:sub(13):gsub('.', value)) end
    for _, m in ipairs(members) do
      local t = tonumber(m:sub(1, 12), 16)
      if not at[t] then
        times[#times + 1] = t
        at[t] = {}
      end
      at[t][#at[t] + 1] = m
    end
    table.sort(times)
    for _, t in ipairs(times) do
      table.sort(at[t], function(a, b) return rank(a) < rank(b) end)
      for _, m in ipairs(at[t]) do sorted[#sorted + 1] = m end
    end
    return sorted
  end
  -- A session that was evicted, or deleted by hand, does not count. None is looked for where a list of all sessions has come to
  -- its end: those that were there when it was made are not in the index any more.
  local sorted, ordered, previous = {}, true, -1
  for _, m in ipairs(call('ZRANGEBYSCORE', index, '(' .. now, '+inf')) do
    if m ~= mine and (finished or call('EXISTS', prefix .. m:sub(13)) == 1) then
      local t = tonumber(m:sub(1, 12), 16)
      sorted[#sorted + 1], ordered, previous = m, ordered and t > previous, t
    elseif m ~= mine then
      call('ZREM', index, m)
    end
  end
  if not ordered then sorted = sort(sorted) end
  over = #sorted + 1 - limit
  for i = 1, over do
    call('ZREM', index, sorted[i])
    local name = sorted[i]:sub(13)
    if bury(prefix .. name) then names[#names + 1] = name end
  end
  first = call('ZRANGE', index, '0', '0', 'WITHSCORES')[2]
  if tonumber(limit) > 16 and over > 0 and not marked and tonumber(now) < tonumber(first) then
    -- The list ends before this session, which is none of the others: all of it must be older.
    local last, born = math.min(over + 500, #sorted), (struct.unpack('>I8', new, 58))
    while last > over and tonumber(sorted[last]:sub(1, 12), 16) >= born do last = last - 1 end
    local tens = math.ceil((last - over) / 10)
    local ten = KEYS[3]:sub(1, -25) .. 'n:' .. KEYS[3]:sub(-22) .. ':' -- begins the keys of the list's tens but the first
    for n = 0, tens - 1 do
      local from = over + 1 + 10 * n
      local list = table.concat(sorted, '', from, math.min(from + 9, last))
      if n == 0 then
        local youngest, all = tonumber(sorted[last]:sub(1, 12), 16), last == #sorted and tens or 0
        list = struct.pack('>I8I8I8I8I2I2', 0, 0, youngest, first, 1, all) .. string.rep('\0', 44) .. list
      end
      call('SET', n == 0 and KEYS[3] or ten .. n, list, 'PXAT', first)
    end
    if tens > 0 then call('DEL', ten .. tens) end
  end
end
local reply = 'ok' .. table.concat(names)
if told or reply == 'ok' and replaced == '' then return reply end
local receipt = reply:sub(3)
if replaced ~= '' then
  reply = {reply, replaced}
  receipt = cmsgpack.pack(reply)
end
call('SET', prefix:sub(1, -3) .. 'r:' .. KEYS[1]:sub(-22), receipt, 'PX', '5000')
if replaced ~= '' then bury(KEYS[4]) end -- last: a login that Redis refuses leaves it alone
return reply
end

local refused
local taken = KEYS[4] and {} -- end and member of the index entry of the session to replace, once makeRoom has removed it
repeat -- once; Redis refuses a command to a user who lacks it, and where a key is of a foreign type
  refused = redis.pcall('ZADD', index, ends, mine)
  if refused ~= 1 and refused ~= 0 then break end
  if known == 'outdated' then -- not before the SET, which Redis would let pass then although its memory is full
    refused = redis.pcall('DEL', KEYS[3])
    if refused ~= 1 then break end
    known = nil
  end
  -- The index stays for as long as its last member. Redis answers 0 where it stays longer and where it is new, and an error
  -- before 7.0.
  if redis.pcall('PEXPIREAT', index, ends, 'GT') ~= 1 then
    local last = redis.pcall('ZRANGE', index, '-1', '-1', 'WITHSCORES')
    refused = last.err and last or redis.pcall('PEXPIREAT', index, last[2])
    if refused ~= 1 then break end
  end
  -- Members by rank cost nothing where there are none. Those whose sessions have expired count only if they are still there.
  local over = 0
  if limit ~= '' then
    refused = redis.pcall('ZRANGE', index, limit, '-1')
    if refused.err then break end
    over = #refused
  end
  if over == 0 and not KEYS[4] and mine:byte(-2) % 16 ~= 0 then return 'ok' end
  local done, reply = pcall(makeRoom, call, index, known, marked, first, over, new, mine, limit, now, args[7], taken)
  if done then return reply end
  refused = reply
until true
-- The session that was to be replaced goes on. Its index entry comes back before the index may be empty, and so gone with its TTL.
if taken and taken[1] then redis.pcall('ZADD', index, taken[1], taken[2]) end
-- Nobody gets the new session's token, so that session goes. If it cannot, its index entry stays: without that nobody could end it.
if redis.pcall('DEL', KEYS[1]) == 1 then redis.pcall('ZREM', index, mine) end
if type(refused) == 'table' then return refused end -- Redis 6.2 makes no error of a table
error(refused, 0)
`)
