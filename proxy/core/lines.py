"""JSON lines: a value a line (native streams of Ollama and others, results of batches).

No client of an event stream reads them, but they carry errors as events do, so each line is
judged as an object of any API is: passed as it is, with its stored errors replaced, or an
error, which becomes the last line.

Rule 1. The same bytes, cut anywhere, give the same lines.
Rule 2. A line that its LF has not closed is judged at the end, because the last often has none.
"""

from __future__ import annotations

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json, write_json
from proxy.core.surfaces.resource import clean
from proxy.core.surfaces.surface import has_error_mark, is_stored, openai_error


class LinesSanitizer:
    """One stream of JSON lines.

    max_line: the largest line in bytes.
    closed: nothing comes any more. reply: what the client was told, once the stream failed.
    """

    def __init__(self, ledger: Ledger, max_line: int) -> None:
        self._ledger = ledger
        self._max = max_line
        self._parts: list[bytes] = []  # pieces of a line that has not ended
        self._size = 0
        self.closed = False
        self.reply: Reply | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client gets for `chunk`."""
        if self.closed:
            return b""
        out: list[bytes] = []
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            out.append(self._line(b"".join((*self._parts, line))))
            self._parts.clear()
            self._size = 0
            if self.closed:
                return b"".join(out)
        self._parts.append(rest)
        self._size += len(rest)
        if self._size > self._max:
            out.append(self.fail(Failure.EVENT_TOO_LARGE))
        return b"".join(out)

    def close(self) -> bytes:
        """Return what the client gets when the upstream ended cleanly: the last line."""
        rest = b"".join(self._parts)
        if self.closed or not rest.strip():
            self.closed = True
            return b""
        out = self._line(rest)
        self.closed = True
        return out

    def fail(self, failure: Failure) -> bytes:
        """Return what the client gets when the stream broke or was given up."""
        if self.closed:
            return b""
        return self._fail(UpstreamError(origin=Origin.PROXY, failure=failure))

    def _line(self, line: bytes) -> bytes:
        if len(line) > self._max:
            return self.fail(Failure.EVENT_TOO_LARGE)
        if not line.strip():
            return b""
        value = parse_json(line)
        reader = self._ledger.reader
        if not isinstance(value, dict | list):
            failure = Failure.MALFORMED_EVENT
            return self._fail(reader.read_bytes(line, Origin.PROXY, failure=failure))
        if isinstance(value, dict) and has_error_mark(value, reader) and not is_stored(value):
            return self._fail(reader.read(value, Origin.STREAM, raw=line))
        return (write_json(value) if clean(value, self._ledger) else line) + b"\n"

    def _fail(self, error: UpstreamError) -> bytes:
        self.closed = True
        self.reply = self._ledger.answer(error)
        return write_json({"error": openai_error(self.reply)}) + b"\n"
