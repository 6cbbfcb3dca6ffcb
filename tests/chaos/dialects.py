"""The APIs that are spoken here: a healthy stream of each, its error, and its endings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.proxies import CHAT, RESPONSES, Answer
from tests.upstreams import (
    CANARY,
    CHAT_FINISH,
    CHAT_OBJECT,
    CHAT_ROLE,
    DONE,
    RESPONSE,
    chat_text,
    completed,
    created,
    delta,
    error_event,
    event,
    in_progress,
)

Ending = Literal["complete", "failed", "refused"]
"""complete: the whole answer. failed: a stream's failure. refused: an HTTP error instead."""


class BrokenEndingError(AssertionError):
    """An answer that ends in no way, in two, or in one that is not well formed."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API. read: tells a stream's ending."""

    path: str
    begin: tuple[bytes, ...]
    text: Callable[..., bytes]
    end: tuple[bytes, ...]
    error: bytes
    object: bytes
    read: Callable[[list[Any]], Ending]

    def ending_of(self, answer: Answer, *, streams: bool) -> Ending:
        """Read an answer's only ending. Raises BrokenEndingError."""
        try:
            _demand(answer.whole, "the body is cut off")
            if answer.status != 200:
                _demand(400 <= answer.status <= 599, f"a status {answer.status}")
                _demand(bool(answer.error["message"]), "no message")
                return "refused"
            if streams:
                return self.read(answer.events)
            _demand(answer.body == self.object, "another object")
        except BrokenEndingError:
            raise
        except Exception as error:
            raise BrokenEndingError(repr(error)) from error
        return "complete"


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    if not holds:
        raise BrokenEndingError(otherwise)


def _read_responses(events: list[Any]) -> Ending:
    kinds = ["[DONE]" if one == "[DONE]" else one["type"] for one in events]
    sequence = [one["sequence_number"] for one in events if isinstance(one, dict)]
    _demand(sequence == sorted(set(sequence)), "sequence numbers do not rise")
    if "error" in kinds or "response.failed" in kinds:
        _demand(kinds.count("error") == kinds.count("response.failed") == 1, "two failures")
        _demand(kinds[-2:] == ["error", "response.failed"], "something follows the failure")
        _demand("response.completed" not in kinds, "an end and a failure")
        return "failed"
    _demand(kinds.count("response.completed") == 1, "no end, or two")
    _demand(kinds[-1] in ("response.completed", "[DONE]"), "something follows the end")
    return "complete"


def _read_chat(events: list[Any]) -> Ending:
    *chunks, last = events
    _demand(last == "[DONE]" and "[DONE]" not in chunks, "not one [DONE], or not at the end")
    errors = [one for one in chunks if "error" in one]
    if errors:
        _demand(len(errors) == 1 and chunks[-1] is errors[0], "two errors, or something after it")
        return "failed"
    finished = [one for one in chunks if any(c["finish_reason"] for c in one["choices"])]
    _demand(len(finished) == 1, "no finish, or two")
    return "complete"


def _read_messages(events: list[Any]) -> Ending:
    kinds = [one["type"] for one in events]
    ends = [kind for kind in kinds if kind in ("error", "message_stop")]
    _demand(len(ends) == 1, "no end, or two")
    _demand(kinds[-1] == ends[0], "something follows the end")
    return "failed" if ends == ["error"] else "complete"


def _message_text(number: int, text: str = "Hello ") -> bytes:
    said = {"type": "text_delta", "text": f"{text}{number}"}
    return event({"type": "content_block_delta", "index": 0, "delta": said})


_MESSAGE: Final = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}

DIALECTS: Final[dict[str, Dialect]] = {
    "responses": Dialect(
        path=RESPONSES,
        begin=(created(), in_progress()),
        text=lambda number, text="Hello ": delta(f"{text}{number}", number + 2),
        end=(completed(100),),
        error=error_event("server_error", 90),
        object=json.dumps(RESPONSE | {"status": "completed"}).encode(),
        read=_read_responses,
    ),
    "chat": Dialect(
        path=CHAT,
        begin=(CHAT_ROLE,),
        text=lambda number, text="Hello ": chat_text(f"{text}{number}"),
        end=(CHAT_FINISH, DONE),
        error=event({"error": {"message": CANARY, "code": CANARY}}),
        object=json.dumps(CHAT_OBJECT).encode(),
        read=_read_chat,
    ),
    "messages": Dialect(
        path="/v1/messages",
        begin=(event({"type": "message_start", "message": _MESSAGE}), event({"type": "ping"})),
        text=_message_text,
        end=(
            event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            event({"type": "message_stop"}),
        ),
        error=event({"type": "error", "error": {"type": "api_error", "message": CANARY}}),
        object=json.dumps(_MESSAGE).encode(),
        read=_read_messages,
    ),
}
