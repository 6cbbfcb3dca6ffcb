"""What goes wrong with an upstream, by name.

The one border where exceptions of aiohttp and the system become a `Failure`. Their text holds
hosts and ports and goes to the operator only.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from proxy.core.failures import Failure


class UpstreamFailureError(Exception):
    """The upstream failed; `detail` is for the operator."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail


# The first class that fits decides, so the narrower ones come first.
Table = tuple[tuple[type[BaseException], Failure], ...]
CONNECTING: Final[Table] = (
    (aiohttp.ClientConnectorDNSError, Failure.DNS),
    (aiohttp.ClientConnectorCertificateError, Failure.TLS),
    (aiohttp.ClientSSLError, Failure.TLS),
    (aiohttp.ServerFingerprintMismatch, Failure.TLS),
    (TimeoutError, Failure.CONNECT_TIMEOUT),
    (aiohttp.ClientConnectorError, Failure.CONNECT),
    (OSError, Failure.CONNECT),
)
ASKING: Final[Table] = (
    (TimeoutError, Failure.RESPONSE_TIMEOUT),
    (HttpProcessingError, Failure.PROTOCOL),
    (aiohttp.ClientPayloadError, Failure.PROTOCOL),
    (aiohttp.ClientConnectionError, Failure.RESET_BEFORE),
    (aiohttp.ClientError, Failure.PROTOCOL),
    (OSError, Failure.RESET_BEFORE),
)
READING: Final[Table] = (
    (TimeoutError, Failure.IDLE),
    (aiohttp.ClientError, Failure.RESET_AFTER),
    (HttpProcessingError, Failure.RESET_AFTER),
    (OSError, Failure.RESET_AFTER),
    (RuntimeError, Failure.RESET_AFTER),  # aiohttp's "Connection closed." from under a reader
)


def translate(error: BaseException, table: Table) -> UpstreamFailureError:
    """Return the failure that an exception is, by one of the tables above."""
    if isinstance(error, UpstreamFailureError):
        return error
    for kind, failure in table:
        if isinstance(error, kind):
            return UpstreamFailureError(failure, words_of(error))
    return UpstreamFailureError(Failure.INTERNAL, words_of(error))


def words_of(error: BaseException) -> str:
    """Return what an exception says, for the operator."""
    return f"{type(error).__name__}: {error}"


def is_reset(error: Exception) -> bool:
    """Tell whether a connection was reset while it was made."""
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionResetError | BrokenPipeError
    )
