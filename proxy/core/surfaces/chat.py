"""Chat Completions and legacy completions: a stream of chunks with choices.

Neither API has an error event. A failure is written as `data: {"error":{...}}`, the one shape
on which every SDK raises, then `data: [DONE]`, which frees hand-written readers.

A stream has gone well when every choice seen has a `finish_reason`: `[DONE]` alone proves
nothing (vLLM, SGLang and LiteLLM send it right after an error), its absence neither
(llama-stack never sends it).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.incident import Ledger
from proxy.core.jsontext import parse_json, write_json
from proxy.core.sse import Event, encode
from proxy.core.surfaces.alike import Alike
from proxy.core.surfaces.burst import Burst
from proxy.core.surfaces.names import CHAT, COMPLETIONS
from proxy.core.surfaces.resource import read_resource
from proxy.core.surfaces.surface import (
    BodyVerdict,
    Mark,
    Ordinary,
    Rewritten,
    Target,
    Verdict,
    has_error_mark,
    is_error,
    not_ordinary,
    openai_error,
    openai_error_body,
    read_stray,
    tells_of_error,
)

DONE: Final = b"[DONE]"
_TYPE: Final = frozenset({"type"})
_SAID: Final = ("content", "reasoning_content", "reasoning", "refusal")
# Letters of any number, so that nobody who listens can tell a text by the length of its pieces.
PADDING: Final = "obfuscation"
# What no judgement looks at either, and some servers write anew in each chunk.
_OWN: Final = ("id", "created")
_CHUNKS: Final = ("chat.completion.chunk", "text_completion")


class ChatStream:
    """One stream of chunks."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begun: set[int] = set()  # indexes of choices seen
        self._finished: set[int] = set()  # those that have a finish_reason
        self._content_seen = False
        self._marks = ledger.reader.marks(_TYPE)
        self._alike = Alike()
        self._own: dict[str, object] = {}  # what the last lesson's chunk had of its own
        self.quick: Alike | Burst = self._alike

    def read(self, event: Event) -> Verdict:
        """Judge one chunk."""
        data, name, stray = event
        if data is None:
            return read_stray(event, self._ledger.reader) if stray else Mark.DROP
        value = None if data == DONE else parse_json(data)
        if type(value) is not dict:
            return self._read_text(event, data, value)
        if self._note_usual((value,), name):
            if not self._content_seen:
                return Mark.PRELUDE
            if self.quick is self._alike:
                self._learn(data, value)
            return Mark.CONTENT
        reader = self._ledger.reader
        if has_error_mark(value, reader) or name == b"error":
            return reader.read(value, Origin.STREAM, raw=data)
        choices = value.get("choices")
        if type(choices) is list:
            for choice in choices:
                verdict = self._read_choice(choice, event, value)
                if verdict is not None:
                    return verdict
        elif not _is_chunk_without_choices(value):
            return not_ordinary(event, value, reader)
        elif value.get("stop") is True:  # llama.cpp's own form of the last chunk
            self._begun.add(0)
            self._finished.add(0)
        if not self._content_seen:
            self._content_seen = type(choices) is list and any(map(_has_content, choices))
        mark = Mark.CONTENT if self._content_seen else Mark.PRELUDE
        return Rewritten(data, b"", mark) if name else mark  # the APIs name no events

    def _note_usual(self, values: Iterable[Any], name: bytes) -> int:
        """Return how many are usual, from the first on: of one choice, which goes on."""
        count = 0
        for value in values:
            choices = value.get("choices") if type(value) is dict else None
            if not (
                type(choices) is list
                and len(choices) == 1
                and not name
                and self._marks.isdisjoint(value)
                and value.get("object") in _CHUNKS
                and type(choice := choices[0]) is dict
                and not choice.get("finish_reason")
                and "error" not in choice
                and type(choice.get("index")) is int
            ):
                break
            self._begun.add(choice["index"])
            self._content_seen = self._content_seen or _has_content(choice)
            count += 1
        return count

    def _learn(self, data: bytes, value: dict[str, Any]) -> None:
        slots = [_said(value["choices"][0])]
        if type(value.get(PADDING)) is str:
            slots.append((PADDING, value[PADDING]))
        own = {name: value[name] for name in _OWN if type(value.get(name)) in (str, int)}
        if self._own:
            slots += [slot for slot in own.items() if slot not in self._own.items()]
        self._own = own
        self._alike.learn(data, slots[:3])
        if not self._alike.lessons:
            self.quick = Burst(self._note_usual)
            self.quick.look_for(b"")

    def _read_text(self, event: Event, data: bytes, value: object) -> Verdict:
        text = data.strip()
        if text == DONE:
            if self.complete():
                is_bare = data == DONE and not event.name
                return Mark.CLOSE if is_bare else Rewritten(DONE, b"", Mark.CLOSE)
            return UpstreamError(origin=Origin.PROXY, failure=Failure.DONE_EARLY)
        if not text:
            return Mark.DROP
        return not_ordinary(event, value, self._ledger.reader)

    def _read_choice(
        self,
        choice: Any,
        event: Event,
        value: dict[str, Any],
    ) -> UpstreamError | None:
        if type(choice) is not dict:
            return not_ordinary(event, value, self._ledger.reader)
        index = choice.get("index", 0)
        index = index if type(index) is int else 0
        if choice_failed(choice):
            said = choice.get("error") or value
            return self._ledger.reader.read(said, Origin.STREAM, raw=event.data or b"")
        if choice.get("finish_reason"):
            self._finished.add(index)
        self._begun.add(index)
        return None

    def complete(self, *, cleanly: bool = True) -> bool:
        """Every choice that began has its finish_reason."""
        del cleanly
        return bool(self._begun) and self._begun == self._finished

    def closing(self, reply: Reply) -> bytes:
        """Write the error chunk and the end mark."""
        return encode(write_json({"error": openai_error(reply)})) + encode(DONE)


