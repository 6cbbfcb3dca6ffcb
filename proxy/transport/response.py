"""What the client gets: a whole answer, or a stream.

aiohttp's own responses answer many questions that a proxy does not ask (cookies, compression,
entity tags, files), and that costs as much as parsing the request. These write a head and a
body and are otherwise aiohttp's: its server asks them the same.
"""

from __future__ import annotations

from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import _serialize_headers
from multidict import CIMultiDict

_LAST_CHUNK: Final = b"0\r\n\r\n"
# From here on, copying a piece into its chunk costs more than handing over three pieces.
_LARGE: Final = 64 * 1024


class _Response(web.StreamResponse):
    """A response that writes itself."""

    def _write_head(self, request: web.BaseRequest) -> bytes:
        """Write status line and headers, and decide whether the connection is kept.

        Raises ValueError where a header would begin a line of its own.
        """
        headers = self.headers
        if hdrs.DATE not in headers:
            headers[hdrs.DATE] = rfc822_formatted_time()
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        if not self._keep_alive:
            headers[hdrs.CONNECTION] = "close"
        elif request.version < HttpVersion11:
            headers[hdrs.CONNECTION] = "keep-alive"
        version = request.version
        line = f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}"
        return bytes(_serialize_headers(line, headers))

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""


class WholeResponse(_Response):
    """An answer whose body is known. To HEAD, its head alone."""

    def __init__(self, status: int, headers: CIMultiDict[str], body: bytes) -> None:
        super().__init__(status=status, headers=headers)
        self._whole = body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write it."""
        self.headers[hdrs.CONTENT_LENGTH] = str(len(self._whole))
        head = self._write_head(request)
        whole = head if request.method == "HEAD" else head + self._whole
        transport, writer = request.transport, request.writer
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        # aiohttp asks its writer whether an answer has begun.
        writer.output_size += len(whole)
        transport.write(whole)
        if request.protocol.writing_paused:
            await writer.drain()
        return writer


class StreamedResponse(_Response):
    """A stream to a client: its head, then pieces, written without waiting.

    What is pushed is sent by `flush`: each send is a system call that wakes the client, and
    costs more than everything that was done to the events in it.

    is_open: the head is out, or will be by the next flush.
    """

    def __init__(self, request: web.BaseRequest, status: int, headers: CIMultiDict[str]) -> None:
        super().__init__(status=status, headers=headers)
        self._writer = request.writer
        self._transport = request.transport
        self._chunked = request.version >= HttpVersion11
        if self._chunked:
            self.headers[hdrs.TRANSFER_ENCODING] = "chunked"
        else:
            self.force_close()  # its end is the connection's
        self._head = self._write_head(request)
        self._pieces: list[bytes] = []
        self.is_open = False
        self._is_over = False

    def open(self) -> None:
        """Push the head."""
        self.is_open = True
        self._writer.output_size += len(self._head)
        self._pieces.append(self._head)

    def push(self, data: bytes) -> None:
        """Push a piece, which is not empty."""
        if not self._chunked:
            self._pieces.append(data)
        elif len(data) < _LARGE:
            self._pieces.append(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._pieces += (b"%x\r\n" % len(data), data, b"\r\n")

    def end(self) -> None:
        """Push the end of the body, once."""
        if self._chunked and not self._is_over:
            self._pieces.append(_LAST_CHUNK)
        self._is_over = True

    def flush(self) -> None:
        """Send what was pushed."""
        pieces, transport = self._pieces, self._transport
        if not pieces:
            return
        self._pieces = []
        if transport is None or transport.is_closing():
            return  # the client has left, and the exchange is about to be told so
        if len(pieces) == 1:
            transport.write(pieces[0])
        elif sum(map(len, pieces)) < _LARGE:
            transport.write(b"".join(pieces))
        else:
            transport.writelines(pieces)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Do nothing: all is written."""
        return request.writer
