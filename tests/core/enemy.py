"""The enemy's alphabet: what an upstream can put into a stream to break it or to leak."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from hypothesis import strategies as st

from proxy.core.surfaces.names import CHAT, MESSAGES, OTHER, RESPONSES
from tests.playbook import chunk, event

SECRET: Final = "CANARY"
"""Stands wherever only an error, a comment or the framing can carry it."""

CONTENT: Final = "GOLDFINCH"
"""Stands in ordinary content."""

Pieces = st.SearchStrategy[bytes]


def _call(error: Any) -> dict[str, Any]:
    return {"type": "mcp_call", "error": error}


def _item(error: Any) -> bytes:
    return event("response.output_item.done", item=_call(error)).data


# What a healthy stream of each surface is made of.
HEALTHY: Final[dict[str, list[bytes]]] = {
    RESPONSES: [
        event("response.created", sequence_number=0, response={"id": "resp_1"}).data,
        event("response.output_text.delta", sequence_number=1, delta=CONTENT).data,
        event("response.output_text.delta", "", sequence_number=7, delta=CONTENT).data,
        event("response.output_item.added", item={"type": "message"}).data,
        event("response.completed", sequence_number=9, response={"id": "resp_1"}).data,
    ],
    CHAT: [
        chunk(CONTENT).data,
        chunk(CONTENT, index=1).data,
        chunk("").data,
        chunk(finish="stop").data,
        b'data: {"object":"chat.completion.chunk","choices":[],"usage":{}}\n\n',
        b"data: [DONE]\n\n",
    ],
    MESSAGES: [
        event("message_start", message={"id": "msg_1"}).data,
        event("content_block_delta", delta={"text": CONTENT}).data,
        event("content_block_delta", "", delta={"text": CONTENT}).data,
        event("ping").data,
        event("message_stop").data,
    ],
    OTHER: [
        event("transcript.text.delta", delta=CONTENT).data,
        event("transcript.text.delta", "", delta=CONTENT).data,
        event("transcript.text.done", text=CONTENT).data,
    ],
}

# The usual event of each surface as providers write it, around its text (%).
USUAL: Final[dict[str, bytes]] = {
    RESPONSES: b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","delta":"%","sequence_number":4}\n\n',
    CHAT: b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":'
    b'[{"index":0,"delta":{"content":"%"},"finish_reason":null}]}\n\n',
    MESSAGES: b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"text":"%"}}\n\n',
    OTHER: b'event: transcript.text.delta\ndata: {"type":"transcript.text.delta","delta":"%"}\n\n',
}
# The same where each has a number and padding (#) of its own.
PADDED: Final[dict[str, bytes]] = {
    RESPONSES: USUAL[RESPONSES].replace(b'"%"', b'"%","obfuscation":"#"'),
    CHAT: USUAL[CHAT].replace(b"}]}", b'}],"obfuscation":"#"}'),
}
# Texts that are one, and bytes that are none or end theirs early.
_TEXTS: Final = (
    b"GOLDFINCH",
    b"",
    b"\\n",
    b'\\"',
    b"\\ud83d",
    b"\xff",
    b"\\",
    b'"',
    b"\n",
    b"\x00",
)
# What an event with padding has between its slots.
_BETWEEN: Final = (b'","obfuscation":"', b'",null,\n"', b'"\r,"y":"')
# A text that ends itself, with an error beside it: where the text is, or around that.
_BESIDE: Final = b'x","error":{"message":"CANARY"},"y":"'
_AROUND: Final = b'x"},"error":{"message":"CANARY"},"y":{"z":"'


def alike(surface: str) -> list[bytes]:
    """Return what is alike, and what nearly is: for the ways that are quicker than the long one."""
    usual = USUAL[surface]
    hostile = _AROUND if surface in (CHAT, MESSAGES) else _BESIDE
    like = [usual.replace(b"%", text) for text in (*_TEXTS, hostile)]
    numbered = [usual.replace(b'":"%"', b'":"%%","n":%d' % n) for n in range(12)]
    padded = [
        PADDED.get(surface, usual).replace(b"%", text).replace(b"#", padding)
        for text, padding in pairwise((b"x", *_TEXTS, b"x", *_BETWEEN, b"x"))
    ]
    in_two_lines = usual.replace(b',"', b',\ndata: "', 1)
    return [
        *like,
        b"".join(like[:5]),
        like[0] * 20,
        b"".join(numbered),
        *padded,
        b"".join(padded[:3]),
        padded[0] * 20,
        in_two_lines,
        in_two_lines.replace(b"\ndata: ", b"\n").replace(b"\n{", b"\ndata: {"),
        usual[:-20],
    ]


# Stored errors of an item or a response, which are replaced without ending the stream.
STORED: Final[dict[str, list[bytes]]] = {
    RESPONSES: [
        _item(SECRET),
        _item({"type": "http_error", "code": 502, "message": SECRET, SECRET: SECRET}),
        event(
            "response.in_progress",
            response={
                "id": "resp_1",
                "incomplete_details": {"reason": SECRET},
                "moderation": {"input": {"type": "error", "message": SECRET}},
                "output": [{"type": "mcp_list_tools", "error": SECRET}],
            },
        ).data,
    ],
    CHAT: [],
    MESSAGES: [],
    OTHER: [event("transcript.x", object="x", last_error={"code": SECRET, "message": SECRET}).data],
}

_WORDS: Final = st.sampled_from(
    [
        SECRET,
        f"429: {SECRET}",
        f"maximum context length is 7 tokens, {SECRET}",
        f'{{"a":"{SECRET}"}}',
    ]
)


def _errors(word: str) -> list[Any]:
    """Return an error in every shape that one was seen in."""
    nested = {"message": word, "type": word, "param": word, "code": word}
    return [
        {"error": nested},
        {"error": word},
        {"error": word, "code": 429},
        {"error": {"code": 429, "metadata": {"raw": json.dumps({"error": nested})}}},
        [{"error": nested}],
        {"type": "error", **nested},
        {"type": "error", "error": nested},
        {"object": "error", **nested},
        nested,
        {"detail": word},
        {"detail": [{"msg": word, "loc": [word]}]},
        {"message": word},
        {"Message": word, "__type": word},
        {"errors": [nested], "success": False},
        {"error_code": 336000, "error_msg": word},
        {"code": 7, "msg": word},
        {"type": "about:blank", "title": word, "status": 500},
        {"type": "server_error", "message": word},
        {"base_resp": {"status_code": 1008, "status_msg": word}, "choices": []},
        {"choices": [{"finish_reason": "error", "error": nested}], "id": word},
        {"type": "response.failed", "response": {"error": nested, "output": [_call(word)]}},
        {"type": "response.completed", "response": {"status": "failed", "error": nested}},
        word,
        7,
        [],
    ]


_ERROR_VALUES: Final = _WORDS.flatmap(lambda word: st.sampled_from(_errors(word)))

ERRORS: Final[Pieces] = st.builds(
    lambda value, frame: frame.replace(b"%", json.dumps(value).encode()),
    _ERROR_VALUES,
    st.sampled_from(
        [
            *(b"data: %\n\n", b"data:%\r\n\r\n", b"event: error\ndata: %\n\n", b"error: %\n\n"),
            *(b"%\n\n", b"event: CANARY\ndata: %\n\n", b"data: %\r\r", b"id: CANARY\ndata: %\n\n"),
        ]
    ),
)
"""Whole events that are errors."""

CARRIERS: Final[Pieces] = st.sampled_from(
    [
        *(b": CANARY\n", b":CANARY\r\n\r\n", b"CANARY: x\n\n", b"CANARY\r\r", b"id: CANARY\n\n"),
        *(b"data: CANARY\n\n", b"data: <html>CANARY</html>\n\n", b"<html>CANARY\n\n"),
        *(b"event: CANARY\ndata: [DONE]\n\n", b"event: CANARY\n\n", b"retry: CANARY\n\n"),
        b"Traceback (most recent call last):\n  CANARY\n\n",
    ]
)
"""Whole lines that carry text outside of any event."""

FRAMING: Final[Pieces] = st.sampled_from(
    [
        *(b"data: ", b"data:", b"data", b"event: ", b"event", b"error: ", b":", b"id: 7\n"),
        *(b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r"),
        *(b"\xef\xbb\xbf", b"\xef\xbb", b"\xbf", b"\xe2\x82", b"\xe2\x80\xa8", b"\x00", b"\xff"),
        *(b"{", b"}", b"{}", b"[", b"]", b"null", b'"', b",", b" ", b"\t", b"\\"),
        *(b"data: {}\n\n", b"data: [DONE]\n\n", b"event: \n", b"data: \n\n", b"data: null\n\n"),
        *(b'data: {"choices":[]}\n\n', b'{"type":"', b'"error":', b"x" * 300, b"y" * 5000),
    ]
)
"""Pieces of a stream, whole or not, that carry nothing."""


@dataclass(frozen=True)
class Enemy:
    """One stream: what is said, and how it ends."""

    surface: str
    data: bytes
    cut: bool


def streams(*alphabet: Pieces, stored: bool = False) -> st.SearchStrategy[Enemy]:
    """Streams of every surface, made of healthy events and of pieces of the alphabet."""

    def of(surface: str) -> st.SearchStrategy[Enemy]:
        own = HEALTHY[surface] + (STORED[surface] if stored else [])
        like = st.sampled_from(alike(surface))
        pieces = st.one_of(st.sampled_from(own), *alphabet, like, st.sampled_from(own), like)
        body = st.lists(pieces, max_size=12).map(b"".join)
        begun = alike(surface)[0]
        start = st.sampled_from(
            [b"", HEALTHY[surface][0], b"".join(HEALTHY[surface][:2]), begun, begun * 3]
        )
        return st.builds(
            lambda first, rest, cut: Enemy(surface, first + rest, cut),
            start,
            body,
            st.booleans(),
        )

    return st.sampled_from(sorted(HEALTHY)).flatmap(of)
