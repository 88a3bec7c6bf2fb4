-- The driver puts this before the other scripts. wrk starts its clock when all of its threads run. On one core the first threads
-- have then made requests for some time, so that wrk would count these requests and not their time. This clock starts with the
-- first request.
local ffi = require("ffi")
ffi.cdef("typedef struct { long sec; long nsec; } peers_time; int clock_gettime(int, peers_time *);")

local function now()
  local t = ffi.new("peers_time")
  ffi.C.clock_gettime(1, t) -- CLOCK_MONOTONIC
  return tonumber(t.sec) + tonumber(t.nsec) / 1e9
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("line", #threads)
end

-- sent is called with each request. wrk makes the first thread's first request to check the script, long before the others.
local calls = 0
local function sent()
  calls = calls + 1
  if calls == 2 then
    began = now() -- global: report reads it
  end
end

-- report writes the result as JSON; failed is the number of errors that the script itself found.
local function report(summary, latency, failed)
  local ended, first = now(), math.huge
  for _, thread in ipairs(threads) do
    first = math.min(first, thread:get("began") or math.huge)
  end
  local e = summary.errors
  local kinds = string.format("connect %d, read %d, write %d, status %d, timeout %d, no new cookie %d",
    e.connect, e.read, e.write, e.status, e.timeout, failed)
  io.write(string.format('{"requests":%d,"microseconds":%d,"bytes":%d,"p50":%d,"p99":%d,"errors":%d,"kinds":"%s"}\n',
    summary.requests, (ended - first) * 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout + failed, kinds))
end

