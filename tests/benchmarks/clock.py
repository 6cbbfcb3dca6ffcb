"""Calls at times that are not rounded to milliseconds, as uvloop's own timers are.

Rounded, the events of many streams come in bursts, one for each millisecond, and what is measured
as an event's delay is mostly its place in the burst.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import time
from collections.abc import Callable
from itertools import count
from typing import Final

_NONBLOCK: Final = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE: Final = 1
_NS: Final = 1_000_000_000

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Clock:
    """One timer of the kernel's (timerfd_create(2)) for all calls of an event loop.

    Times are seconds of the monotonic clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        loop.add_reader(self._timer, self._on_time)

    def call_at(self, due: float, call: Callable[[], None]) -> None:
        """Call at a time; what is not wanted any more must know it by itself."""
        heapq.heappush(self._calls, (due, next(self._number), call))
        if self._calls[0][0] == due:
            self._set(due)

    def _on_time(self) -> None:
        os.read(self._timer, 8)
        while self._calls and self._calls[0][0] <= time.monotonic():
            _, _, call = heapq.heappop(self._calls)
            call()
        if self._calls:
            self._set(self._calls[0][0])

    def _set(self, due: float) -> None:
        at = max(1, int(due * _NS))
        times = (ctypes.c_long * 4)(0, 0, at // _NS, at % _NS)  # struct itimerspec
        if _libc.timerfd_settime(self._timer, _ABSOLUTE, times, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
