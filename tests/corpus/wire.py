"""A case through the whole proxy over real sockets: raw bytes in, raw bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy.app import serving
from proxy.core.errors import Credentials
from proxy.core.incident import Incident
from proxy.operate.record import Record
from proxy.settings import read_settings
from tests.corpus.case import Case
from tests.proxies import Answer, Client, request, shipped
from tests.upstreams import PATIENCE, Upstream, Visit, chunk

_BODY = b'{"model":"m"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the upstream says next, as it goes onto the wire."""

    status: int
    headers: Sequence[tuple[str, str]]
    pieces: Iterable[bytes]
    cut: bool = False
    reason: str = "Because"
    trailers: Sequence[tuple[str, str]] = ()

    async def __call__(self, visit: Visit) -> None:
        """Say it."""
        await visit.body()
        lines = [f"HTTP/1.1 {self.status} {self.reason}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        head = "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode()
        await visit.send(head, *(chunk(piece) for piece in self.pieces if piece))
        if self.cut:
            visit.close()
        else:
            lines = [f"{name}: {value}\r\n" for name, value in self.trailers]
            await visit.send("".join(["0\r\n", *lines, "\r\n"]).encode())


def said_by(case: Case, pieces: Iterable[bytes] | None = None) -> Said:
    return Said(
        status=case.status,
        headers=tuple(case.headers.items()),
        pieces=[case.body] if pieces is None else pieces,
        cut=case.cut,
    )


class Notes:
    """A log that hands out its records."""

    def __init__(self) -> None:
        self.records: asyncio.Queue[Record] = asyncio.Queue()
        self.bugs: list[str] = []

    def exchange(self, record: Record) -> None:
        self.records.put_nowait(record)

    def say(self, event: str, **fields: object) -> None:
        del event, fields

    def bug(self, event: str, reference: str) -> None:
        self.bugs.append(f"{event} ({reference})")


class Stage:
    """The proxy in front of an upstream that says what it is told to."""

    def __init__(self, port: int, notes: Notes) -> None:
        self.said = Said(status=500, headers=(), pieces=())
        self._port = port
        self._notes = notes
        self._client: Client | None = None

    async def ask(self, case: Case, said: Said | None = None) -> tuple[Answer, list[Incident]]:
        """Ask as the case's client; return the answer and the faults that were noted."""
        self.said = said_by(case) if said is None else said
        client, self._client = self._client, None
        if client is None:
            connection = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
            client = Client(*connection)
        body = _BODY if case.method == "POST" else b""
        await client.send(request(case.method, case.path, body, Authorization="Bearer sk-client"))
        answer = await client.answer(to=case.method)
        async with asyncio.timeout(PATIENCE):
            record = await self._notes.records.get()
        if answer.whole:
            self._client = client
        else:
            client.leave()
        return answer, record.incidents

    def leave(self) -> None:
        if self._client is not None:
            self._client.leave()


@asynccontextmanager
async def stage(credentials: Credentials = "client") -> AsyncIterator[Stage]:
    """Serve the proxy; its gate is on, as it is for users."""
    notes = Notes()

    async def script(visit: Visit) -> None:
        await one.said(visit)

    async with Upstream(script) as upstream:
        given = {"upstream": upstream.url, "listen": "127.0.0.1:0", "drain_timeout": 0.1}
        if credentials == "proxy":
            given["upstream_api_key"] = "sk-proxy"
        async with serving(read_settings(given, {}), shipped(), notes) as running:
            one = Stage(running.address.port, notes)
            try:
                yield one
            finally:
                one.leave()
    assert not notes.bugs
