-- The action "coatcheck" asks coatcheck's /auth/verify about the request, with its cookies and what a redirect to the login page
-- needs, and puts the answer into txn.coatcheck.*. It decides nothing: haproxy.cfg lets in what has status 200, and a status that
-- was never set is not 200.

local timeout = 2000 -- ms

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
	for name, as in pairs({ cookie = "cookie", accept = "accept", ["sec-fetch-mode"] = "sec-fetch-mode", host = "x-forwarded-host" }) do
		for i = 0, sent[name] and #sent[name] or -1 do
			ask[as] = ask[as] or {}
			table.insert(ask[as], sent[name][i])
		end
	end
	local answer = core.httpclient():get({ url = url, headers = ask, timeout = timeout })
	if not answer or not answer.status or not answer.headers then
		return
	end
	local function header(name)
		return answer.headers[name] and answer.headers[name][0]
	end
	if answer.status == 302 and header("location") then
		txn:set_var("txn.coatcheck.location", header("location"))
	elseif answer.status == 200 then
		-- coatcheck sends both, always. An answer without them is not its.
		if not header("remote-user") or not header("remote-session-id") then
			return
		end
		txn:set_var("txn.coatcheck.user", header("remote-user"))
		txn:set_var("txn.coatcheck.session", header("remote-session-id"))
	end
	txn:set_var("txn.coatcheck.status", answer.status)
end, 1)
