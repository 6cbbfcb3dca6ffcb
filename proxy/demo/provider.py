"""The faulty provider: a server that fails in every way known, on request.

A request's `model` names the scenario. `python -m proxy.demo.provider` runs it on its own.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from proxy.demo.scenarios import BY_NAME, SCENARIOS, Ending, Scenario
from proxy.demo.wire import ChatWriter, ResponsesWriter, Writer, encode

# Seconds between two pieces of a stream: enough for each to be a packet of its own.
_PACE: Final = 0.02

# Seconds for answers that hang, once the server is told to end.
_LAST_WORDS: Final = 0.2

_STREAM: Final = {"content-type": "text/event-stream"}
_JSON: Final = {"content-type": "application/json"}


@asynccontextmanager
async def providing(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the block is left; give the server's URL."""
    app = web.Application()
    app.router.add_post("/v1/responses", _answer)
    app.router.add_post("/v1/chat/completions", _answer)
    app.router.add_get("/v1/models", _models)
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=_LAST_WORDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound_host, bound_port, *_ = runner.addresses[0]
        yield f"http://{bound_host}:{bound_port}"
    finally:
        await runner.cleanup()


async def _models(request: web.Request) -> web.Response:
    del request
    models = [
        {"id": one.name, "object": "model", "created": 0, "owned_by": "demo"} for one in SCENARIOS
    ]
    return web.Response(body=encode({"object": "list", "data": models}), headers=_JSON)


async def _answer(request: web.Request) -> web.StreamResponse:
    try:
        asked: Any = await request.json()
    except ValueError:
        asked = None
    asked = asked if isinstance(asked, dict) else {}
    model = str(asked.get("model"))
    scenario = BY_NAME.get(model)
    if scenario is None:
        return _no_such_model(model)
    if scenario.body is not None:
        return web.Response(status=scenario.status, headers=scenario.headers, body=scenario.body)
    in_chat = request.path.endswith("/chat/completions")
    writer: Writer = ChatWriter(model) if in_chat else ResponsesWriter(model)
    if asked.get("stream") is True:
        return await _send(request, scenario, _STREAM, _events(scenario, writer))
    if scenario.error is not None:
        return web.Response(status=500, headers=_JSON, body=encode({"error": scenario.error}))
    return await _send(request, scenario, _JSON, _object(scenario, writer))


def _no_such_model(model: str) -> web.Response:
    known = ", ".join(BY_NAME)
    message = f"The model `{model}` does not exist. Scenarios: {known}."
    error = {"message": message, "type": "invalid_request_error", "code": "model_not_found"}
    return web.Response(status=404, headers=_JSON, body=encode({"error": error}))


def _events(scenario: Scenario, writer: Writer) -> Iterator[bytes]:
    """Write a stream as far as it goes."""
    yield writer.begin()
    if scenario.tool_error:
        yield writer.tool_failed(scenario.tool_error)
    for text in scenario.words:
        yield writer.word(text)
    if scenario.error is not None:
        yield writer.error(scenario.error)
    elif scenario.ending is Ending.WHOLE:
        yield writer.end()
    elif scenario.ending is Ending.CUT:
        unfinished = writer.word(" and the")
        yield unfinished[: len(unfinished) // 2]


def _object(scenario: Scenario, writer: Writer) -> Iterator[bytes]:
    """Write an answer that is no stream, or half of it."""
    whole = writer.whole("".join(scenario.words))
    yield whole if scenario.ending is Ending.WHOLE else whole[: len(whole) // 2]


async def _send(
    request: web.Request, scenario: Scenario, headers: dict[str, str], pieces: Iterator[bytes]
) -> web.StreamResponse:
    """Send the pieces, and end as the scenario ends."""
    response = web.StreamResponse(headers={**headers, **scenario.headers})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
        await asyncio.sleep(_PACE)
    if scenario.ending is Ending.HANG:
        await asyncio.Event().wait()
    if scenario.ending is Ending.CUT and request.transport is not None:
        request.transport.write(b"400\r\n")  # a chunk of 1024 bytes is promised, none comes
        request.transport.abort()
        return response
    await response.write_eof()
    return response


async def until_stopped() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


async def _serve(host: str, port: int) -> None:
    async with providing(host, port) as url:
        sys.stdout.write(f"the faulty provider is ready: {url}\n")
        sys.stdout.flush()
        await until_stopped()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the provider on its own."""
    parser = argparse.ArgumentParser(
        prog="python -m proxy.demo.provider",
        description="A provider that fails on request: the model names the scenario.",
        epilog="scenarios: " + ", ".join(BY_NAME),
    )
    parser.add_argument("--listen", default="127.0.0.1:9000", metavar="HOST:PORT")
    host, _, port = parser.parse_args(arguments).listen.rpartition(":")
    if not host or not port.isdecimal():
        parser.error("--listen: write HOST:PORT, such as 127.0.0.1:9000")
    try:
        asyncio.run(_serve(host, int(port)))
    except OSError as error:
        parser.error(f"--listen: {error.strerror}")


if __name__ == "__main__":
    main()
