"""The two sides of an error.

`UpstreamError` is what was said, by a provider or by us of it: never trusted, only matched
on and logged. `Reply` is what a client reads: every field comes from the table. No function
makes a `Reply` out of an `UpstreamError`'s text; that the types keep them apart is the design.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from proxy.core.failures import Failure

Credentials = Literal["client", "proxy"]
"""Whose key went upstream: the client's own, or one that the proxy added."""


class Origin(StrEnum):
    """Where an error was found."""

    PROXY = "proxy"  # nobody said it: the proxy saw a failure
    HTTP = "http"  # the answer's status says so
    BODY = "body"  # a 2xx answer whose body is an error
    STREAM = "stream"  # an event of a stream
    TOOL = "tool"  # a tool that the model called failed; the answer as a whole did not
    ITEM = "item"  # one output item failed; the answer as a whole did not
    MODERATION = "moderation"  # a moderation that could not be made
    RESOURCE = "resource"  # the stored error of an object that was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamError:
    """An error as it came: untrusted.

    code, type, param, message: as sent, without surrounding space; "" when absent, also for
        "None", "null" and the like. A code that is an HTTP status is in `status` instead.
    status: 400..599, or what the answer's status line said; None where nobody said one.
    retry_after: seconds until a retry makes sense, None when unknown.
    inner: the error that this one wraps, if any; the chain is bounded by `evidence`.
    provider: which of the table's `evidence` entries recognised it.
    raw: the bytes it was read from, bounded; for the operator only.
    """

    origin: Origin
    failure: Failure | None = None
    status: int | None = None
    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""
    retry_after: float | None = None
    provider: str = ""
    inner: UpstreamError | None = None
    raw: bytes = b""

    def layers(self) -> Iterator[UpstreamError]:
        """Yield this error and those it wraps, the innermost, which knows most, first."""
        if self.inner is not None:
            yield from self.inner.layers()
        yield self


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a client reads instead, every field from the table.

    code: the reply's name in the table.
    responses_code: what stands for it in `response.error.code`, a closed enum.
    status: HTTP status, 400..599.
    retry_after: seconds, from 0 up to a day.
    """

    code: str
    responses_code: str
    status: int
    type: str
    message: str
    param: str | None
    retryable: bool
    retry_after: float | None
    reference: str
