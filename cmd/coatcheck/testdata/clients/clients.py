"""The walk with the HTTP clients of Python that keep cookies. Usage: clients.py CLIENT URL [CA-FILE]. Prints a line for each step."""

import asyncio
import http.cookiejar
import json
import ssl
import sys
import urllib.error
import urllib.request

name, base, ca = sys.argv[1], sys.argv[2], (sys.argv + [None])[3]
STEPS = [
    ("GET", "/auth/me", None),
    ("GET", "/auth/userinfo", None),
    ("POST", "/auth/login", {"user_id": "Jürgen 🧥"}),
    ("GET", "/auth/me", None),
    ("POST", "/auth/refresh", None),
    ("GET", "/auth/me", None),
    ("POST", "/auth/logout", None),
    ("GET", "/auth/userinfo", None),
]


def contexts():
    return ssl.create_default_context(cafile=ca) if ca else None


async def walk(call, jar):
    """call sends a request and returns its status and body, jar is what the client would send back, as names and values."""
    before = []
    for method, path, body in STEPS:
        status, text = await call(method, path, body)
        said = json.loads(text) if text else {}
        now = jar()
        kept = "empty" if not now else "the same" if now == before else "new" if len(now) == 1 else "both"
        print(f"{method} {path}: {status} {said.get('code') or said.get('user_id') or 'nobody'}, jar {kept}")
        before = now


def in_turn(call):
    async def wrapped(*args):
        return call(*args)

    return wrapped


def with_urllib():
    jar = http.cookiejar.CookieJar()
    # No proxy, whatever the environment names: the server is on this machine. The same holds for the others.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar), urllib.request.HTTPSHandler(context=contexts())
    )

    def call(method, path, body):
        request = urllib.request.Request(base + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with opener.open(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    asyncio.run(walk(in_turn(call), lambda: [(c.name, c.value) for c in jar]))


def with_requests():
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.verify = ca or True

        def call(method, path, body):
            response = session.request(method, base + path, json=body, timeout=60)
            return response.status_code, response.content

        asyncio.run(walk(in_turn(call), lambda: [(c.name, c.value) for c in session.cookies]))


def with_httpx():
    import httpx

    with httpx.Client(base_url=base, trust_env=False, timeout=60, verify=contexts() or True) as client:

        def call(method, path, body):
            response = client.request(method, path, json=body)
            return response.status_code, response.content

        asyncio.run(walk(in_turn(call), lambda: [(c.name, c.value) for c in client.cookies.jar]))


async def with_aiohttp():
    import aiohttp

    # unsafe: its jar takes no cookies from addresses in figures otherwise.
    jar = aiohttp.CookieJar(unsafe=True)
    connector = aiohttp.TCPConnector(ssl=contexts() or True)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as session:

        async def call(method, path, body):
            async with session.request(method, base + path, json=body) as response:
                return response.status, await response.read()

        await walk(call, lambda: [(c.key, c.value) for c in jar])


if name == "aiohttp":
    asyncio.run(with_aiohttp())
else:
    {"urllib": with_urllib, "requests": with_requests, "httpx": with_httpx}[name]()
