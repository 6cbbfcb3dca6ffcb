"""What the client gets: a whole answer, or a stream.

aiohttp's own responses answer many questions that a proxy does not ask (cookies, compression,
entity tags, files), and that costs as much as parsing the request. These write a head and a
body and are otherwise aiohttp's: its server asks them the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

_LAST_CHUNK: Final = b"0\r\n\r\n"
# From here on, copying a piece into its chunk costs more than handing over three pieces.
_LARGE: Final = 64 * 1024
# RFC 9110, section 5.5: no control character but a tab may be in a field.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def write_head(request: web.BaseRequest, status: int, headers: Mapping[str, str]) -> bytes:
    """Write a status line and headers.

    Raises ValueError where one of them would begin a line of its own.
    """
    version = request.version
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # 529 has none
    lines = [f"HTTP/{version.major}.{version.minor} {status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if _CONTROL.search("\t".join(lines)):
        msg = "a header holds a control character"
        raise ValueError(msg)
    return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape")


class _Response(web.StreamResponse):
    """A response that writes itself."""

    def _settle(self, request: web.BaseRequest, headers: CIMultiDict[str]) -> None:
        """Add what every answer says, and decide whether the connection is kept."""
        if hdrs.DATE not in headers:
            headers[hdrs.DATE] = rfc822_formatted_time()
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        if not self._keep_alive:
            headers[hdrs.CONNECTION] = "close"
        elif request.version < HttpVersion11:
            headers[hdrs.CONNECTION] = "keep-alive"


class WholeResponse(_Response):
    """An answer whose body is known. To HEAD, its head alone."""

    def __init__(self, status: int, headers: CIMultiDict[str], body: bytes) -> None:
        super().__init__(status=status, headers=headers)
        self._whole = body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write it."""
        headers = self.headers
        headers[hdrs.CONTENT_LENGTH] = str(len(self._whole))
        self._settle(request, headers)
        head = write_head(request, self.status, headers)
        writer = request.writer
        await writer.write_eof(head if request.method == "HEAD" else head + self._whole)
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""


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
        self._settle(request, self.headers)
        self._head = write_head(request, status, self.headers)
        self._pieces: list[bytes] = []
        self.is_open = False
        self._is_over = False

    def open(self) -> None:
        """Push the head."""
        self.is_open = True
        # aiohttp asks its writer whether an answer has begun.
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

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""
