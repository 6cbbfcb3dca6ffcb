"""The operator's port: health, metrics and incidents, never on the clients' port.

/                   the page
/livez              200 while the process runs
/startupz           200 while it serves, 503 before and while draining
/readyz             the same, and on demand 503 while the upstream's host does not answer
/metrics            Prometheus's text format
/status             how things stand
/history            errors by reply and rule, a minute each, for an hour
/incidents          the last errors, and those that no rule matched, grouped
/incidents/REF      the errors of one exchange
/table              the table in force, with hits
/events             each incident as it comes, as server-sent events
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from proxy.core.failures import Failure
from proxy.core.jsontext import write_json
from proxy.core.sse import ENCODED_KEEP_ALIVE, encode
from proxy.operate.incidents import Entry
from proxy.operate.office import Office
from proxy.transport.limits import Limits
from proxy.transport.reach import Reach
from proxy.transport.server import Server, bound_address

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PAGE: Final = Path(__file__).parent.parent / "operate" / "page.html"
# What a browser may do with the page: run what it holds, and ask where it came from.
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STATUS_EVERY: Final = 2.0
# Entries that wait for a slow browser; after that it misses some and loads them again.
_QUEUE: Final = 100


class AdminPort:
    """Answers the operator.

    token: what a request must bring as a bearer token; "" where none is asked for. Health is
        never asked for one, because orchestrators bring none.
    on_loopback: the port is for this machine alone, so that it is asked by address.
    reach: asked by /readyz, if at all.
    """

    def __init__(
        self, office: Office, token: str, reach: Reach | None, *, on_loopback: bool
    ) -> None:
        self._office = office
        self._reach = reach
        self._on_loopback = on_loopback
        self._token = token

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return _text(405, "only GET\n")
        office = self._office
        match request.path:
            case "/livez" | "/startupz" | "/readyz":
                ill = await self._ill(request.path)
                return _text(503, f"{ill}\n") if ill else _text(200, "ok\n")
            case "/" | "/index.html":
                headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"}
                page = _PAGE.read_text(encoding="utf-8")
                return web.Response(text=page, content_type="text/html", headers=headers)
        if not self._is_allowed(request):
            asks = "this port asks for a bearer token\n"
            return _text(401, asks if self._token else "ask by address, or set --admin-token\n")
        match request.path:
            case "/metrics":
                figures = await asyncio.to_thread(office.figures)
                return web.Response(body=figures, headers={"Content-Type": _METRICS_TYPE})
            case "/status":
                return _json(office.status())
            case "/history":
                return _json(office.history())
            case "/incidents":
                # Suggestions are proven when they are asked for, and no stream may wait for it.
                unmapped = await asyncio.to_thread(office.unmapped)
                return _json({"incidents": office.incidents.latest(), "unmapped": unmapped})
            case "/table":
                return _json(office.table())
            case "/events":
                return await self._events(request)
        found = office.incidents.find(request.path.removeprefix("/incidents/"))
        return _json(found) if found else _text(404, "not here\n")

    def refuse(self, request: web.BaseRequest, failure: Failure, detail: str) -> web.StreamResponse:
        """Answer a request that could not be read, or whose answer failed."""
        del request, detail
        return _text(500 if failure is Failure.INTERNAL else 400, f"{failure.meaning}\n")

    async def _ill(self, path: str) -> str:
        """Return what is wrong, if anything is, for whoever asks at `path`."""
        if path != "/livez" and not self._office.ready():
            return "not ready"
        if path == "/readyz" and self._reach is not None and not await self._reach.answers():
            return "the upstream does not answer"
        return ""

    def _is_allowed(self, request: web.BaseRequest) -> bool:
        if not self._token:
            return not self._on_loopback or _is_address(request.host)
        given = request.headers.get(hdrs.AUTHORIZATION, "").removeprefix("Bearer ")
        # A browser's EventSource can send no header.
        given = given or request.rel_url.query.get("token", "")
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token.encode())

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        queue: asyncio.Queue[Entry] = asyncio.Queue(_QUEUE)

        def listen(entry: Entry) -> None:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(entry)

        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        listeners = self._office.incidents.listen
        listeners.append(listen)
        try:
            while self._office.ready():
                await response.write(encode(write_json(self._office.status()), b"status"))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STATUS_EVERY):
                        while True:
                            entry = await queue.get()
                            await response.write(encode(write_json(entry), b"incident"))
                await response.write(ENCODED_KEEP_ALIVE)
        finally:
            listeners.remove(listen)
        return response


@asynccontextmanager
async def admin_port(
    address: tuple[str, int], office: Office, token: str, limits: Limits, reach: Reach | None
) -> AsyncIterator[tuple[str, int]]:
    """Answer the operator until the block is left; yield the address."""
    host, port = address
    on_loopback = host == "localhost" or host.startswith("127.") or host == "::1"
    admin = AdminPort(office, token, reach, on_loopback=on_loopback)
    server = Server(admin, admin.refuse, limits)
    listener = await asyncio.get_running_loop().create_server(server, host, port)
    try:
        yield bound_address(listener)
    finally:
        listener.close()
        await server.shutdown(1.0)


def _is_address(host: str) -> bool:
    """Tell whether a Host is an IP address or localhost.

    Any web page can make a browser ask a name that its owner lets resolve to 127.0.0.1 (DNS
    rebinding); it cannot make it say another Host.
    """
    name = host.rpartition(":")[0] if host.count(":") == 1 else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.partition("]")[0].removeprefix("["))
    except ValueError:
        return False
    return True


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text)


def _json(value: object) -> web.Response:
    return web.Response(body=write_json(value), content_type="application/json")
