"""Every other path below the upstream: Assistants, audio, images, embeddings, files, models.

Nothing is known of such a stream but that its events are JSON objects, that an object which
says it is an error is one, and for some paths, which event must come last.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core.errors import Origin, Reply
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json, write_json
from proxy.core.sse import Event, encode
from proxy.core.surfaces.alike import Alike
from proxy.core.surfaces.chat import DONE, choice_failed
from proxy.core.surfaces.names import OTHER
from proxy.core.surfaces.resource import clean, read_resource
from proxy.core.surfaces.surface import (
    BodyVerdict,
    Mark,
    Rewritten,
    Target,
    Verdict,
    has_error_mark,
    not_ordinary,
    openai_error,
    openai_error_body,
    read_stray,
    tells_of_error,
)

# The last event of a stream, by the end of its path. openai-python 3.54.0, types/.
_LAST: Final = {
    "/images/generations": "image_generation.completed",
    "/images/edits": "image_edit.completed",
    "/audio/speech": "speech.audio.done",
    "/audio/transcriptions": "transcript.text.done",
}


_DONE_WORD: Final = DONE.decode()


class OtherStream:
    """One stream of any other API."""

    def __init__(self, ledger: Ledger, last: str | None) -> None:
        self.quick = Alike()  # nothing is ever learned: what is not known is looked at
        self._ledger = ledger
        self._last = last
        self._ended = False
        self._untyped = False  # events had no types: a server of another make

    def read(self, event: Event) -> Verdict:
        """Judge one event."""
        data, name, stray = event
        reader = self._ledger.reader
        if data is None:
            return read_stray(event, reader) if stray else Mark.DROP
        value = parse_json(data)
        if type(value) is not dict:
            text = data.strip()
            if text == DONE and (self._ended or not self._must_come()):
                self._ended = True
                return Rewritten(DONE, name if name == b"done" else b"", Mark.CLOSE)
            return not_ordinary(event, value, reader) if text else Mark.DROP
        kind = value.get("type")
        if name == b"error":
            return reader.read(value, Origin.STREAM, raw=data)
        choices = value.get("choices")
        failed = isinstance(choices, list) and any(map(choice_failed, choices))
        if failed:
            return reader.read(value, Origin.STREAM, raw=data)
        if has_error_mark(value, reader) or tells_of_error(value):
            return not_ordinary(event, value, reader)
        self._untyped = self._untyped or not isinstance(kind, str)
        if self._last is not None and kind == self._last:
            self._ended = True
        if clean(value, self._ledger):
            data = write_json(value)
        return Rewritten(data, name if _may_pass(name, value) else b"", Mark.CONTENT)

    def complete(self, *, cleanly: bool) -> bool:
        """Where no last event is known, any event before a clean end may be it."""
        return self._ended or (cleanly and self._last != _DONE_WORD and not self._must_come())

    def _must_come(self) -> bool:
        """Tell whether the last event is known, and due: other makes of servers have others."""
        return self._last not in (None, _DONE_WORD) and not self._untyped

    def closing(self, reply: Reply) -> bytes:
        """Write the error both as OpenAI's typed streams and as its chunks have it."""
        error = openai_error(reply)
        return encode(write_json({**error, "type": "error", "error": error}), b"error")


def _may_pass(name: bytes, value: dict[str, Any]) -> bool:
    """A name is the upstream's own text; those that the APIs define say where they are."""
    return name in (b"done", b"message", b"ping") or name.decode("ascii", "replace") in (
        value.get("type"),
        *_THREAD_EVENTS,
    )


_THREAD_EVENTS: Final = frozenset(
    f"thread.{what}"
    for what in (
        "created",
        *(f"run.{how}" for how in ("created", "queued", "in_progress", "requires_action",
                                    "completed", "incomplete", "failed", "cancelling",
                                    "cancelled", "expired")),
        *(f"run.step.{how}" for how in ("created", "in_progress", "delta", "completed", "failed",
                                        "cancelled", "expired")),
        *(f"message.{how}" for how in ("created", "in_progress", "delta", "completed",
                                       "incomplete")),
    )
)  # fmt: skip


class OtherSurface:
    """Any other path."""

    name = OTHER

    def open(self, ledger: Ledger, target: Target) -> OtherStream:
        """Begin a stream."""
        path = target.path.rstrip("/")
        last = next((event for end, event in _LAST.items() if path.endswith(end)), None)
        if "threads" in path.split("/"):
            last = _DONE_WORD  # Assistants: `event: done`
        return OtherStream(ledger, last)

    def read_body(self, value: object, ledger: Ledger, target: Target) -> BodyVerdict:
        """Any JSON may pass that does not say it is an error."""
        del target
        return read_resource(value, ledger)

    def error_body(self, reply: Reply) -> bytes:
        """Write the body of an HTTP error."""
        return openai_error_body(reply)


other: Final = OtherSurface()
