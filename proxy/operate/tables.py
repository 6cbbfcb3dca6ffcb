"""The table in force, and how it is changed while the proxy runs.

A new table is read and proven before it takes the old one's place; a bad one changes nothing
but is told of. An exchange keeps the table that it began with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from watchfiles import awatch

from proxy.core.problem import TableError
from proxy.core.table import Table
from proxy.core.table_file import load_checked, shipped_file

# Editors write a file in several steps, kubelet swaps a link after writing the new folder.
_SETTLE_MS: Final = 300


class Tables:
    """Holds the table in force.

    path: the file or folder; None for the shipped table.
    said: told of every reload: why it was refused, or nothing where it took effect.
    """

    def __init__(self, path: Path | None, table: Table, said: Callable[[list[str]], None]) -> None:
        self.path = path
        self._said = said
        self.table = table
        self.loaded_at = time.time()
        self.version = 1
        self.refused: list[str] = []

    async def reload(self) -> bool:
        """Read the table again; keep the old one if the new one is not proven.

        It is read and proven in a thread, because no stream may wait for that.
        """
        try:
            table = await asyncio.to_thread(load_checked, self.path)
        except TableError as error:
            self.refused = [str(problem) for problem in error.problems]
            self._said(self.refused)
            return False
        self.table = table
        self.loaded_at = time.time()
        self.version += 1
        self.refused = []
        self._said([])
        return True

    async def watch(self) -> None:
        """Reload when the file changes, or the link that it is reached by."""
        if self.path is None:
            return
        async for _ in _changes(self.path):
            await self.reload()


async def _changes(path: Path) -> AsyncIterator[None]:
    """Yield at each change of what `path` leads to.

    The folder is watched, because a ConfigMap's file never changes: it is a link to a link that
    is swapped, and many editors replace a file instead of writing it.
    """
    before = _content(path)
    async for _ in awatch(_folder_of(path), recursive=False, debounce=_SETTLE_MS, step=50):
        after = _content(path)
        if after != before:
            before = after
            yield


def _folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _content(path: Path) -> tuple[tuple[str, bytes], ...]:
    files = sorted(path.glob("[!.]*.y*ml")) if path.is_dir() else [path]
    content = []
    for file in files:
        try:
            content.append((file.name, file.read_bytes()))
        except OSError:
            content.append((file.name, b""))
    return tuple(content)


def named(path: Path | None) -> str:
    """Return how a table is called."""
    return str(path or shipped_file())
