"""Events that differ from one that was judged in what the model says, and in nothing else.

Parsing is half of what an event costs, and most events of a stream are the same bytes around
another piece of text. Of an event that was parsed and found ordinary, the bytes before and
after one string are kept. Where the same bytes stand around something that is certainly the
inside of a JSON string, the event is the same object with another text: its keys, numbers and
every other string are those that were judged.

Invariant: `fits` says nothing that parsing would not say; False says nothing at all.
"""

from __future__ import annotations

from typing import Final

from proxy.core.jsontext import write_json

# A provider whose events are never alike (a new id or time in each) is asked so many times.
_LESSONS: Final = 8


class Alike:
    """What the events of one stream have in common.

    key: the key of the string that may differ; its value decides nothing.
    """

    __slots__ = ("_after", "_before", "_key", "_lessons", "_shortest")

    def __init__(self, key: str) -> None:
        self._key = write_json(key) + b":"
        self._before = self._after = b""
        self._shortest = 0
        self._lessons = _LESSONS

    def fits(self, data: bytes) -> bool:
        """Tell whether `data` is certainly the learned object with another text."""
        if (
            not self._shortest
            or len(data) < self._shortest
            or not data.startswith(self._before)
            or not data.endswith(self._after)
        ):
            return False
        text = data[len(self._before) : -len(self._after)]
        # RFC 8259, section 7: neither a quote nor a backslash, and no control character;
        # what is not printable includes these.
        if b'"' in text or b"\\" in text:
            return False
        try:
            return text.decode().isprintable()
        except UnicodeDecodeError:
            return False

    def learn(self, data: bytes, text: object) -> None:
        """Keep what stands around `text` in an event that was judged, if that can be told.

        The key's closing quote has no backslash before it, so that it cannot stand inside
        another string: what follows is the string itself.
        """
        if not self._lessons or not isinstance(text, str):
            return
        self._lessons -= 1
        before, found, after = data.partition(self._key + write_json(text))
        if found:
            self._before = before + self._key + b'"'
            self._after = b'"' + after
            self._shortest = len(self._before) + len(self._after)