def _is_chunk_without_choices(value: dict[str, Any]) -> bool:
    """Usage chunks, heartbeats and sources of some servers have no choices."""
    kind = value.get("object")
    if isinstance(kind, str) and kind.startswith(("chat.completion", "text_completion")):
        return True
    return not tells_of_error(value) and (
        value.get("type") == "ping"
        or isinstance(value.get("usage"), dict)
        or isinstance(value.get("sources"), list)  # Open WebUI
        or _is_native(value)
    )


def _is_native(value: dict[str, Any]) -> bool:
    """Tell whether this is llama.cpp's own form, which it speaks on `/completions`."""
    return isinstance(value.get("content"), str) and isinstance(value.get("stop"), bool)


def _is_deferred(value: dict[str, Any]) -> bool:
    """Tell whether an answer says that it comes later (xAI, Perplexity)."""
    return isinstance(value.get("request_id") or value.get("status"), str)


def choice_failed(choice: object) -> bool:
    """Tell whether a choice is an error: OpenRouter's own ways, in no spec."""
    return isinstance(choice, dict) and (
        choice.get("finish_reason") == "error" or is_error(choice.get("error"))
    )


def _said(choice: dict[str, Any]) -> tuple[str, object]:
    """Return what a usual choice says, with its name; no judgement ever looks at these."""
    delta = choice.get("delta")
    if type(delta) is dict:
        for name in _SAID:
            if delta.get(name):
                return name, delta[name]
    return "text", choice.get("text")  # legacy completions


def _has_content(choice: Any) -> bool:
    if choice.get("finish_reason") or choice.get("text"):
        return True
    delta = choice.get("delta")
    return type(delta) is dict and any(v for k, v in delta.items() if k != "role")


class ChatSurface:
    """Chat Completions, or legacy completions: they differ in their content only."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, ledger: Ledger, target: Target) -> ChatStream:
        """Begin a stream."""
        del target
        return ChatStream(ledger)

    def read_body(self, value: object, ledger: Ledger, target: Target) -> BodyVerdict:
        """An answer to POST has choices; below it lie stored completions."""
        if target.method != "POST" or not target.path.rstrip("/").endswith("/completions"):
            return read_resource(value, ledger)
        reader = ledger.reader
        if not isinstance(value, dict) or has_error_mark(value, reader):
            return reader.read(value, Origin.BODY)
        choices = value.get("choices")
        if not isinstance(choices, list):
            if (_is_deferred(value) or _is_native(value)) and not tells_of_error(value):
                return Ordinary()
            return reader.read(value, Origin.BODY, failure=Failure.MALFORMED_BODY)
        for choice in choices:
            if choice_failed(choice):
                return reader.read(choice.get("error") or choice, Origin.BODY)
        return Ordinary()

    def error_body(self, reply: Reply) -> bytes:
        """Write the body of an HTTP error."""
        return openai_error_body(reply)


chat: Final = ChatSurface(CHAT)
completions: Final = ChatSurface(COMPLETIONS)
