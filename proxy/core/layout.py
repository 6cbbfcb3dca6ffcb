"""Layouts: where a peculiar provider keeps its error, as data from the table.

    evidence:
      - provider: minimax
        error_when: {base_resp.status_code: {not: 0}}
        code: base_resp.status_code
        message: base_resp.status_msg

A path is keys joined by dots, an integer picks from a list. An object is an error by this
layout when every path of `error_when` is there and its condition holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Path = tuple[str, ...]
Scalar = str | int | float | bool | None


class _Absent:
    """No value at a path."""


_ABSENT: Final = _Absent()


def parse_path(text: str) -> Path:
    """Read a path. Raises ValueError with a sentence for the table's author."""
    path = tuple(text.split("."))
    if not all(path):
        msg = f"{text!r} is not a path: write keys joined by dots, such as base_resp.status_code"
        raise ValueError(msg)
    return path


def look_up(value: object, path: Path) -> object:
    """Return what is at `path`, or None."""
    found = _at(value, path)
    return None if found is _ABSENT else found


def _at(value: object, path: Path) -> object:
    for key in path:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif (
            isinstance(value, list) and key.isascii() and key.isdecimal() and int(key) < len(value)
        ):
            value = value[int(key)]
        else:
            return _ABSENT
    return value


@dataclass(frozen=True, slots=True)
class Condition:
    """What a value must be: `is` or `not` any of `values`; no values ask only that it is there."""

    kind: Literal["is", "not"]
    values: tuple[Scalar, ...]

    def holds(self, value: object) -> bool:
        """Compare as text, so that 0 and "0" are one."""
        if value is _ABSENT:
            return False
        if not self.values:
            return bool(value)
        return (str(value) in {str(v) for v in self.values}) == (self.kind == "is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One provider's layout. Empty paths are not looked up."""

    provider: str
    error_when: tuple[tuple[Path, Condition], ...]
    code: Path = ()
    type: Path = ()
    message: Path = ()
    param: Path = ()
    status: Path = ()
    retry_after: Path = ()

    def recognises(self, value: Mapping[str, object]) -> bool:
        """Tell whether `value` is an error by this layout."""
        return all(condition.holds(_at(value, path)) for path, condition in self.error_when)


class Layouts:
    """All layouts of a table, quick to say no: most objects have none of their keys."""

    def __init__(self, layouts: Sequence[Layout] = ()) -> None:
        self.all = tuple(layouts)
        self.keys = frozenset(path[0] for one in layouts for path, _ in one.error_when)

    def find(self, value: Mapping[str, object]) -> Layout | None:
        """Return the first layout by which `value` is an error."""
        if self.keys.isdisjoint(value):
            return None
        return next((one for one in self.all if one.recognises(value)), None)
