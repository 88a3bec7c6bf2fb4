-- GET /auth/me with the cookies of PEER_COOKIES, a line each, in turn; or POST /auth/login of PEER_USERS users. Each thread has
-- lines, or users, that no other thread has: thread k of n the lines k, k+n, k+2n and so on. Where there are fewer users than
-- threads, some threads share one.
local scenario = os.getenv("PEER_SCENARIO")
local all = tonumber(os.getenv("PEER_THREADS"))
local requests, n, i = {}, 0, 0

function init()
  local headers = { ["Accept"] = "application/json", ["User-Agent"] = os.getenv("PEER_USER_AGENT") }
  if scenario == "login" then
    headers["Content-Type"] = "application/json"
    local users = tonumber(os.getenv("PEER_USERS"))
    for user = math.min(line, users), users, all do
      requests[#requests + 1] = wrk.format("POST", "/auth/login", headers, string.format('{"user_id":"user-%07d"}', user))
    end
  else
    local number = 0
    for cookie in io.lines(os.getenv("PEER_COOKIES")) do
      number = number + 1
      if (number - line) % all == 0 then
        headers["Cookie"] = cookie
        requests[#requests + 1] = wrk.format("GET", "/auth/me", headers)
      end
    end
  end
  n = #requests
  -- From here on nothing is allocated; with a million requests the collector would be most of what wrk does.
  collectgarbage("stop")
end

function request()
  sent()
  i = i % n + 1
  return requests[i]
end

function done(summary, latency) report(summary, latency, 0) end
