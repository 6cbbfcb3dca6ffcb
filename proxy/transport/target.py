"""The client's request target: a path below the upstream, or nothing.

The upstream's URL is made of the setting and of a path that cannot leave its prefix: no
authority, no dot segment however it is encoded, nothing that is not a visible ASCII character.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

# No dot at a segment's beginning, nothing encoded: nearly every request's target.
_ORDINARY: Final = re.compile(r"(?:/[\w~:-][\w.~:-]*)+/?(?:\?[\x21\x22\x24-\x7e]*)?\Z", re.ASCII)
_VISIBLE: Final = re.compile(r"/[\x21-\x7e]*\Z")
# Twice encoded is the deepest that a careless upstream decodes.
_DECODINGS: Final = 2


def safe_target(target: str) -> str | None:
    """Return the target without its fragment, or None where it must not be forwarded."""
    if _ORDINARY.match(target):
        return target
    target = target.partition("#")[0]
    if not _VISIBLE.match(target) or target.startswith("//"):
        return None
    path = target.partition("?")[0].encode("ascii")
    for _ in range(_DECODINGS):
        path = unquote_to_bytes(path)
    # Some servers take a backslash for a slash, and cut parameters off a segment.
    segments = re.split(rb"[/\\]", path)
    if any(segment.partition(b";")[0].strip() in (b".", b"..") for segment in segments):
        return None
    if any(byte < 0x20 or byte == 0x7F for byte in path):
        return None
    return target
