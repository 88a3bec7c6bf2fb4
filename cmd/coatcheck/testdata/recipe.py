"""The recipe with Python's http.cookiejar. Usage: recipe.py URL. Prints a line for each step."""

import http.cookiejar
import json
import sys
import time
import urllib.request

base = sys.argv[1]
jar = http.cookiejar.CookieJar()
# No proxy, whatever the environment names: the server is on this machine.
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
ANONYMOUS = {"authenticated": False, "user_id": None, "refreshed": False, "session_id": None}


def call(method, path, body=None):
    request = urllib.request.Request(base + path, method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with browser.open(request, timeout=20) as response:
        text = response.read()
        return response.status, json.loads(text) if text else None


assert call("GET", "/auth/me") == (200, ANONYMOUS)
assert len(jar) == 0

status, login = call("POST", "/auth/login", {"user_id": "Jürgen 🧥"})
assert status == 200 and login["user_id"] == "Jürgen 🧥", login
assert call("GET", "/auth/me") == (200, login)
(cookie,) = jar
assert cookie.name == "coatcheck" and cookie.path == "/" and not cookie.secure and not cookie.domain_specified, cookie
assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "Lax", cookie
assert abs(cookie.expires - time.time() - 12 * 3600) < 60, cookie.expires
print("login, me")

status, refreshed = call("POST", "/auth/refresh")
assert refreshed["refreshed"] and refreshed["session_id"] != login["session_id"], refreshed
(successor,) = jar
assert successor.value != cookie.value
print("refresh")

assert call("POST", "/auth/logout") == (204, None)
assert len(jar) == 0, list(jar)
assert call("GET", "/auth/me") == (200, ANONYMOUS)
jar.set_cookie(successor)
assert call("GET", "/auth/me") == (200, ANONYMOUS)
print("logout")
