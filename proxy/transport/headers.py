"""Which headers pass, each way.

To the upstream: what the client sent, without what belongs to one connection (RFC 9110
section 7.6.1), without what says where the client is (`forwarded="add"` says it), with our
own credentials where we have them.

To the client, on success: what the upstream sent, without what belongs to the operator's
account or names what stands behind. On an error: nothing of the upstream's but numeric rate
limits; everything else is made here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Final, Literal

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.core.errors import Credentials, Reply
from proxy.core.pattern import whole_seconds
from proxy.core.table import MAX_RETRY_AFTER

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

    from aiohttp import web  # whoever only reads settings need not wait for it
    from multidict import MultiMapping

Forwarded = Literal["drop", "add"]

REFERENCE: Final = "x-request-id"
"""Where clients look for a reference: openai SDKs raise it as `error.request_id`."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_CREDENTIALS: Final = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
_FORWARDED: Final = frozenset(
    {
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-real-ip",
    }
)
_NOT_UPSTREAM: Final = _HOP_BY_HOP | _FORWARDED | {"host", "accept-encoding", "expect"}

# What a success still says of the operator's account or of what stands behind the proxy.
_NOT_CLIENT: Final = _HOP_BY_HOP | {
    "alt-svc",
    "apim-request-id",
    "content-length",
    "content-location",
    "link",
    "nel",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "server-timing",
    "warning",
    "x-real-ip",
    "llm_provider-content-type",
    "location",
    "openai-organization",
    "openai-project",
    "proxy-authenticate",
    "public-key-pins",
    "server",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "via",
    "www-authenticate",
    "x-error-json",
    "x-openai-authorization-error",
    "x-powered-by",
    "x-served-by",
    REFERENCE,
}
_NOT_CLIENT_PREFIXES: Final = (
    "anthropic-organization",
    "cf-",
    "llm_provider-",
    "x-accel-",
    "x-amz",
    "x-cache",
    "x-azure",
    "x-backend",
    "x-envoy",
    "x-kong",
    "x-litellm",
    "x-ms-",
    "x-portkey",
    "x-upstream",
)
# Words in a header's name that say whose account it is, or what stands behind.
_NOT_CLIENT_WORDS: Final = re.compile(
    r"(?:^|[-_])(?:account|backend|cluster|debug|deployment|error|errors|exception|host|hostname"
    r"|node|org|organization|pod|project|region|stacktrace|subscription|tenant|trace|traceback"
    r"|upstream|workspace)(?:[-_]|$)",
    re.IGNORECASE,
)
_RATE_LIMIT: Final = re.compile(
    r"x-ratelimit-(?:limit|remaining|reset)(?:-[a-z0-9]{1,24}){0,3}\Z", re.IGNORECASE
)
# RFC 9110, section 5.5: no control character but a tab may be in a field.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# A number, or OpenAI's 6m0s.
_RATE_LIMIT_VALUE: Final = re.compile(
    r"\d{1,15}(?:\.\d{1,6})?|(?:\d{1,6}(?:\.\d{1,6})?(?:h|m|s|ms)){1,4}"
)


# Clients and upstreams send the same few dozen names each time, so which of them pass is looked
# up by all of them at once; what is longer than any of theirs is decided anew, and not kept.
_MOST_NAMES: Final = 2048


def _passing(
    headers: MultiMapping[str],
    decide: _lru_cache_wrapper[tuple[bool, ...]],
    given: Hashable,
) -> Iterator[tuple[str, str]]:
    """Yield the headers that pass.

    decide: tells of each, by all their names, what the connection names, and what is `given`.
    """
    pairs = list(headers.items())
    # Not the headers' keys, which have a name only once.
    names = "\n".join([name for name, _ in pairs])
    connection = ",".join(headers.getall("connection", ()))
    is_usual = len(names) + len(connection) <= _MOST_NAMES
    return compress(pairs, (decide if is_usual else decide.__wrapped__)(names, connection, given))


def named_by_connection(value: str) -> frozenset[str]:
    """Return the headers that a Connection header names as its own."""
    return frozenset(name.strip().lower() for name in value.split(","))


