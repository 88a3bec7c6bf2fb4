-- GET /auth/me with the cookies of PEER_COOKIES, a line each, in turn; or POST /auth/login of as many users.
local scenario = os.getenv("PEER_SCENARIO")
local requests, n, i = {}, 0, 0

function init()
  local headers = { ["Accept"] = "application/json", ["User-Agent"] = os.getenv("PEER_USER_AGENT") }
  if scenario == "login" then
    headers["Content-Type"] = "application/json"
    for user = 1, tonumber(os.getenv("PEER_USERS")) do
      requests[user] = wrk.format("POST", "/auth/login", headers, string.format('{"user_id":"user-%07d"}', user))
    end
  else
    for cookie in io.lines(os.getenv("PEER_COOKIES")) do
      headers["Cookie"] = cookie
      requests[#requests + 1] = wrk.format("GET", "/auth/me", headers)
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
