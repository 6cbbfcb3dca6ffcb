"""Many clients at once, each asking for one fault after another, leaving or reading slowly."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from unittest.mock import patch

from tests.chaos.command import Command
from tests.chaos.dialects import DIALECTS, BrokenEndingError
from tests.chaos.provider import FAULTS, Provider
from tests.proxies import Answer, Client, request
from tests.upstreams import CANARY

_CANARY: Final = CANARY.encode()

_LEAVES: Final = 0.15
_READS_SLOWLY: Final = 0.1
_KEEPS_ALIVE: Final = 0.7

# Many times longer than the longest fault takes, for machines that are busy with other things.
_HANGS_AFTER: Final = 60.0


@asynccontextmanager
async def patient() -> AsyncIterator[None]:
    """Let the clients of `tests.proxies` wait as long as those here."""
    with patch("tests.proxies.PATIENCE", _HANGS_AFTER):
        yield


@dataclass(slots=True)
class Tally:
    """What the clients saw. problems: what must not be, each with the seed that led to it."""

    asked: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    leaks: int = 0
    hangs: int = 0

    def note(self, ending: str) -> None:
        self.endings[ending] += 1


class SlowReader(asyncio.StreamReader):
    """Waits before it takes a chunk."""

    async def readexactly(self, n: int) -> bytes:
        if n > _LINE_END:
            await asyncio.sleep(0.004)
        return await super().readexactly(n)


_LINE_END: Final = 2


class Storm:
    """Asks until it is told to stop.

    ending: set once the proxy was told to end; from then on it may turn clients away.
    """

    def __init__(self, command: Command, provider: Provider, seed: int) -> None:
        self.tally = Tally()
        self.ending = False
        self._command = command
        self._provider = provider
        self._random = random.Random(seed)  # noqa: S311 - repeatable

    async def blow(self, clients: int, seconds: float) -> None:
        """Let so many clients ask, for so long; the provider's door shuts now and then."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._open_and_shut(over))
            for _ in range(clients):
                group.create_task(self._ask_until(over, self._random.getrandbits(32)))
            await asyncio.sleep(seconds)
            over.set()

    async def quiet(self, seconds: float) -> bool:
        """Wait until the provider answers nobody any more; tell whether it came to that."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(visit.ended.wait() for visit in self._provider.visits))
        except TimeoutError:
            return False
        await self._provider.hang_up()
        return True

    async def _open_and_shut(self, over: asyncio.Event) -> None:
        weather = random.Random(self._random.getrandbits(32))  # noqa: S311
        while not await _within(over, weather.uniform(0.5, 1.5)):
            self._provider.shut()
            await asyncio.sleep(0.05)
            self._provider.open()

    async def _ask_until(self, over: asyncio.Event, seed: int) -> None:
        choices = random.Random(seed)  # noqa: S311
        await _within(over, choices.uniform(0, 0.5))
        client: Client | None = None
        while not over.is_set():
            try:
                client = await self.ask(choices, client)
            except ConnectionError as error:
                if not self.ending:
                    self._problem(f"a client cannot connect: {error!r}", "")
                return
        if client is not None:
            client.leave()

    async def ask(self, choices: random.Random, client: Client | None = None) -> Client | None:
        """Ask once; return the connection where it can be used again."""
        name = choices.choices(_NAMES, _OFTEN)[0]
        fault = FAULTS[name]
        dialect = choices.choice(tuple(DIALECTS))
        seed = choices.getrandbits(32)
        asked = {"fault": name, "dialect": dialect, "seed": seed, "stream": fault.streams}
        manner = choices.random()
        label = json.dumps(asked)
        if client is None:
            client = await self._connect(slowly=manner > 1 - _READS_SLOWLY)
        self.tally.asked += 1
        closings = self._provider.closings if self._provider.is_open else -1
        try:
            async with asyncio.timeout(_HANGS_AFTER):
                raw = request("POST", DIALECTS[dialect].path, label.encode())
                await client.send(raw)
                if manner < _LEAVES:
                    await self._leave(client, choices)
                    return None
                answer = await client.answer()
        except TimeoutError:
            self.tally.hangs += 1
            self._problem("it hangs", label)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if self.ending:
                self.tally.note("turned away")
            else:
                self._problem(f"no answer: {error!r}", label)
        else:
            self._look_for_canaries(answer.raw + answer.body, label)
            refused = closings != self._provider.closings
            self._read_ending(answer, asked, goes_well=fault.goes_well, excused=refused)
            if answer.headers.get("Connection") != "close" and choices.random() < _KEEPS_ALIVE:
                return client
        client.leave()
        return None

    async def _connect(self, *, slowly: bool) -> Client:
        loop = asyncio.get_running_loop()
        kind = SlowReader if slowly else asyncio.StreamReader
        reader = kind(limit=2**16 if slowly else 2**20, loop=loop)
        transport, protocol = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), "127.0.0.1", self._command.port
        )
        return Client(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def _leave(self, client: Client, choices: random.Random) -> None:
        """Leave before the answer, or after a part of it."""
        if choices.random() < 0.5:
            await asyncio.sleep(choices.uniform(0, 0.05))
        else:
            part = await client.reader.read(choices.randint(1, 2000))
            self._look_for_canaries(part, "a client that left")
        client.leave()
        self.tally.note("client left")

    def _look_for_canaries(self, raw: bytes, label: str) -> None:
        if _CANARY in raw:
            self.tally.leaks += 1
            self._problem("the provider's words came through", label)

    def _read_ending(
        self, answer: Answer, asked: dict[str, object], *, goes_well: bool, excused: bool
    ) -> None:
        streams = bool(asked["stream"])
        label = json.dumps(asked)
        try:
            ending = DIALECTS[str(asked["dialect"])].ending_of(answer, streams=streams)
        except BrokenEndingError as error:
            self._problem(f"{error}, at the end of {answer.raw[-300:]!r}", label)
            return
        kind = "stream" if streams else "object"
        self.tally.note(f"{kind} whole" if ending == "complete" else ending)
        went_well = ending == "complete"
        if went_well != goes_well and not ((excused or self.ending) and goes_well):
            self._problem(f"ends as {ending}: {answer.raw[-300:]!r}", label)

    def _problem(self, what: str, label: str) -> None:
        self.tally.problems.append(f"{what} {label}")


_NAMES: Final = tuple(FAULTS)
_OFTEN: Final = tuple(fault.often for fault in FAULTS.values())


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
