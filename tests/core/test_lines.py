from __future__ import annotations

import json

import pytest

from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.lines import LinesSanitizer
from proxy.core.table import Context
from proxy.core.table_file import load

SECRET = "sk-fake-canary"
HEALTHY = b'{"model":"m","message":{"content":"Hi"},"done":false}\n{"done":true}\n'
STORED = {"custom_id": "1", "result": {"type": "errored", "error": {"message": SECRET}}}


def lines(max_line: int = 1000) -> tuple[LinesSanitizer, Ledger]:
    ledger = Ledger(load(), Context("other", "client", "ref"), 0)
    return LinesSanitizer(ledger, max_line), ledger


def relay(said: bytes, size: int = 0) -> tuple[bytes, Ledger]:
    sanitizer, ledger = lines()
    step = size or len(said) or 1
    out = b"".join(sanitizer.feed(said[i : i + step]) for i in range(0, len(said), step))
    return out + sanitizer.close(), ledger


def test_a_stream_that_has_failed_does_not_fail_again() -> None:
    sanitizer, ledger = lines()
    assert sanitizer.fail(Failure.IDLE)
    assert sanitizer.fail(Failure.RESET_AFTER) == b""
    assert len(ledger.incidents) == 1


def test_healthy_lines_pass_as_they_are() -> None:
    out, ledger = relay(HEALTHY)
    assert out == HEALTHY
    assert ledger.incidents == []


@pytest.mark.parametrize(
    "said",
    [
        HEALTHY,
        HEALTHY.rstrip(b"\n"),
        HEALTHY + json.dumps({"error": SECRET}).encode(),
        b"Traceback (most recent call last)\n" + HEALTHY,
        json.dumps(STORED).encode() + b"\n" + HEALTHY,
        b"\r\n\n" + HEALTHY + b"x" * 2000,
    ],
)
def test_chunking_never_shows(said: bytes) -> None:
    whole, _ = relay(said)
    assert all(relay(said, size)[0] == whole for size in (1, 2, 7, 64))
    assert SECRET.encode() not in whole


def test_an_error_is_the_last_line() -> None:
    out, ledger = relay(HEALTHY[:54] + b'{"error":"' + SECRET.encode() + b'"}\n' + HEALTHY)
    first, last = out.splitlines()
    assert first + b"\n" == HEALTHY[:54]
    assert json.loads(last)["error"]["code"] == "server_error"
    assert len(ledger.incidents) == 1


def test_a_stored_error_is_replaced_in_place() -> None:
    out, ledger = relay(json.dumps(STORED).encode() + b"\n" + HEALTHY)
    first, *rest = out.splitlines()
    assert json.loads(first)["custom_id"] == "1"
    assert SECRET.encode() not in first
    assert b"\n".join(rest) + b"\n" == HEALTHY
    assert len(ledger.incidents) == 1


def test_a_line_over_the_limit_and_a_broken_stream_end_in_one_failure() -> None:
    for too_long in (True, False):
        sanitizer, ledger = lines(10)
        out = sanitizer.feed(b"x" * 11) if too_long else sanitizer.fail(Failure.RESET_AFTER)
        assert "error" in json.loads(out)
        assert sanitizer.closed
        assert sanitizer.feed(HEALTHY) + sanitizer.close() + sanitizer.fail(Failure.IDLE) == b""
        assert len(ledger.incidents) == 1
