"""The leak suite's count, printed at the end of every run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from proxy.core.errors import Credentials
from tests.corpus.wire import Stage, stage


@dataclass(slots=True)
class Tally:
    """What was planted, and what came out."""

    exchanges: int = 0
    canaries: int = 0
    leaks: int = 0


_TALLY = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash.setdefault(_TALLY, Tally())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy() -> AsyncIterator[Stage]:
    """The clients send keys of their own."""
    async with stage("client") as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(proxy: Stage) -> AsyncIterator[dict[Credentials, Stage]]:
    """The same, and a proxy that sends its own key."""
    async with stage("proxy") as one:
        yield {"client": proxy, "proxy": one}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tally = config.stash.get(_TALLY, None)
    if tally is not None and tally.exchanges:
        terminalreporter.write_line(
            f"leak suite: {tally.exchanges} exchanges, {tally.canaries} canaries planted, "
            f"{tally.leaks} leaks"
        )
