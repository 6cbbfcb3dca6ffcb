"""Usual events that come together and are not alike: each has a number, a time or padding.

They are framed by one split, and then parsed and judged each by itself.

Invariant: `run` passes what judging each event by itself would pass, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from orjson import JSONDecodeError, loads

from proxy.core.jsontext import has_no_error
from proxy.core.sse import CR, LF

# Bytes that are looked at at once: some hundred events, or a part of one image.
_REACH: Final = 64 * 1024


class Burst:
    """Finds the usual events of one name.

    is_usual: judges an event by its parsed JSON and name, and notes it where it is usual.
    begin: what such an event begins with, framed; b"" while none is looked for.
    """

    __slots__ = ("_between", "_is_usual", "_name", "begin")

    def __init__(self, is_usual: Callable[[Any, bytes], bool]) -> None:
        self._is_usual = is_usual
        self._name = self._between = self.begin = b""

    def look_for(self, name: bytes) -> None:
        """Look for events of this name from now on; b"" is those that have none."""
        if not self.begin or name != self._name:
            self._name = name
            self.begin = b"event: %b\ndata: " % name if name else b"data: "
            self._between = b"\n\n" + self.begin

    def run(self, chunk: bytes, start: int) -> tuple[int, int]:
        """Return where such events, of which the first begins at `start`, end, and their number."""
        end = chunk.rfind(b"\n\n", start, start + _REACH)
        whole = chunk[start + len(self.begin) : end]
        if end < 0 or CR in whole:
            return start, 0
        pieces = whole.split(self._between)
        is_clean = has_no_error(whole)  # one search instead of many
        count = 0
        for piece in pieces:
            # JSON may hold line ends between its words.
            if LF in piece or not (is_clean or has_no_error(piece)):
                break
            try:
                value = loads(piece)
            except JSONDecodeError:
                break
            if not self._is_usual(value, self._name):
                break
            count += 1
        size = sum(map(len, pieces[:count]))
        return start + size + len(self._between) * count, count
