"""Bytes to server-sent events and back, by the WHATWG rules.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, sections
"Parsing an event stream" and "Interpreting an event stream".

Rule 1. The same bytes, cut anywhere, give the same events.
Rule 2. CR, LF and CRLF end a line; nothing else does (U+2028 is ordinary text).
Rule 3. An event that its blank line has not closed is never an event; `close` hands
        it back as evidence.
Rule 4. What the standard tells a browser to ignore (an unknown field, a line without
        one) is kept apart as `stray`: old llama.cpp sends errors in an `error:` field,
        others print bare JSON into the stream.
Rule 5. The bound belongs to the event, never to the chunk.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

# To look for a byte by its number is twice as quick as by bytes.
CR: Final = ord("\r")
LF: Final = ord("\n")

_BOM: Final = b"\xef\xbb\xbf"

# A first line of so many bytes: the lines are found one by one.
_LONG: Final = 4096

# An open event may still lose a BOM and its last line end before it is measured.
_SLACK: Final = len(_BOM) + 1


class Event(NamedTuple):
    """One event.

    `data` is the payload without its framing, several `data:` lines joined by LF, or
    None when the block had none. `name` is the `event:` field. `stray` is what the
    block held outside every known field, lines joined by LF.
    """

    data: bytes | None
    name: bytes = b""
    stray: bytes = b""


KEEP_ALIVE: Final = Event(None)
"""A comment. Its text is the upstream's own and is dropped."""


