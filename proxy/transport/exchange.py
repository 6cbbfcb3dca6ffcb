"""One exchange: a client's request on its way, and how it is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from multidict import CIMultiDict

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.evidence import MAX_RAW
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.surfaces.names import MESSAGES
from proxy.core.surfaces.surface import Surface, Target
from proxy.operate.record import Record
from proxy.transport import headers
from proxy.transport.response import WholeResponse

if TYPE_CHECKING:
    from proxy.transport.answer import Answer


class Exchange:
    """A request's state. An exchange keeps the table that it began with, in its ledger.

    upstream_host: what a success must not name.
    ordered: the failure that the proxy itself wants this exchange to end with, if any.
    begun: bytes of an answer are on their way to the client; no other answer can be given.
    """

    __slots__ = (
        "_upstream_host",
        "begun",
        "ledger",
        "ordered",
        "record",
        "request",
        "surface",
        "target",
        "task",
    )

    def __init__(
        self,
        request: web.BaseRequest,
        surface: Surface,
        target: Target,
        ledger: Ledger,
        record: Record,
        upstream_host: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.request = request
        self.surface = surface
        self.target = target
        self.ledger = ledger
        self.record = record
        self._upstream_host = upstream_host
        self.task = asyncio.current_task(loop)
        self.ordered: Failure | None = None
        self.begun = False

    def answer_is_due(self) -> bool:
        """Tell whether a success without a body is none: a model was asked."""
        last = self.target.path.rstrip("/").rsplit("/", 1)[-1]
        return self.target.method == "POST" and last in ("responses", "completions", "messages")

    def order(self, failure: Failure) -> None:
        """End the exchange now, with this failure."""
        if self.task is not None and self.ordered is None:
            self.ordered = failure
            self.task.cancel()

    def ordered_failure(self) -> Failure:
        """Return our own order. Raises CancelledError where the client left, which cancels too."""
        if self.ordered is None or self.task is None:
            raise asyncio.CancelledError
        self.task.uncancel()
        return self.ordered

    def fail(self, failure: Failure) -> web.StreamResponse:
        """Answer with what the table says of a failure that the proxy saw."""
        raw = self.record.detail.encode("utf-8", "replace")[:MAX_RAW]
        return self.reply(UpstreamError(origin=Origin.PROXY, failure=failure, raw=raw))

    def reply(self, error: UpstreamError, answer: Answer | None = None) -> web.StreamResponse:
        """Answer with what the table says of an error."""
        return self.say(self.ledger.answer(error), answer)

    def say(self, reply: Reply, answer: Answer | None) -> web.StreamResponse:
        """Answer with a reply, as an HTTP error in the surface's shape."""
        body = self.surface.error_body(reply)
        self.record.ending = "failed"
        self.record.status_out = reply.status
        self.record.bytes_out = len(body)
        origin = self.request.headers.get("origin", "")
        told = headers.of_error(reply, answer.headers if answer else None, origin)
        return WholeResponse(reply.status, self._signed(told), body)

    def success_headers(self, answer: Answer, *, decoded: bool) -> CIMultiDict[str]:
        """Return the headers of an answer that passes."""
        self.record.status_out = answer.status
        passed = headers.to_client(
            answer.headers,
            upstream_host=self._upstream_host,
            reference=self.record.reference,
            decoded=decoded,
        )
        return self._signed(passed)

    def _signed(self, told: CIMultiDict[str]) -> CIMultiDict[str]:
        """Put the reference where this surface's SDK looks for it too."""
        if self.surface.name == MESSAGES:
            told["request-id"] = self.record.reference
        return told
