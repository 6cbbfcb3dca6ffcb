"""Message patterns and sentences: literal text with typed slots, no regular expressions.

A pattern is looked for in an upstream's message:

    maximum context length is {limit:int} tokens
    the model ... does not exist

Letters match in any case, a space matches any white space, a pattern begins and ends at
word boundaries, and `...` stands for at most 200 characters, or none, whose text is never kept.

A slot's value is the only thing of an upstream's that can stand in a sentence, so a slot
matches nothing that could carry a secret: a bounded number, or the name of a request field
that the API itself declares.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from proxy.core.spec import FIELD_NAMES

# A gap is bounded so that one pattern costs at most length times gap steps; no provider's
# sentence seen so far needs more than 120 characters between its telling parts.
_GAP: Final = r"[\s\S]{0,200}?"

_INT: Final = r"\d{1,3}(?:,\d{3}){1,3}|\d{1,12}"
_FLOAT: Final = r"\d{1,9}(?:\.\d{1,6})?"
_FIELD: Final = r"[A-Za-z_]\w{0,63}(?:\[\d{1,4}\]|\.\w{1,64}){0,8}"
# Digits of an index; APIs take thousands of messages, not more.
_MAX_INDEX: Final = 4
_UNIT: Final = (
    r"(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)"
)
_DURATION: Final = rf"{_FLOAT}(?:\s?{_UNIT}(?![A-Za-z])(?:\s?{_FLOAT}\s?{_UNIT}(?![A-Za-z]))*)?"
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# Compound forms such as 1m30s have no letter boundary between their parts.
_DURATION_PART: Final = re.compile(rf"({_FLOAT})\s?({_UNIT})?", re.IGNORECASE | re.ASCII)
_DURATION_COMPOUND: Final = rf"(?:\d{{1,4}}d)?(?:\d{{1,4}}h)?(?:\d{{1,6}}m)?{_FLOAT}m?s(?![A-Za-z])"


def _unit_seconds(unit: str) -> float:
    unit = unit.lower()
    if unit.startswith(("ms", "milli")):
        return _SECONDS["ms"]
    return _SECONDS[unit[:1] or "s"]


def _read_int(text: str) -> str:
    return str(int(text.replace(",", "")))


def _read_field(text: str) -> str | None:
    return text if is_field_name(text) else None


def _read_duration(text: str) -> str:
    total = sum(
        float(number) * _unit_seconds(unit) for number, unit in _DURATION_PART.findall(text)
    )
    return f"{total:g}" if total < 1e6 else str(int(total))


SLOT_TYPES: Final[Mapping[str, tuple[str, Callable[[str], str | None]]]] = {
    "int": (_INT, _read_int),
    "float": (_FLOAT, str),
    "name": (_FIELD, _read_field),
    "duration": (f"{_DURATION_COMPOUND}|{_DURATION}", _read_duration),
}
"""Slot type → what it matches, and how its text becomes a value (None: not this after all)."""

_TOKEN: Final = re.compile(
    r"\{(?P<slot>[^{}]*)\}|(?P<between>\s+(?:\.{3}|…)\s+)|(?P<gap>\.{3}|…)|(?P<space>\s+)|(?P<text>[^\s{.…]+|.)"
)
_NOT_LITERAL: Final = re.compile(r"\{[^{}]*\}|\.{3}|…")
_SLOT: Final = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,31}):(?P<type>[a-z]+)\Z")
_SENTENCE_SLOT: Final = re.compile(r"\{([^{}]*)\}")


def is_field_name(text: str) -> bool:
    """Tell whether `text` is a path of request fields, such as `messages[0].content`.

    A number is an index where it is short and stands between names: four in a row are an address.
    """
    if not re.fullmatch(_FIELD, text, re.ASCII):
        return False
    after_name = False
    for part in re.split(r"\]?[.\[]", text.rstrip("]")):
        if part.isdigit():
            if not after_name or len(part) > _MAX_INDEX:
                return False
        elif part not in FIELD_NAMES:
            return False
        after_name = not part.isdigit()
    return True


@dataclass(frozen=True, slots=True)
class Pattern:
    """A message pattern. `slots` maps each slot's name to its type."""

    text: str
    slots: Mapping[str, str]
    _regex: str  # not compiled before it is needed: most of a table's never are
    # Its longest literal part, in lower case: looked for first, being ten times faster.
    _anchor: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read `text`. Raises ValueError with a sentence for the table's author."""
        out: list[str] = []
        slots: dict[str, str] = {}
        gaps = literal = 0
        stripped = text.strip()
        for token in _TOKEN.finditer(stripped):
            if token["between"]:
                gaps += 1
                out.append(f" (?:{_GAP} )?")
            elif token["gap"]:
                gaps += 1
                out.append(_GAP)
            elif token["space"]:
                out.append(" ")
            elif token["slot"] is None:
                own = token["text"]
                literal += sum(1 if one.isascii() else 2 for one in own if one.isalnum())
                out.append(re.escape(own))
            else:
                slot = _SLOT.match(token["slot"])
                if slot is None or slot["type"] not in SLOT_TYPES:
                    kinds = ", ".join(SLOT_TYPES)
                    msg = (
                        f"the slot {{{token['slot']}}} is not {{name:type}} with a type of {kinds}"
                    )
                    raise ValueError(msg)
                if slot["name"] in slots:
                    msg = f"the slot {{{slot['name']}}} stands twice"
                    raise ValueError(msg)
                slots[slot["name"]] = slot["type"]
                out.append(f"(?P<{slot['name']}>{SLOT_TYPES[slot['type']][0]})")
        if literal < _MIN_LITERAL:
            msg = f"the pattern {text!r} has fewer than {_MIN_LITERAL} letters of its own"
            raise ValueError(msg)
        if gaps > _MAX_GAPS:
            msg = f"the pattern {text!r} has more than {_MAX_GAPS} gaps (...)"
            raise ValueError(msg)
        regex = "".join(out)
        if stripped[0].isalnum():
            regex = r"(?<![^\W_])" + regex
        if stripped[-1].isalnum():
            regex += r"(?![^\W_])"
        literals = _NOT_LITERAL.split(" ".join(stripped.lower().split()))
        anchor = max((part.strip() for part in literals), key=len)
        return cls(text, slots, regex, anchor)

    def match(self, message: str) -> dict[str, str] | None:
        """Return the slots' values where the pattern is in `message`, else None.

        message: with single spaces, as evidence leaves it.
        """
        if self._anchor not in message.lower():
            return None
        found = _compiled(self._regex).search(message)
        if found is None:
            return None
        values: dict[str, str] = {}
        for name, text in found.groupdict().items():
            value = SLOT_TYPES[self.slots[name]][1](text)
            if value is None:
                return None
            values[name] = value
        return values