class EventTooLargeError(Exception):
    """An event is larger than the decoder's bound; `events` came whole before it."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self.events = events


class Decoder:
    """Feed bytes, get events.

    max_event: the largest event in bytes, from the first byte of its first line to the
    last byte before the blank line.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_max",
        "_name",
        "_open",
        "_parts",
        "_parts_size",
        "_size",
        "_stray",
    )

    def __init__(self, max_event: int) -> None:
        self._max = max_event
        self._at_start = True  # a BOM may still come
        self._after_cr = False  # the last chunk ended in CR; an LF now belongs to it
        self._parts: list[bytes] = []  # pieces of a line that has not ended
        self._parts_size = 0
        self._open = False  # lines of an event were read, its blank line was not
        self._size = 0  # bytes of the open event, its line ends included
        self._name = b""
        self._data: list[bytes] = []
        self._stray: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes.

        Raises EventTooLargeError once, with the events that came before the large one;
        nothing may be fed after it.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if CR in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = chunk.rfind(b"\n") + 1
        if not end:
            # A 16 MiB event comes in hundreds of reads: pieces are joined once, when
            # its line ends, or the work would grow with the square of its size.
            self._keep(chunk)
            self._check_open([])
            return []
        if self._parts:
            self._parts.append(chunk[:end])
            lines = b"".join(self._parts)
            self._parts.clear()
            self._parts_size = 0
        else:
            lines = chunk[:end]
        if end < len(chunk):
            self._keep(chunk[end:])
        if self._at_start:
            self._at_start = False
            lines = lines.removeprefix(_BOM)
        events: list[Event] = []
        if self._open:
            lines = self._finish_open(lines, events)
        self._read_blocks(lines, events)
        self._check_open(events)
        return events

    @property
    def between_events(self) -> bool:
        """Tell whether nothing is begun: the next byte begins a block."""
        return not (self._open or self._parts or self._after_cr or self._at_start)

    def is_between(self, chunk: bytes) -> bool:
        """Tell whether `chunk`, which comes next, begins a block."""
        if self._at_start and not self._parts and chunk[:1] not in (b"", _BOM[:1]):
            self._at_start = False
        return self.between_events

    def close(self) -> Event | None:
        """Return what an upstream left unfinished, for evidence only."""
        rest = b"".join(self._parts)
        self._parts.clear()
        if self._at_start:
            rest = rest.removeprefix(_BOM)
        left: list[Event] = []
        with suppress(EventTooLargeError):
            self._read_line(rest, left)
        self._dispatch(left)
        return next((event for event in left if event is not KEEP_ALIVE), None)

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._parts.append(piece)
            self._parts_size += len(piece)

    def _check_open(self, events: list[Event]) -> None:
        # A comment inside an event is no part of it.
        before = 0 if self._parts and self._parts[0].startswith(b":") else self._size
        if before + self._parts_size > self._max + _SLACK or self._size > self._max + 1:
            raise EventTooLargeError(events)

    def _finish_open(self, lines: bytes, events: list[Event]) -> bytes:
        """Read lines until the open event is closed; return what follows it."""
        start = 0
        while self._open and start < len(lines):
            end = lines.index(b"\n", start)
            self._read_line(lines[start:end], events)
            start = end + 1
        return lines[start:]

    def _read_blocks(self, lines: bytes, events: list[Event]) -> None:
        """Read whole lines that begin outside an event."""
        if lines.find(b"\n", 0, _LONG) < 0:
            # `bytes.split` looks at every byte, a search for one skips forty at a time.
            start = 0
            while (end := lines.find(b"\n", start)) >= 0:
                if lines.startswith(b"data: ", start):  # megabytes are copied once less
                    self._open_to(end - start, events)
                    self._data.append(lines[start + 6 : end])
                else:
                    self._read_line(lines[start:end], events)
                start = end + 1
            return
        *blocks, last = lines.split(b"\n\n")
        for block in blocks:
            # Nearly every block is one `data:` line, or an `event:` line before it.
            if len(block) <= self._max:
                if block.startswith(b"data: ") and len(block) > 6 and LF not in block:
                    events.append(Event(block[6:]))
                    continue
                if block.startswith(b"event: "):
                    name, _, data = block.partition(b"\n")
                    if data.startswith(b"data: ") and len(data) > 6 and LF not in data:
                        events.append(Event(data[6:], name[7:]))
                        continue
            for line in block.split(b"\n"):
                self._read_line(line, events)
            self._read_line(b"", events)
        for line in last.split(b"\n")[:-1]:
            self._read_line(line, events)

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._open:
                self._dispatch(events)
            return
        if line.startswith(b":"):
            if len(line) > self._max:
                raise EventTooLargeError(events)
            events.append(KEEP_ALIVE)
            return
        self._open_to(len(line), events)
        if line.startswith(b"data: "):
            self._data.append(line[6:])
            return
        field, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        elif field not in (b"id", b"retry"):
            self._stray.append(value if colon and field == b"error" else line)

    def _open_to(self, length: int, events: list[Event]) -> None:
        """Count a line of the open event, or of one that it opens."""
        self._open = True
        self._size += length + 1
        if self._size - 1 > self._max:
            raise EventTooLargeError(events)

    def _dispatch(self, events: list[Event]) -> None:
        # "If the data buffer is an empty string, set the data buffer and the event type
        # buffer to the empty string and return."
        data = b"\n".join(self._data) or None
        if data is not None or self._stray:
            events.append(Event(data, self._name, b"\n".join(self._stray)))
        self._open = False
        self._size = 0
        self._name = b""
        self._data = []
        self._stray = []


def end_of_block(chunk: bytes, start: int) -> int:
    """Return where the first blank line after `start` ends, or 0 without one.

    By the search for one byte, which is quick also where an event is megabytes.
    """
    while (found := chunk.find(b"\n", start)) >= 0:
        if chunk.startswith(b"\n", found + 1):
            return found + 2
        start = found + 1
    return 0


def encode(data: bytes, name: bytes = b"") -> bytes:
    """Write one event: `name` as its `event:` line, each line of `data` as a `data:` line."""
    if LF in data:
        data = data.replace(b"\n", b"\ndata: ")
    if name:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"data: %b\n\n" % data


ENCODED_KEEP_ALIVE: Final = b":\n\n"
