"""nginx in front, as its file says: every event as it comes, every ending as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.deploy.engine import PATIENCE, free_port
from tests.deploy.tools import DEPLOY, need
from tests.proxies import Client, Proxy, proxy_for, request
from tests.transport.test_shutdown import paused
from tests.upstreams import (
    LAST_CHUNK,
    STREAM_HEAD,
    Upstream,
    Visit,
    chunk,
    created,
    delta,
    says_json,
)

pytestmark = pytest.mark.deploy

# What a system's own nginx.conf says around the file; nothing of it outside a folder of the test's.
AROUND = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    gzip on;
    gzip_types text/event-stream;
    {discreet}
}}
"""


@asynccontextmanager
async def nginx(proxy: Proxy, folder: Path) -> AsyncIterator[int]:
    """Run nginx before the proxy; yield its port."""
    need("nginx")
    port = free_port()
    text = (DEPLOY / "nginx" / "discreet.conf").read_text()
    for ours, here in (("127.0.0.1:8080", f"127.0.0.1:{proxy.port}"), ("8000", str(port))):
        assert text.count(ours) == 1
        text = text.replace(ours, here)
    config = folder / "nginx.conf"
    config.write_text(AROUND.format(folder=folder, discreet=text))
    process = await asyncio.create_subprocess_exec(
        *("/usr/sbin/nginx", "-p", str(folder), "-c", str(config)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    (await connect(port)).leave()
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))


ASKED = request(body=b'{"stream": true}', Accept_Encoding="gzip")


async def test_every_event_goes_on_as_it_comes(tmp_path: Path) -> None:
    then = asyncio.Event()
    async with (
        Upstream(paused(then=then)) as upstream,
        proxy_for(upstream.url) as proxy,
        nginx(proxy, tmp_path) as port,
    ):
        client = await connect(port)
        await client.send(ASKED)
        await client.until(b"Hello")
        then.set()
        rest = await client.until(LAST_CHUNK)
        client.leave()
    assert rest.count(b"event: response.completed\n") == 1


async def test_a_stream_that_breaks_off_ends_as_discreet_ends_it(tmp_path: Path) -> None:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(STREAM_HEAD, chunk(created() + delta("Hello")))
        visit.reset()

    async with (
        Upstream(script) as upstream,
        proxy_for(upstream.url) as proxy,
        nginx(proxy, tmp_path) as port,
    ):
        client = await connect(port)
        await client.send(ASKED)
        answer = await client.answer()
        client.leave()
    assert answer.whole
    assert answer.body.count(b"event: response.failed\n") == 1


async def test_an_error_keeps_its_status_its_words_and_its_wait(tmp_path: Path) -> None:
    busy = says_json(
        {"error": {"message": "no", "code": "rate_limit_exceeded"}}, 429, Retry_After="7"
    )
    async with (
        Upstream(busy) as upstream,
        proxy_for(upstream.url) as proxy,
        nginx(proxy, tmp_path) as port,
    ):
        client = await connect(port)
        await client.send(request(body=b"{}"))
        answer = await client.answer()
        client.leave()
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["Retry-After"] == "7"
    assert answer.headers["x-should-retry"] == "true"
