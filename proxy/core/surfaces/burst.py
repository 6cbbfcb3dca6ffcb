"""Usual events that come together and are not alike: each has more of its own than slots can hold.

They are framed by one split, and then parsed and judged each by itself.

Invariant: `run` passes what judging each event by itself would pass, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any, Final

from orjson import JSONDecodeError, loads

from proxy.core.jsontext import has_no_error
from proxy.core.sse import CR, LF

# Bytes that are looked at at once: some hundred events, or a part of one image.
_REACH: Final = 64 * 1024


class Burst:
    """Finds the usual events of one name.

    usual: judges events by their parsed JSON and their name: returns how many are usual, from the
        first on, and notes these.
    begin: what such an event begins with, framed; b"" while none is looked for.
    """

    __slots__ = ("_between", "_name", "_usual", "begin")

    def __init__(self, usual: Callable[[Iterable[Any], bytes], int]) -> None:
        self._usual = usual
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
        *pieces, last = whole.split(self._between)
        if pieces and not _is_plain(b"".join(pieces)):
            pieces = list(takewhile(_is_plain, pieces))
        elif _is_plain(last):  # other events may stand behind the burst
            pieces.append(last)
        count = self._usual(_values(pieces), self._name)
        return start + sum(map(len, pieces[:count])) + len(self._between) * count, count


def _values(pieces: list[bytes]) -> Iterator[Any]:
    """Parse the pieces one by one, up to one that is no JSON: whoever judges may stop before."""
    with suppress(JSONDecodeError):
        yield from map(loads, pieces)


def _is_plain(piece: bytes) -> bool:
    """Tell whether nothing is hidden: JSON may hold line ends between words, and names twice."""
    return LF not in piece and has_no_error(piece)
