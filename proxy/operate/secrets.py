"""Masking of secrets in what the operator reads.

The log keeps what a provider said, and providers say keys. Masking is for the log only: no
client's text ever depends on it.
"""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
# A key beside its name, in JSON, in JSON inside a string, in a header or in a query.
_NAMED: Final = (
    r"(?P<keep>\b(?:api[ _-]?key|access[ _-]?key|key|token|secret|passw(?:or)?d|authorization)"
    r"(?: provided| is)?\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?)[\w.~+/*-]{6,}"
)
# What stands before a secret stays; `keep` is that part.
_SECRETS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<keep>://)[^\s/@:]{1,200}:[^\s/@]{1,200}(?=@)",  # basic auth in a URL
        r"(?P<keep>\b(?:bearer|basic)\s{1,3})[\w.~+/*-]{4,}=*",
        r"(?P<keep>\b(?:set-)?cookie[\"']?\s{0,3}[:=]\s{0,3})[^\r\n]+",
        _NAMED,
        r"(?P<keep>)\b(?:sk|pk|rk|gsk|xai|hf|nvapi|sess|key|ghp|glpat|r8|pplx|fw|csk|tgp)[-_][\w*.-]{4,}",
        r"(?P<keep>)\bAIza[\w*-]{10,}",
        r"(?P<keep>)\bA(?:KIA|SIA)[A-Z0-9]{8,}",
        r"(?P<keep>)\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*",  # a JWT
    )
)
# What would break a line, hide text or move a terminal's cursor.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def mask(text: str) -> str:
    """Replace what looks like a secret."""
    if not text:
        return text
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<keep>{MASK}", text)
    return text


def one_line(text: str) -> str:
    """Replace control characters, so that no text can make a log line of its own."""
    return text if text.isprintable() else _CONTROL.sub(" ", text)
