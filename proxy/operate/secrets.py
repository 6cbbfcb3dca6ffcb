"""Masking of secrets in what the operator reads.

The log keeps what a provider said, and providers say keys. Masking is for the log only: no
client's text ever depends on it.
"""

from __future__ import annotations

import re
from typing import Final

_MASK: Final = "***"
_SECRETS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<=://)[^\s/@:]{1,200}:[^\s/@]{1,200}(?=@)",  # basic auth in a URL
        r"(?<=bearer )[\w.~+/*-]{4,}=*",
        r"(?<=basic )[\w+/]{8,}=*",
        r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|sess|key|ghp|glpat|r8|pplx|fw|csk|tgp)[-_][\w*.-]{4,}",
        r"\bAIza[\w*-]{10,}",
        r"\bA(?:KIA|SIA)[A-Z0-9]{8,}",
        r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*",  # a JWT
        r"(?<=cookie: )[^\r\n]+",
        r"(?<=api[_-]key[\"'=: ])[\"' ]{0,2}[\w*.-]{6,}",
        r"(?<=api key: )[\w*.-]{4,}",
        r"(?<=api key provided: )[\w*.-]{4,}",
    )
)
# What would break a line, hide text or move a terminal's cursor.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def mask(text: str) -> str:
    """Replace what looks like a secret."""
    for pattern in _SECRETS:
        text = pattern.sub(_MASK, text)
    return text


def one_line(text: str) -> str:
    """Replace control characters, so that no text can make a log line of its own."""
    return _CONTROL.sub(" ", text)
