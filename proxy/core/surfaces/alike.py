"""Events that differ from one that was judged in what the model says, and in nothing else.

Parsing is most of what an event costs, and most events of a stream are the same bytes around
another piece of text. Of an event that was parsed and found ordinary, the bytes before and
after one string are kept. Where the same bytes stand around the inside of a JSON string, the
event is the same object with another text: its keys, its numbers and all its other strings are
those that were judged. A run of such events is found by one split and proven by one parse.

Invariant: `run` passes what judging each event by itself would pass, and nothing else.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate, takewhile
from typing import Final

from orjson import JSONDecodeError, loads

from proxy.core.jsontext import has_no_error, write_json
from proxy.core.sse import LF

# A provider whose events are never alike (a new id or time in each) is asked so many times.
_LESSONS: Final = 8

# Bytes of the largest event that is learned from: an image is like no other.
_LARGEST: Final = 4096

# Bytes that are looked at for one run: some hundred events, or a part of one image.
_REACH: Final = 64 * 1024

# Bytes on each side of where two events meet: `"}` and a blank line, `data: ` and a brace.
_MEET: Final = 4


class Alike:
    """What the events of one stream have in common, once it is learned.

    begin: what such an event begins with, framed; b"" until one was learned.
    lessons: how many events will still be learned from.
    found: one like another was there.
    """

    __slots__ = (
        "_around",
        "_between",
        "_end",
        "_meeting",
        "_rest",
        "_tail",
        "begin",
        "found",
        "lessons",
    )

    def __init__(self) -> None:
        self.begin = self._tail = self._meeting = self._rest = self._end = self._between = b""
        self._around = 0
        self.lessons = _LESSONS
        self.found = False

    def run(self, chunk: bytes, start: int) -> tuple[int, int]:
        """Return where such events, of which the first begins at `start`, end, and their number."""
        text_at = start + len(self.begin)
        if chunk.find(b"\n", text_at) == len(chunk) - 2:
            return self._alone(chunk, start)
        # To the last line end: what has none may be half an image, and a search in it long.
        whole = chunk[start + _MEET : chunk.rfind(b"\n", start, start + _REACH) + 1]
        # Split by the few bytes where two events meet: to search for all that stands between
        # two texts takes five times as long.
        *pieces, last = whole.split(self._meeting)
        meets_at = last.find(b"\n", len(self._rest)) + 2 - _MEET
        if last.startswith(self._tail[-_MEET:], meets_at):
            pieces.append(last[:meets_at])
        # What ends a stream is not alike, and stands behind all that is.
        while pieces and not pieces[-1].endswith(self._end):
            pieces.pop()
        text = slice(len(self._rest), -len(self._end))
        texts = [piece[text] for piece in pieces]
        texts = texts[: self._count(texts, whole)]
        if not _are_strings(texts):
            texts = list(takewhile(lambda text: _are_strings([text]), texts))
        self.found = self.found or bool(texts)
        return start + self._around * len(texts) + sum(map(len, texts)), len(texts)

    def _alone(self, chunk: bytes, start: int) -> tuple[int, int]:
        """Return the same for what can be one such event: nothing else has come."""
        size = len(chunk) - start - self._around
        if size < 0 or not chunk.endswith(self._tail):
            return start, 0
        quote = start + len(self.begin) - 1
        string = slice(quote, quote + size + 2)
        try:
            loads(memoryview(chunk)[string] if size > _LARGEST else chunk[string])
        except JSONDecodeError:
            return start, 0
        self.found = True
        return len(chunk), 1

    def _count(self, texts: list[bytes], whole: bytes) -> int:
        """Return for how many of the texts such events, written again, are the same bytes."""
        written = b"%b%b%b" % (self._rest, self._between.join(texts), self._tail)
        if whole.startswith(written):
            return len(texts)
        sizes = accumulate(map(len, texts))
        ends = [size + self._around * n - _MEET for n, size in enumerate(sizes, 1)]
        return bisect(ends, 0, key=lambda end: not whole.startswith(written[:end]))

    def learn(self, data: bytes, name: str, text: object, event: bytes = b"") -> None:
        """Keep what stands around `text` in an event that was judged, if that can be told.

        data: one line, found ordinary whatever the string is that stands under `name` in it.
        event: the event's own name.
        """
        if not self.lessons or not isinstance(text, str) or len(data) > _LARGEST:
            return
        self.lessons -= 1
        if LF in data or not has_no_error(data):
            return
        # The name's closing quote has no backslash before it, so that it cannot stand inside
        # another string: what follows is the value itself.
        key = write_json(name) + b":"
        before, found, after = data.partition(key + write_json(text))
        if found and len(after) > _MEET:
            named = b"event: %b\n" % event if event else b""
            self.begin = named + b"data: " + before + key + b'"'
            self._tail = b'"' + after + b"\n\n"
            self._meeting = self._tail[-_MEET:] + self.begin[:_MEET]
            self._rest, self._end = self.begin[_MEET:], self._tail[:-_MEET]
            self._between = self._tail + self.begin
            self._around = len(self._between)


def _are_strings(texts: list[bytes]) -> bool:
    """Tell whether each text is the inside of one JSON string.

    No string holds a line's end (RFC 8259, section 7), so that each of those between the texts
    stands outside: no text can reach into the next. Where there is nothing but strings, a text
    that ends its own makes one more, so that they are too many.
    """
    try:
        found = loads(b'["%b"]' % b'",\n"'.join(texts))
    except JSONDecodeError:
        return False
    return len(found) == len(texts) and set(map(type, found)) == {str}
