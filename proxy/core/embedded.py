"""What hides inside text: JSON in a sentence, a Python repr, frames or XML where a body was due.

Invariant: total and bounded, as `evidence` is.
"""

from __future__ import annotations

import ast
import html
import json
import re
import warnings
from typing import Final

from proxy.core.jsontext import parse_json
from proxy.core.sse import Decoder

# JSON inside a string is parsed up to here; the largest seen nested body is 3 KiB.
MAX_NESTED: Final = 64 * 1024
_HTML: Final = re.compile(rb"\s*<(?:!--|!doctype|html|head|body|title|h1|center)", re.IGNORECASE)
_XML_FIELD: Final = re.compile(r"<(?:\w+:)?(Code|Message)>([^<]{1,1000})<", re.IGNORECASE)


def is_html(body: bytes) -> bool:
    """Tell whether a body is a page."""
    return _HTML.match(body[:1024]) is not None


def embedded(text: str) -> object:
    """Find the object inside a sentence: JSON, or the repr of a Python dict."""
    start = min((i for i in (text.find("{"), text.find("[{")) if i >= 0), default=-1)
    if start < 0 or len(text) - start > MAX_NESTED:
        return None
    piece = text[start:]
    try:
        value, _ = json.JSONDecoder().raw_decode(piece)
    except (ValueError, RecursionError):
        value = _python_literal(piece)
    return value if isinstance(value, dict | list) else None


def _python_literal(piece: str) -> object:
    end = max(piece.rfind("}"), piece.rfind("]")) + 1
    # The compiler's own stack is the limit here, and it is not ours to try.
    if not end or piece.count("{") + piece.count("[") + piece.count("(") > 64:
        return None
    try:
        with warnings.catch_warnings():  # an escape Python frowns at would be printed, text and all
            warnings.simplefilter("ignore")
            return ast.literal_eval(piece[:end])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def read_frames(body: bytes) -> object:
    """Read event-stream frames where a body was due (LiteLLM under a 500), and XML errors."""
    start = body[:MAX_NESTED].lstrip()
    if start.startswith((b"data:", b"event:", b"error:", b":")):
        decoder = Decoder(MAX_NESTED)
        events = decoder.feed(start[: MAX_NESTED - 2] + b"\n\n")
        values = [parse_json(e.data or e.stray) for e in events]
        return next((v for v in values if isinstance(v, dict | list)), None)
    if start.startswith(b"<"):
        found = _XML_FIELD.findall(start.decode("utf-8", "replace"))
        return {name.lower(): html.unescape(text) for name, text in found} or None
    return None
