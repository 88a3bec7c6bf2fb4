-- POST /auth/refresh, each with the cookie that the one before it set. wrk does not say which connection a response belongs
-- to, so there is a thread for each connection, and each thread has a line of PEER_COOKIES.
local headers = {}

function init()
  headers["Accept"], headers["User-Agent"] = "application/json", os.getenv("PEER_USER_AGENT")
  local number = 0
  for cookie in io.lines(os.getenv("PEER_COOKIES")) do
    number = number + 1
    if number == line then
      headers["Cookie"] = cookie
    end
  end
  kept = 0 -- global: done reads it
end

function request()
  sent()
  return wrk.format("POST", "/auth/refresh", headers)
end

function response(_, answer)
  local set = answer["Set-Cookie"] or answer["set-cookie"]
  if set then
    headers["Cookie"] = set:match("^[^;]*")
  else
    kept = kept + 1
  end
end

function done(summary, latency)
  local failed = 0
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("kept")
  end
  report(summary, latency, failed)
end