def to_upstream(
    request: web.BaseRequest, *, added: Mapping[str, str], forwarded: Forwarded
) -> CIMultiDict[str]:
    """Return the headers of the upstream's request, but for Host.

    added: the proxy's own, which replace the client's of the same name; where they hold
        credentials, every credential of the client's is left out.
    """
    headers = request.headers
    out = CIMultiDict(_passing(headers, _pass_to_upstream, tuple(added)))
    out["Accept-Encoding"] = "identity"
    if forwarded == "add" and request.remote:
        out["X-Forwarded-For"] = request.remote
        out["X-Forwarded-Proto"] = request.scheme
        if host := headers.get("host"):
            out["X-Forwarded-Host"] = host
    if added:
        out.update(added)
    return out


@lru_cache(maxsize=256)
def _pass_to_upstream(names: str, connection: str, added: tuple[str, ...]) -> tuple[bool, ...]:
    """Return which of the client's headers pass. names: theirs, a line each."""
    replaced = {name.lower() for name in added}
    if replaced & _CREDENTIALS:
        replaced |= _CREDENTIALS
    left_out = _NOT_UPSTREAM | named_by_connection(connection) | replaced
    return tuple(name not in left_out for name in names.lower().split("\n"))


def credentials_of(added: Mapping[str, str]) -> Credentials:
    """Tell whose key goes upstream."""
    return "proxy" if any(name.lower() in _CREDENTIALS for name in added) else "client"


def to_client(
    headers: CIMultiDictProxy[str], *, upstream_host: str, reference: str, decoded: bool
) -> CIMultiDict[str]:
    """Return the headers of a success.

    decoded: the body's content encoding was taken off.
    """
    passing = list(_passing(headers, _pass_to_client, decoded))
    # Nearly always nothing is wrong with any of them.
    values = " ".join([value for _, value in passing])
    if upstream_host in values.lower() or not _is_clean(values):
        passing = [
            (name, value)
            for name, value in passing
            if upstream_host not in value.lower() and _is_clean(value)
        ]
    out = CIMultiDict(passing)
    out[REFERENCE] = reference
    return out


@lru_cache(maxsize=256)
def _pass_to_client(names: str, connection: str, decoded: bool) -> tuple[bool, ...]:  # noqa: FBT001 - a cache's key
    """Return which of the upstream's headers pass. names: theirs, a line each."""
    left_out = _NOT_CLIENT | named_by_connection(connection)
    if decoded:
        left_out |= {"content-encoding"}
    return tuple(
        not (
            name in left_out
            or name.startswith(_NOT_CLIENT_PREFIXES)
            or _NOT_CLIENT_WORDS.search(name)
        )
        for name in names.lower().split("\n")
    )


def of_error(
    reply: Reply, headers: Mapping[str, str] | None = None, origin: str = ""
) -> CIMultiDict[str]:
    """Return the headers of an error.

    headers: the upstream's, if it answered. origin: the request's Origin: a page that the
        upstream lets read its answers may read its errors too.
    """
    out: CIMultiDict[str] = CIMultiDict({"Content-Type": "application/json"})
    out[REFERENCE] = reply.reference
    out["x-should-retry"] = "true" if reply.retryable else "false"
    if reply.retry_after is not None:
        out["retry-after"] = whole_seconds(reply.retry_after)
        if reply.retry_after < 1:
            out["retry-after-ms"] = str(math.ceil(reply.retry_after * 1000))
    for name, value in (headers or {}).items():
        if _RATE_LIMIT.match(name) and _RATE_LIMIT_VALUE.fullmatch(value):
            out[name.lower()] = value
    allowed = (headers or {}).get("access-control-allow-origin")
    if allowed is not None and allowed in ("*", origin):
        out["access-control-allow-origin"] = allowed
        out["access-control-expose-headers"] = f"{REFERENCE}, retry-after, x-should-retry"
    return out


def retry_after_of(headers: Mapping[str, str], now: float) -> float | None:
    """Read `retry-after-ms` or `retry-after` (seconds or a date); seconds within a day, or None.

    now: seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
            seconds = float(value) * unit
        else:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - now
            except (ValueError, TypeError, OverflowError):
                continue
        if 0 < seconds <= MAX_RETRY_AFTER:
            return seconds
    return None


def _is_clean(value: str) -> bool:
    return _CONTROL.search(value) is None