# Each is made in 50 us and takes a KiB; the shipped table has thirteen hundred.
_MOST_COMPILED: Final = 2048


@lru_cache(maxsize=_MOST_COMPILED)
def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex, re.IGNORECASE | re.ASCII)


# Three letters already pick out a word; fewer would match nearly every message. Of a script whose
# words are two characters long, each counts for two.
_MIN_LITERAL: Final = 3
# Each further gap multiplies the steps a search may take.
_MAX_GAPS: Final = 2


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a client reads, with `{slot}`s that are filled from a rule's pattern."""

    text: str
    slots: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Sentence:
        """Read the slots of `text`. Raises ValueError with a sentence for its author."""
        slots = tuple(_SENTENCE_SLOT.findall(text))
        for slot in slots:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", slot):
                msg = f"{{{slot}}} is not a slot; write {{name}}, without a type"
                raise ValueError(msg)
        if not text.strip() or not text.isprintable():
            msg = "a sentence needs text, on one line and without control characters"
            raise ValueError(msg)
        return cls(text, slots)

    def fill(self, values: Mapping[str, str]) -> str | None:
        """Return the sentence, or None where a slot has no value."""
        if any(slot not in values for slot in self.slots):
            return None
        return _SENTENCE_SLOT.sub(lambda found: values[found[1]], self.text)


def whole_seconds(seconds: float) -> str:
    """Write a delay for people and for clients that parse it: rounded up, at least 1."""
    return str(max(1, math.ceil(seconds)))
