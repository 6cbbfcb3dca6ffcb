"""The operator's port: health and metrics, never on the clients' port.

/livez     200 while the process runs
/readyz    200 while it serves, 503 before and while draining
/metrics   Prometheus's text format
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from proxy.core.failures import Failure
from proxy.transport.limits import Limits
from proxy.transport.server import Server, bound_address

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def admin_port(
    host: str, port: int, ready: Callable[[], bool], metrics: Callable[[], bytes], limits: Limits
) -> AsyncIterator[tuple[str, int]]:
    """Answer the operator until the block is left; yield the address."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path:
            case "GET" | "HEAD", "/livez":
                return _text(200, "ok\n")
            case "GET" | "HEAD", "/readyz":
                return _text(200, "ok\n") if ready() else _text(503, "not ready\n")
            case "GET" | "HEAD", "/metrics":
                return web.Response(body=metrics(), headers={"Content-Type": _METRICS_TYPE})
        return _text(404, "here are /livez, /readyz and /metrics\n")

    def refuse(request: web.BaseRequest, failure: Failure, detail: str) -> web.StreamResponse:
        del request, detail
        return _text(400, f"{failure.meaning}\n")

    server = Server(answer, refuse, limits)
    listener = await asyncio.get_running_loop().create_server(server, host, port)
    try:
        yield bound_address(listener)
    finally:
        listener.close()
        await server.shutdown(1.0)


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text)
