from __future__ import annotations
import json
import pytest
from postroom.http.gateway.release import REJECT, RELEASE
from postroom.http.gateway import tracking, held, queues, rejections, release_logs, account, login
from tests.http.conftest import Served, FIND
from tests.http.siblings import hold, ident
from tests.http.test_release import queue_of

async def test_release_forms(served: Served) -> None:
    out = []
    (e,) = await hold(served)
    i = ident(served, e)
    bodies = {
      "form": f'data={{"id":"{i}"}}&action=reject',
      "form2": f'data={{"id":"{i}"}}&data={{"id":"{i}","action":"reject"}}',
      "form3": f'data={{"id":"{i}","action":"reject"}}&data={{"id":"{i}"}}',
      "formfirst": f'action=reject&data={{"id":"{i}"}}',
      "multi": f'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{{"id":"{i}"}}\r\n--b\r\nContent-Disposition: form-data; name="action"\r\n\r\nreject\r\n--b--\r\n',
      "multi2": f'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{{"id":"{i}"}}\r\n--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{{"id":"{i}","action":"reject"}}\r\n--b--\r\n',
      "dup": f'{{"data":[{{"id":"{i}","action":"reject","action":null}}]}}',
      "dup2": f"{{'data':[{{'id':'{i}','action':'reject','action':None}}]}}",
      "dup3": f'{{"data":[{{"id":"{i}","action":"reject"}}],"data":[{{"id":"{i}"}}]}}',
      "meta": f'{{"meta":{{"action":"reject"}},"data":[{{"id":"{i}"}}]}}',
      "itemmeta": f'{{"data":[{{"id":"{i}","meta":{{"action":"reject"}}}}]}}',
      "nested": f'{{"data":[{{"data":[{{"id":"{i}"}}],"action":"reject"}}]}}',
      "mixed": f'{{"data":[{{"id":"{i}"}},{{"id":"{i}","action":"reject"}}]}}',
      "blankaction": f'{{"data":[{{"id":"{i}","action":" "}}]}}',
      "emptylist": f'{{"data":[{{"id":"{i}","action":[]}}]}}',
      "actionspace": f'{{"data":[{{"id":"{i}","action ":"reject"}}]}}',
    }
    from postroom.model import Action
    for n, b in bodies.items():
        for tgt in (RELEASE,):
            a = await served.post(tgt, served.signed(tgt), b.encode())
            q = await queue_of(served, e)
            print(n, a.status, a.body[:160], q)
            if q is not None and q.value != "held":
                await served.store.act(Action.HOLD, [e], actor="t", reason="")
    a = await served.post(RELEASE + "?action=reject", served.signed(RELEASE + "?action=reject"), json.dumps({"data":[{"id": i}]}).encode())
    print("query", a.status, a.body, await queue_of(served, e))

async def test_numbers(served: Served) -> None:
    big = "9" * 40
    await served.put()
    paths = [FIND, held.LIST, held.SUMMARY, RELEASE, REJECT, release_logs.PATH, queues.PATH, tracking.SEARCH, tracking.INFO, rejections.PATH, account.PATH]
    vals = [big, "-" + big, "1e308", "1e999", "'\\ud800'", "'\\x00'", "[[[[[]]]]]", "{a:{b:{c:1}}}", "18446744073709551616", "9223372036854775808", "true", "'" + "x" * 5000 + "'", "''", "-0", "0x10", "'\u202e'", "''''"]
    mems = ["id","ids","action","message","notify","reasonType","start","end","sortOrder","sortBy","type","searchBy","filterBy","admin","messageId","advancedTrackAndTraceOptions","mailbox","pagination","meta"]
    bad = []
    for p in paths:
        for v in vals:
            for m in mems:
                for shape in ("{data:[{%s:%s}]}", "{'data':{'%s':%s}}"):
                    if shape.startswith("{'") and v not in (big, "18446744073709551616"): continue
                    b = (shape % (m, v)).encode("utf-8", "surrogatepass")
                    a = await served.post(p, served.signed(p), b)
                    if a.status >= 500 : bad.append((p, b[:80], a.status))
        for b in (f'{{"meta":{{"pagination":{{"pageSize":{big}}}}}}}', f'{{"meta":{{"pagination":{{"pageToken":{big}}}}}}}', f'{{"data":{big}}}', f'{{"data":[{big},"x",[],true,1.5]}}', '{"meta":5}', '{"data":[{"searchBy":{"fieldName":"ALL","value":%s}}]}' % big, '{"data":[{"filterBy":[{"fieldName":%s,"value":%s}]}]}' % (big, big), '{"data":[{"id":%s}]}' % big, '{"%s":1}' % ("k"*1000), '{"data":[{"searchBy":{"fieldName":%s,"value":"x"}}]}' % big, '{"data":[{"sortOrder":"zz","x":%s}]}' % big,'{"data":[{"sortOrder":"zz","x":1e300}]}'):
            a = await served.post(p, served.signed(p), b.encode())
            if a.status >= 500: bad.append((p, b[:80], a.status))
    print(len(bad)); 
    for x in bad[:40]: print(x)
    print([l for l in served.told.lines if "http_failed" in l][:2])

async def test_login_body(served: Served) -> None:
    from tests.http.keys import basic
    for b in ("{data:[{userName:%s}]}" % ("9"*40), "[]", "5", "{data:5}", "{data:[{accessKey:[1]}]}", "{data:[{emailAddress:%s}]}" % ("9"*40), "{data:[{emailAddress:'a@b',x:%s},{y:%s}]}" % ("9"*40,"9"*30)):
        for p in (login.LOGIN, login.DISCOVER, "/oauth/token"):
            a = await served.post(p, {"Authorization": basic("a@b", "x"), "x-mc-app-id": served.keys["administrator"].app_id}, b.encode())
            print(p, b[:40], a.status, a.body[:120])
    for t in ("/api/gateway/find-processing-messages/", "/api", "/api/", "//api//gateway/find-processing-messages", "/API/gateway/find-processing-messages", "/api/%67ateway/find-processing-messages", "/api/gateway/../gateway/find-processing-messages"):
        a = await served.post(t, served.signed(t), b"{}")
        print(t, a.status, a.body[:150])
    for m in ("GET","HEAD","OPTIONS","PUT","TRACE","CONNECT"):
        from tests.http.conftest import talk, request_bytes
        try:
            import asyncio
            a = await asyncio.wait_for(talk(served.address, request_bytes(m, FIND, served.signed())), 3)
            print(m, a.status, a.headers, a.body[:100])
        except Exception as x: print(m, repr(x))
    h = served.signed(); 
    raw = request_bytes("POST", FIND, h | {"X-Request-Id": "a b"}, b"{}")
    a = await talk(served.address, raw); print(a.headers)
    for extra in ("Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"):
        raw = request_bytes("POST", FIND, h, b"{}").replace(b"Host:", extra.encode() + b"Host:", 1)
        try:
            a = await asyncio.wait_for(talk(served.address, raw), 4); print(extra, a.status, a.body[:150], a.headers.get("x-request-id"))
        except Exception as x: print(extra, repr(x))
