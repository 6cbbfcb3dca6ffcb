"""Log lines on their way out: never waited for, and as few writes as there are turns of the loop.

Whoever reads the log of a container may stall. A full pipe would then hold up the event loop,
and with it every stream.

Invariant: once there is a loop, no call here waits, except `close`, and that not for long.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

# Lines that wait for a reader: some thousand exchanges, little beside what streams take.
_MOST: Final = 4 * 1024 * 1024
# POSIX: a pipe that select calls writable takes so many bytes at once, whole.
_AT_ONCE: Final = select.PIPE_BUF
# Seconds until a reader that stalls is tried again; and for it to read the rest at the end.
_AGAIN: Final = 0.05
_PATIENCE: Final = 1.0


class Outlet:
    """Writes lines to `out`, by its descriptor where it has one.

    said_of: makes the line that says how many were left out, because nobody read them.
    """

    def __init__(self, out: TextIO, said_of: Callable[[int], bytes]) -> None:
        self._out = out
        self._said_of = said_of
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False
        try:
            self._descriptor = out.fileno()
        except (io.UnsupportedOperation, ValueError):
            self._descriptor = -1
        else:
            # A file always takes what it is given; all others may have a reader that stalls.
            self._may_stall = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write from this loop from now on; before, each line is written at once."""
        self._loop = loop

    def write(self, line: bytes) -> None:
        """Write a line, or let it wait; one that would be too many is left out."""
        if self._descriptor < 0:
            self._out.write(line.decode() + "\n")
            return
        data = line + b"\n"
        if self._size + len(data) > _MOST:
            self._dropped += 1
            return
        self._keep(data)
        if self._loop is None:
            self.close()
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._on_turn)

    def close(self) -> None:
        """Write what waits, for as long as it is read."""
        self._loop = None
        until = time.monotonic() + _PATIENCE
        while not self._write_some() and time.monotonic() < until:
            select.select([], [self._descriptor], [], until - time.monotonic())

    def _keep(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)

    def _on_turn(self) -> None:
        self._is_due = False
        if not self._write_some() and self._loop is not None:
            self._is_due = True
            self._loop.call_later(_AGAIN, self._on_turn)

    def _write_some(self) -> bool:
        """Write what is taken without waiting; tell whether that is all."""
        while self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            written = self._put(data)
            self._size = 0
            if written < len(data):
                self._keep(data[written:])
                return False
            if self._dropped:
                line = self._said_of(self._dropped)
                self._dropped = 0
                self._keep(line + b"\n")
        return True

    def _put(self, data: bytes) -> int:
        """Write as much as is taken without waiting; return how much."""
        done = 0
        try:
            while done < len(data):
                if not self._may_stall:
                    done += os.write(self._descriptor, data[done:])
                elif select.select([], [self._descriptor], [], 0)[1]:
                    done += os.write(self._descriptor, data[done : done + _AT_ONCE])
                else:
                    break
        except BlockingIOError:
            pass  # somebody made the descriptor so, and it is full
        except OSError:
            return len(data)  # there is no reader any more, and no place to say so
        return done
