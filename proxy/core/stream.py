"""The stream sanitizer: bytes of an upstream's event stream in, bytes for the client out.

Rule 1. Every byte out was written by our encoder.
Rule 2. The stream ends exactly one way: as the provider completed it, or with one failure.
Rule 3. Nothing comes after the end.
Rule 4. The same bytes, cut anywhere, give the same output.

The three verbs are `feed` (bytes came), `close` (the upstream ended the stream cleanly) and
`fail` (it broke, hung or was given up). Each returns what the client is to get.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.evidence import MAX_RAW
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json
from proxy.core.sse import (
    CR,
    ENCODED_KEEP_ALIVE,
    KEEP_ALIVE,
    Decoder,
    Event,
    EventTooLargeError,
    encode,
    end_of_block,
)
from proxy.core.surfaces.surface import Mark, Rewritten, SurfaceStream, Verdict, last_words

# How much of what was written is looked at for an incident, and how many events are named.
_TAIL: Final = 4096
_SHOWN: Final = 5

# To look for a run takes as long as to parse some events: where so many were short in a chunk,
# most events are not alike, and it does not pay.
_RUNS: Final = 4
_SHORT_RUN: Final = 16


class StreamSanitizer:
    """One event stream.

    max_event: the largest event in bytes.

    content_seen: an event with content was written; until then an error can still become an
        HTTP status, and the caller may hold what came so far.
    ended: the provider completed the stream; only its end mark may still come.
    closed: nothing comes any more; the upstream is of no use and can be closed.
    reply: what the client was told instead, once the stream failed.
    finished: the answer is whole, though more may follow: usage, an end mark.
    events, dropped: how many were written, and how many held nothing that a client needs.
    """

    def __init__(self, stream: SurfaceStream, ledger: Ledger, max_event: int) -> None:
        self._stream = stream
        self._ledger = ledger
        self._decoder = Decoder(max_event)
        self._max_event = max_event
        self._stray = b""  # the last lines outside any field, for the operator
        # A block that is begun, in pieces: joined once, it may be copied, be it megabytes. The
        # decoder has not seen it.
        self._begun: list[bytes] = []
        self._begun_size = 0
        # Nothing is begun and nothing has ended: what is usual may go the quick way.
        self._is_usual = False
        self.content_seen = False
        self.finished = False
        self.ended = False
        self.closed = False
        self.reply: Reply | None = None
        self.events = self.dropped = 0
        self._written: deque[bytes] = deque(maxlen=_SHOWN)  # the last of it

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client gets for `chunk`."""
        start = 0
        if self._begun_size + len(chunk) <= self._max_event:
            quick = self._stream.quick
            if self._is_usual and quick.begin and chunk.startswith(quick.begin):
                start, count = quick.run(chunk, 0)
                self.events += count
                if start == len(chunk):
                    self.finished = self._stream.complete(cleanly=False)
                    return self._noted(chunk)
            if CR not in chunk:
                return self._feed_blocks(chunk, start)
        return self._noted(chunk[:start]) + self._feed(self._take_begun() + chunk[start:])

    def _feed_blocks(self, chunk: bytes, start: int) -> bytes:
        """Feed what may be usual, of which a run ends at `start`.

        An event that is framed as `encode` frames it and passes as it is, is written by copying
        it, together with its neighbours: the same bytes. All others go the long way, a block at
        a time; `tests/core/test_properties.py` holds one way against the other.
        """
        out: list[bytes] = []
        copied = 0  # up to where it is written; it is read up to `start`
        if self._begun or not (self.closed or self._decoder.is_between(chunk)):
            copied = start = self._finish_block(chunk, out)
        stream, read = self._stream, self._stream.read
        runs = _RUNS
        while start < len(chunk) and not self.closed:
            begin = stream.quick.begin
            if begin and runs and not self.ended and chunk.startswith(begin, start):
                start, count = stream.quick.run(chunk, start)
                runs -= count < _SHORT_RUN
                if count:
                    self.events += count
                    continue
            name, data_at, end = b"", start, chunk.find(b"\n", start)
            if chunk.startswith(b"event: ", start) and end > start + 7:
                name, data_at = chunk[start + 7 : end], end + 1
                end = chunk.find(b"\n", data_at)
            if not (
                end > data_at + 6
                and chunk.startswith(b"data: ", data_at)
                and chunk.startswith(b"\n", end + 1)
            ):
                out.append(self._noted(chunk[copied:start]))
                copied = start = self._feed_block(chunk, start, out)
                continue
            event = Event(chunk[data_at + 6 : end], name)
            verdict = read(event)
            if verdict is Mark.CONTENT:
                self.content_seen = True
                self.events += 1
            elif type(verdict) is Mark and verdict is not Mark.DROP:
                self._note(verdict)
            else:
                out.append(self._noted(chunk[copied:start]))
                out.append(self._answer(event, verdict))
                copied = end + 2
            start = end + 2
        out.append(self._noted(chunk[copied:start]))
        self._settle()
        return out[0] if len(out) == 1 else b"".join(out)

    def _feed_block(self, chunk: bytes, start: int, out: list[bytes]) -> int:
        """Feed a block that is not framed as usual, or has not ended; return where it ends."""
        end = end_of_block(chunk, start)
        if end or not chunk.startswith((b"data: ", b"event: "), start):
            end = end or len(chunk)
            out.append(self._feed(chunk[start:end]))
            return end
        self._begin(chunk[start:])
        return len(chunk)

    def _finish_block(self, chunk: bytes, out: list[bytes]) -> int:
        """Feed what follows a block that is begun; return where the block ends."""
        if not self._begun:
            end = end_of_block(chunk, 0) or len(chunk)
            out.append(self._feed(chunk[:end]))
            return end
        in_new_line = self._begun[-1].endswith(b"\n")
        if in_new_line and chunk.startswith(b":"):  # a comment inside an event is sent at once
            out.append(self._feed(self._take_begun()))
            return self._finish_block(chunk, out)
        end = 1 if in_new_line and chunk.startswith(b"\n") else end_of_block(chunk, 0)
        if not end:
            self._begin(chunk)
            return len(chunk)
        self._begin(chunk[:end])
        out.append(self._feed_blocks(self._take_begun(), 0))
        return end

    def _begin(self, piece: bytes) -> None:
        if piece:
            self._begun.append(piece)
            self._begun_size += len(piece)

    def _take_begun(self) -> bytes:
        begun, self._begun, self._begun_size = self._begun, [], 0
        return b"".join(begun)

    def _noted(self, written: bytes) -> bytes:
        """Keep the end of what is written, for an incident."""
        if written:
            self._written.append(written if len(written) <= _TAIL else written[-_TAIL:])
        return written

    def _feed(self, chunk: bytes) -> bytes:
        if self.closed:
            return b""
        try:
            events = self._decoder.feed(chunk)
        except EventTooLargeError as error:
            return self._judged(error.events) + self.fail(Failure.EVENT_TOO_LARGE)
        return self._judged(events)

    def _judged(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self.closed:
                break
            if event is not KEEP_ALIVE:
                out.append(self._answer(event, self._stream.read(event)))
            elif not self.ended:
                out.append(self._noted(ENCODED_KEEP_ALIVE))
        self._settle()
        return b"".join(out)

    def _settle(self) -> None:
        self.finished = self._stream.complete(cleanly=False)
        self._is_usual = self._decoder.between_events and not (
            self._begun or self.ended or self.closed
        )

    def close(self) -> bytes:
        """Return what the client gets when the upstream ended the stream cleanly."""
        return self._end(None)

    def fail(self, failure: Failure, detail: str = "") -> bytes:
        """Return what the client gets when the stream broke or was given up.

        detail: what is known of the cause, for the operator only.
        """
        return self._end(failure, detail)

    def _end(self, failure: Failure | None, detail: str = "") -> bytes:
        """End the stream. failure: None where the upstream ended it cleanly."""
        out = self._feed(self._take_begun()) if self._begun else b""
        if self.closed:
            return out
        rest = None if failure is Failure.EVENT_TOO_LARGE else self._decoder.close()
        clean = Failure.CUT_IN_EVENT if rest else Failure.NO_END
        return out + self._end_with(rest, failure or clean, detail)

    def _end_with(self, rest: Event | None, failure: Failure, detail: str) -> bytes:
        if self._stream.complete(cleanly=failure is Failure.NO_END):
            self.closed = self.ended = True
            self._is_usual = False
            return b""
        if rest is not None:
            said = last_words(rest, self._ledger.reader)
            if said is not None:
                return self._fail(said)
            self._stray = (rest.data or rest.stray)[:MAX_RAW]
        error = self._ledger.reader.read_bytes(self._stray, Origin.PROXY, failure=failure)
        if detail and not self._stray:
            error = replace(error, raw=detail.encode("utf-8", "replace")[:MAX_RAW])
        return self._fail(error)

    def last_events(self) -> tuple[str, ...]:
        """Return the types of the last events that were written before the failure."""
        events = Decoder(_TAIL).feed(b"".join(self._written)[-_TAIL:])
        return tuple(map(_kind_of, events[-_SHOWN:]))

    def _fail(self, error: UpstreamError) -> bytes:
        self.closed = True
        self._is_usual = False
        self.reply = self._ledger.answer(error)
        return self._stream.closing(self.reply)

    def _answer(self, event: Event, verdict: Verdict) -> bytes:
        """Return what the client gets for an event that was judged."""
        if isinstance(verdict, UpstreamError):
            return self._fail(verdict)
        data, name = event.data or b"", event.name
        if isinstance(verdict, Rewritten):
            data, name, verdict = verdict
        if verdict is Mark.DROP:
            self.dropped += 1
            self._note_stray(event)
            return b""
        self._note(verdict)
        return self._noted(encode(data, name))

    def _note(self, mark: Mark) -> None:
        """Note an event that passes."""
        self.events += 1
        if mark is not Mark.PRELUDE:
            self.content_seen = True
        if mark is Mark.END or mark is Mark.CLOSE:
            self.ended = True
            self.closed = mark is Mark.CLOSE

    def _note_stray(self, event: Event) -> None:
        if event.stray and not self.ended:
            self._stray = event.stray[:MAX_RAW]


def _kind_of(event: Event) -> str:
    """Name an event for a person: its type, or what it is of."""
    if event.data is None:
        return "keep-alive"
    value = parse_json(event.data)
    if not isinstance(value, dict):
        return "text"
    kind = value.get("type") or value.get("object")
    return kind[:64] if isinstance(kind, str) else "object"
