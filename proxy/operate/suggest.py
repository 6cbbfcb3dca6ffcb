"""A rule for what no rule matched: proposed, proven, and ready to paste.

The narrowest condition that will still match the next time comes first: a code, then a type,
then the words of the message that do not vary. Whatever is proposed has passed `check`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from proxy.core.fields import squash
from proxy.core.problem import TableError
from proxy.core.table_file import parse
from proxy.operate.secrets import MASK

# Words that are written anew each time: numbers, ids, quoted names, paths, addresses.
_VARIABLE: Final = re.compile(r"[\"'`][^\"'`]{0,200}[\"'`]|\S*[\d*@_/\\]\S*|https?://\S+")
_SENTENCE: Final = re.compile(r"[.!?\n](?:\s|$)")
_GAP: Final = re.compile(r"(?:\s*\.\.\.)+\s*")
_MAX_PATTERN: Final = 120


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A rule as YAML, as it goes under `rules:`."""

    name: str
    text: str


def suggest_rule(
    said: Mapping[str, Any], failure: str | None, reply: str = "server_error"
) -> Suggestion | None:
    """Propose a rule for an error; None where nothing about it is telling.

    said: status, code, type, param and message, masked. reply: what clients are told now, so
        that a rule that is pasted as it is changes nothing but to give the error a name.
    """
    telling = ("status", "code", "type", "message")
    example = {name: said[name] for name in telling if said[name]}
    if failure:
        example = {"failure": failure}
    for when in _conditions(said, failure):
        name = _name(when)
        rule: dict[str, Any] = {
            "name": name,
            "when": when,
            "reply": reply,
            "example": {**example, "message": example["message"][:300]}
            if "message" in example
            else example,
        }
        if _is_proven(rule):
            text = yaml.safe_dump([rule], sort_keys=False, allow_unicode=True, width=96)
            return Suggestion(name, text)
    return None


def _conditions(said: Mapping[str, Any], failure: str | None) -> Iterator[dict[str, Any]]:
    if failure:
        yield {"failure": failure}
        return
    for name in ("code", "type"):
        word = said[name]
        if squash(word) and MASK not in word:  # what was masked will not come so again
            yield {name: word}
    pattern = _pattern(said["message"])
    if pattern:
        yield {"message": pattern}


def _pattern(message: str) -> str:
    """Take the first sentence, with gaps for what varies."""
    sentence = _SENTENCE.split(message, maxsplit=1)[0][:_MAX_PATTERN]
    words = _VARIABLE.sub("...", sentence).replace("{", "...").replace("}", "...")
    pieces = [piece.strip(" ,:;-") for piece in _GAP.split(words)]
    pieces = [piece for piece in pieces if len(piece) > 2]
    # Three pieces have two gaps, which is what a pattern may have; the longest tell most.
    while len(pieces) > 3:
        pieces.remove(min(pieces, key=len))
    return " ... ".join(pieces)


def _name(when: Mapping[str, Any]) -> str:
    words = re.findall(r"[a-z0-9]+", str(next(iter(when.values()))).lower())
    name = "-".join(words)[:48].strip("-")
    return name if name[:1].isalpha() else f"error-{name}".strip("-")


def _is_proven(rule: dict[str, Any]) -> bool:
    file = yaml.safe_dump({"version": 1, "rules": [rule]}, allow_unicode=True)
    try:
        table = parse(file.encode("utf-8"), "suggestion")
    except TableError:
        return False
    example = table.rules[0].example
    return table.resolve(example.error, example.context).rule is table.rules[0]
