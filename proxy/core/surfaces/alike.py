"""Events that differ from one that was judged in what is said and counted, and in nothing else.

Parsing is most of what an event costs, and most events of a stream are the same bytes around
another piece of text, a number and some padding. Of an event that was parsed and found ordinary,
the bytes around these slots are kept. Where the same bytes stand around one string or number
each, the event is the same object with others in their places: its keys and all else in it are
those that were judged. A run of such events is found by one split and proven by one parse.

Invariant: `run` passes what judging each event by itself would pass, and nothing else.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile
from typing import Any, Final

from orjson import JSONDecodeError, loads

from proxy.core.jsontext import has_names_once, is_out_of_measure, write_json
from proxy.core.sse import CR, LF

# So many lessons are given to a provider whose events are never alike. A lesson costs as much as
# some events: it was worth it when so many were alike.
_LESSONS: Final = 8
_WORTH_IT: Final = 16

# Bytes of the largest event that is learned from: an image is like no other.
_LARGEST: Final = 4096

# Bytes that are looked at for one run, at first and at most: some ten or some hundred events. Where
# runs are short, what is looked at beyond their end is lost.
_REACH: Final = 16 * 1024
_FAR_REACH: Final = 64 * 1024

# Bytes on each side of where two events meet: `"}` and a blank line, `data: ` and a brace.
_MEET: Final = 4

# What stands for the bytes between two slots while a run is parsed: no slot holds these values, and
# no string can hold a line's end (RFC 8259, section 7). With spaces behind it is as long as what it
# stands for, and takes half the time to be put in its place.
_BETWEEN_SLOTS: Final[tuple[tuple[bytes, type], ...]] = (
    (b",null,\n", type(None)),
    (b",true,\n", bool),
)


class Alike:
    """What the events of one stream have in common, once it is learned.

    passed: called after each run with the last number in it, where events have one.

    begin: what such an event begins with, framed; b"" until one was learned.
    lessons: how many events will still be learned from.
    """

    __slots__ = (
        "_around",
        "_between",
        "_cut",
        "_end",
        "_kinds",
        "_last",
        "_meeting",
        "_mids",
        "_passed",
        "_reach",
        "_rest",
        "_served",
        "_slots",
        "_tail",
        "begin",
        "lessons",
    )

    def __init__(self, passed: Callable[[int], None] | None = None) -> None:
        self._passed = passed
        self.lessons = _LESSONS
        self.begin = b""
        self._reach = _REACH
        self._served = 0  # events that were alike since the last lesson
        self._last: list[Any] = []

    def run(self, chunk: bytes, start: int) -> tuple[int, int]:
        """Return where such events, of which the first begins at `start`, end, and their number."""
        if chunk.find(b"\n", start + len(self.begin)) == len(chunk) - 2:
            end, count = self._alone(chunk, start)
        else:
            end, count = self._together(chunk, start)
        if count:
            self._served += count
            if self._passed is not None and int in self._slots:
                self._passed(self._last[self._slots.index(int)])
        return end, count

    def _together(self, chunk: bytes, start: int) -> tuple[int, int]:
        # To the last line end: what has none may be half an image, and a search in it long.
        whole = chunk[start + _MEET : chunk.rfind(b"\n", start, start + self._reach) + 1]
        # Split by the few bytes where two events meet: to search for all that stands between
        # two of them takes five times as long.
        *pieces, last = whole.split(self._meeting)
        edge = self._meeting[:-_MEET]
        meets_at = last.find(b"\n", len(self._rest)) + 2 - len(edge)
        if last.startswith(edge, meets_at):
            pieces.append(last[:meets_at])
        # What ends a stream is not alike, and stands behind all that is.
        while pieces and not (pieces[-1].endswith(self._end) and pieces[-1].startswith(self._rest)):
            pieces.pop()
        insides = [piece[self._cut] for piece in pieces]
        insides = insides[: self._count(insides, whole)]
        if not self._are_alike(insides):
            insides = list(takewhile(lambda inside: self._are_alike([inside]), insides))
        size = self._around * len(insides) + len(b"".join(insides))
        self._reach = _FAR_REACH if size * 2 > self._reach else _REACH
        return start + size, len(insides)

    def _alone(self, chunk: bytes, start: int) -> tuple[int, int]:
        """Return the same for what can be one such event: nothing else has come."""
        at, end = start + len(self.begin), len(chunk) - len(self._tail)
        if not chunk.endswith(self._tail) or is_out_of_measure(chunk):
            return start, 0
        if self._mids:
            is_alike = end - at <= _LARGEST and self._is_alike(chunk[at:end])
        else:
            quoted = slice(at - 1, end + 1)
            is_alike = _is_string(
                memoryview(chunk)[quoted] if end - at > _LARGEST else chunk[quoted]
            )
        return (len(chunk), 1) if is_alike else (start, 0)

    def _count(self, insides: list[bytes], whole: bytes) -> int:
        """Return for how many of the insides such events, written again, are the same bytes."""
        written = b"%b%b%b" % (self._rest, self._between.join(insides), self._tail)
        if whole.startswith(written):
            return len(insides)
        sizes = accumulate(map(len, insides))
        ends = [size + self._around * n - _MEET for n, size in enumerate(sizes, 1)]
        return bisect(ends, 0, key=lambda end: not whole.startswith(written[:end]))

    def _is_alike(self, inside: bytes) -> bool:
        """Tell the same of a single inside, of more than one slot and without a line end.

        Pieces of it are parsed as one list, with line ends between them: as many values as pieces,
        none of which could hold others, are one in each.
        """
        rest, pieces = inside, []
        for mid, _ in self._mids:
            piece, _, rest = rest.partition(mid)
            pieces.append(piece)
        pieces.append(rest)
        try:
            values = loads(b"[%b]" % b",\n".join(pieces))
        except JSONDecodeError:
            return False
        if CR in inside or list(map(type, values)) != self._slots:
            return False
        self._last = values
        return True

    def _are_alike(self, insides: list[bytes]) -> bool:
        """Tell whether each inside is what the slots hold, with what stands between them.

        Of one slot it is the inside of a string. Of more, all are parsed as one list of values.
        There are as many values as slots and places between slots, each of its kind; there are as
        many line ends as there are places between slots and between insides, so that none of these
        is inside a string, and none was there before. Then no comma is left for anything else: an
        inside that had more values, or fewer, would begin or end where two commas meet.
        """
        count, mids = len(insides), self._mids
        if not mids:
            return _are_strings(insides)
        text = b"".join(insides)
        if LF in text or CR in text:
            return False
        text = b",\n".join(insides)
        for mid, place in mids:
            text = text.replace(mid, place)
        if text.count(LF) != count * (len(mids) + 1) - 1:
            return False
        try:
            values = loads(b"[%b]" % text)
        except JSONDecodeError:
            return False
        if list(map(type, values)) != self._kinds * count:
            return False
        self._last = values[-len(self._kinds) :: 2]
        return True

    def learn(self, data: bytes, slots: Sequence[tuple[str, object]], event: bytes = b"") -> None:
        """Keep what stands around the slots in an event that was judged, if that can be told.

        data: one line, found ordinary whatever the string or number is that stands under the
            name of a slot in it.
        slots: at most three, their names and what is in them. The first is what is said. Where
            one of them cannot be found, nothing is learned.
        event: the event's own name.
        """
        if self._served >= _WORTH_IT:
            self.lessons = _LESSONS
        if not self.lessons or len(data) > _LARGEST:
            return
        self.lessons -= 1
        self._served = 0
        # Where a name stands twice, what a slot says decides whether `parse_json` looks closely.
        if LF in data or not has_names_once(data):
            return
        (name, said), *others = slots
        place = _place(data, name, said)
        if place is None or type(said) is not str:
            return
        start, end = place
        kinds: list[type] = [str]
        mids: list[tuple[bytes, bytes]] = []
        if others:
            places: list[tuple[int, int, type]] = [(start, end, str)]
            for name, value in others:
                place = _place(data, name, value)
                if place is None:
                    return
                places.append((*place, type(value)))
            (start, end, kinds[0]), *behind = sorted(places)
            for (at, ends_at, kind), (mark, between) in zip(behind, _BETWEEN_SLOTS, strict=False):
                mid = data[end:at]
                mids.append((mid, mark.ljust(len(mid))))
                kinds += [between, kind]
                end = ends_at
        if not mids:  # its quotes stand around it
            start, end = start + 1, end - 1
        self._kinds, self._slots, self._mids = kinds, kinds[::2], mids
        named = b"event: %b\n" % event if event else b""
        self.begin = named + b"data: " + data[:start]
        self._tail = data[end:] + b"\n\n"
        edge = self._tail[-_MEET:]
        self._meeting = edge + self.begin[:_MEET]
        self._rest, self._end = self.begin[_MEET:], self._tail[: -len(edge)]
        self._cut = slice(len(self._rest), -len(self._end) or None)
        self._between = self._tail + self.begin
        self._around = len(self._between)


def _place(data: bytes, name: str, value: object) -> tuple[int, int] | None:
    """Find where a value begins and ends under its name; None where that cannot be told."""
    if type(value) not in (str, int):
        return None
    # The name's closing quote has no backslash before it, so that it cannot stand inside
    # another string: what follows is the value itself, or a number that begins like it.
    key, written = write_json(name), write_json(value)
    if type(value) is int and data.count(key) != 1:
        return None
    for colon in (b":", b": "):
        text = key + colon + written
        at = data.find(text)
        if at >= 0 and data.find(text, at + 1) < 0:
            end = at + len(text)
            if type(value) is int and not data.startswith((b",", b"}"), end):
                return None
            return end - len(written), end
    return None


def _are_strings(texts: list[bytes]) -> bool:
    """Tell whether each text is the inside of one JSON string.

    No string holds a line's end, so that each of those between the texts stands outside: no text
    can reach into the next. Where there is nothing but strings, a text that ends its own makes
    one more, so that they are too many.
    """
    try:
        found = loads(b'["%b"]' % b'",\n"'.join(texts))
    except JSONDecodeError:
        return False
    return len(found) == len(texts) and set(map(type, found)) == {str}


def _is_string(text: bytes | memoryview) -> bool:
    try:
        return type(loads(text)) is str
    except JSONDecodeError:
        return False
