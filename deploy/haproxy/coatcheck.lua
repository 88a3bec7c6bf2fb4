-- Two actions for haproxy.cfg.
--
-- "coatcheck" asks coatcheck's /auth/verify about the request, with its session cookie and what a redirect to the login page
-- needs, and puts the answer into txn.coatcheck.*. It decides nothing: haproxy.cfg lets in what has status 200, and a status that
-- was never set is not 200.
--
-- "coatcheck-cookies" takes cookies out of the request: "others" leaves the application what is not the session's, with which it
-- could act as the user; "ours" leaves coatcheck what begins with the session cookie's name.

local name = "__Host-coatcheck"
local timeout = 600 -- ms; HAProxy tries four times

-- cookies returns the request's cookies for which wanted(name) holds, as one header's value.
local function cookies(sent, wanted)
	local found, lines = {}, sent["cookie"]
	for i = 0, lines and #lines or -1 do
		for pair in lines[i]:gmatch("[^;]+") do
			-- Without blanks around it. (One pattern for both ends would take time by the square of a run of blanks.)
			local first = pair:find("[^ \t]")
			pair = first and pair:match("^.*[^ \t]", first) or ""
			if pair ~= "" and wanted(pair:match("^[^=]*")) then
				table.insert(found, pair)
			end
		end
	end
	return table.concat(found, "; ")
end

core.register_action("coatcheck-cookies", { "http-req" }, function(txn, which)
	local kept = cookies(txn.http:req_get_headers(), function(cookie)
		if which == "ours" then
			return cookie:sub(1, #name) == name
		end
		return cookie ~= name
	end)
	txn.http:req_del_header("cookie")
	if kept ~= "" then
		txn.http:req_add_header("cookie", kept)
	end
end, 1)

core.register_action("coatcheck", { "http-req" }, function(txn, url)
	txn:set_var("txn.coatcheck.status", 503)
	local sent = txn.http:req_get_headers()
	local ask = {
		["host"] = { "coatcheck" },
		["x-forwarded-for"] = { txn.f:src() },
		["x-forwarded-method"] = { txn.f:method() },
		["x-forwarded-proto"] = { "https" },
		["x-forwarded-uri"] = { txn.f:pathq() },
	}
	local session = cookies(sent, function(cookie) return cookie == name end)
	if session ~= "" then
		ask["cookie"] = { session }
	end
	for header, as in pairs({ accept = "accept", ["sec-fetch-mode"] = "sec-fetch-mode", host = "x-forwarded-host" }) do
		for i = 0, sent[header] and #sent[header] or -1 do
			ask[as] = ask[as] or {}
			table.insert(ask[as], sent[header][i])
		end
	end
	-- unix@SOCKET:PATH for a Unix socket.
	local socket, path = url:match("^(unix@[^:]*):(.*)$")
	local answer = core.httpclient():get({ url = socket and "http://127.0.0.1" .. path or url, dst = socket, headers = ask, timeout = timeout })
	if not answer or not answer.status or not answer.headers then
		return
	end
	local function header(field)
		return answer.headers[field] and answer.headers[field][0]
	end
	if answer.status == 302 and header("location") then
		txn:set_var("txn.coatcheck.location", header("location"))
	elseif answer.status == 200 then
		-- coatcheck sends both, always. An answer without them is not its.
		if not header("remote-user") or not header("remote-session-id") then
			return
		end
		for _, field in ipairs({ "user", "name", "email", "groups", "session-id" }) do
			txn:set_var("txn.coatcheck." .. field:gsub("-", "_"), header("remote-" .. field) or "")
		end
	end
	txn:set_var("txn.coatcheck.body", answer.body or "")
	txn:set_var("txn.coatcheck.status", answer.status)
end, 1)
