"""The recipe with what openapi-python-client makes of the document, as the package coatcheck_client. Usage: generated.py URL."""

import sys

from coatcheck_client import Client
from coatcheck_client.api.devices import list_sessions
from coatcheck_client.api.proxy import verify, verify_post
from coatcheck_client.api.session import login, logout, me, refresh, user_info
from coatcheck_client.models import AnonymousSession, Device, Login, Problem, SessionList, UserInfo, UserSession

with Client(base_url=sys.argv[1], httpx_args={"trust_env": False}) as client:
    assert isinstance(me.sync(client=client), AnonymousSession)
    refused = user_info.sync(client=client)
    assert isinstance(refused, Problem) and refused.code == "unauthenticated", refused

    began = login.sync(client=client, body=Login(user_id="Jürgen 🧥"))
    assert isinstance(began, UserSession) and began.user_id == "Jürgen 🧥", began
    assert me.sync(client=client) == began
    print("login, me")

    renewed = refresh.sync(client=client)
    assert isinstance(renewed, UserSession) and renewed.refreshed and renewed.session_id != began.session_id, renewed
    sessions = list_sessions.sync(client=client)
    assert isinstance(sessions, SessionList), sessions
    (session,) = sessions.sessions
    assert isinstance(session, Device) and session.session_id == renewed.session_id and session.current, session
    info = user_info.sync(client=client)
    assert isinstance(info, UserInfo) and info.sub == "Jürgen 🧥", info
    for asked in (verify, verify_post):
        answer = asked.sync_detailed(client=client)
        assert answer.status_code == 200 and answer.headers["Remote-Session-Id"] == renewed.session_id, answer
    print("refresh")

    assert logout.sync_detailed(client=client).status_code == 204
    assert isinstance(me.sync(client=client), AnonymousSession)
    print("logout")
