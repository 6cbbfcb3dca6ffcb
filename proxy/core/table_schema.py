"""What a mappings file may hold, and what is said of a file that holds something else.

The names of the fields are the keys of the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from proxy.core.errors import Credentials, Origin
from proxy.core.failures import Failure
from proxy.core.layout import parse_path
from proxy.core.pattern import Pattern, Sentence
from proxy.core.problem import Problem, TableError
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.surfaces.names import SURFACE_NAMES
from proxy.core.table import Vocabulary
from proxy.core.table_yaml import Place, read_yaml


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _worded(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        msg = "must be text; put it in quotes"
        raise ValueError(msg)
    return str(value)


def _one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """Check against a tuple, in the words that pydantic has for a Literal."""

    def check(text: str) -> str:
        if text not in allowed:
            kind, message = "literal_error", "Input should be {expected}"
            raise PydanticCustomError(kind, message, {"expected": ", ".join(allowed)})
        return text

    return check


Word = Annotated[str, BeforeValidator(_worded), Field(min_length=1, max_length=500)]
Words = Annotated[list[Word], BeforeValidator(_listed)]
ResponseCode = Annotated[str, AfterValidator(_one_of(RESPONSE_ERROR_CODES))]
SurfaceName = Annotated[str, AfterValidator(_one_of(SURFACE_NAMES))]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
StatusWord = Annotated[str, BeforeValidator(_worded), Field(pattern=r"^([2-5]\d\d|[2-5]xx)$")]


def _checked(parse: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


SentenceText = Annotated[str, Field(max_length=500), _checked(Sentence.parse)]
PatternText = Annotated[Word, _checked(Pattern.parse)]
PathText = Annotated[Word, _checked(parse_path)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplyEntry(_Entry):
    """One entry of `replies`."""

    status: int = Field(ge=400, le=599)
    type: Name
    message: Annotated[list[SentenceText], BeforeValidator(_listed), Field(min_length=1)]
    retryable: bool
    responses_code: ResponseCode | None = None
    param: bool = False
    if_proxy_credentials: Name | None = None


class WhenEntry(_Entry):
    """The conditions of a rule."""

    status: Annotated[list[StatusWord], BeforeValidator(_listed)] = []
    code: Words = []
    type: Words = []
    param: Words = []
    message: Annotated[list[PatternText], BeforeValidator(_listed)] = []
    failure: Annotated[list[Failure], BeforeValidator(_listed)] = []
    origin: Annotated[list[Origin], BeforeValidator(_listed)] = []
    surface: Annotated[list[SurfaceName], BeforeValidator(_listed)] = []
    provider: Words = []
    credentials: Annotated[list[Credentials], BeforeValidator(_listed)] = []


class ExampleEntry(_Entry):
    """An error that the rule must catch."""

    status: int | None = Field(default=None, ge=100, le=599)
    code: Annotated[str, BeforeValidator(_worded)] = ""
    type: Annotated[str, BeforeValidator(_worded)] = ""
    param: str = ""
    message: str = ""
    failure: Failure | None = None
    origin: Origin | None = None
    surface: SurfaceName | None = None
    provider: str = ""
    credentials: Credentials | None = None


class RuleEntry(_Entry):
    """One entry of `rules`."""

    name: RuleName
    when: WhenEntry
    reply: Name
    example: ExampleEntry


class ConditionEntry(_Entry):
    """What the value at a path must be; {} asks only that it is there and says something."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    not_: str | int | float | bool | list[str | int] | None = Field(default=None, alias="not")
    is_: str | int | float | bool | list[str | int] | None = Field(default=None, alias="is")


class LayoutEntry(_Entry):
    """One entry of `evidence`."""

    provider: RuleName
    error_when: Annotated[dict[PathText, ConditionEntry], Field(min_length=1)]
    code: PathText | None = None
    type: PathText | None = None
    message: PathText | None = None
    param: PathText | None = None
    status: PathText | None = None
    retry_after: PathText | None = None


class FileEntry(_Entry):
    """The whole file."""

    version: Literal[1]
    extends: Literal["shipped", "none"] = "shipped"
    default: Name | None = None
    vocabulary: Vocabulary | None = None
    replies: dict[Name, ReplyEntry] = {}
    rules: list[RuleEntry | None] = []
    disable: list[RuleName] = []
    evidence: list[LayoutEntry | None] = []
    retry_delays: list[PatternText] = []


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read: its entries, their lines, and what is wrong with others.

    An entry with a problem is left out: a rule or a piece of evidence is None, so that the
    others keep their numbers.
    """

    file: str
    entry: FileEntry
    lines: Mapping[Place, int]
    problems: list[Problem]
    broken_replies: set[str]

    def line(self, place: Place) -> int:
        """Return the line of a place, or of what holds it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def place(self, place: Place) -> str:
        """Return file:line."""
        return f"{self.file}:{self.line(place)}"

    def problem(self, place: Place, what: str, remedy: str) -> Problem:
        """Make a problem."""
        return Problem(self.file, self.line(place), what, remedy)


def read_source(data: bytes, file: str) -> Source:
    """Read a mappings file, as far as it can be read; its problems are in the source.

    Raises TableError where there is nothing to read.
    """
    value, lines, problems = read_yaml(data, file)
    if not isinstance(value, dict):
        remedy = "Begin with `version: 1`; the README shows a whole table."
        raise TableError([*problems, Problem(file, 1, "is not a table", remedy)])
    source = Source(file, FileEntry(version=1), lines, problems, set())
    for part in ("rules", "evidence"):
        entries = value.get(part)
        for i, one in enumerate(entries if isinstance(entries, list) else ()):
            if one is None:
                problems.append(source.problem((part, i), "an empty entry", "Take it out."))
    try:
        return replace(source, entry=FileEntry.model_validate(value))
    except ValidationError as error:
        errors: list[dict[str, Any]] = [dict(one) for one in error.errors()]
    problems += [_explain(source, value, one) for one in errors]
    for one in errors:
        _leave_out(tuple(one["loc"]), value, source.broken_replies)
    try:
        return replace(source, entry=FileEntry.model_validate({**value, "version": 1}))
    except ValidationError:
        raise TableError(problems) from None


def _leave_out(loc: Place, value: dict[Any, Any], broken_replies: set[str]) -> None:
    """Take out the entry that has a problem, so that the others can still be checked."""
    part = value.get(loc[0]) if loc else None
    if len(loc) > 1 and isinstance(part, list) and type(loc[1]) is int:
        part[loc[1]] = None if loc[0] in ("rules", "evidence") else part[loc[1]]
    elif len(loc) > 1 and isinstance(part, dict):
        part.pop(loc[1], None)
        broken_replies.add(str(loc[1]))
    else:
        value.pop(loc[0], None)


_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "replies": ReplyEntry,
    "rules": RuleEntry,
    "when": WhenEntry,
    "example": ExampleEntry,
    "evidence": LayoutEntry,
    "error_when": ConditionEntry,
}


def _explain(source: Source, value: object, error: dict[str, Any]) -> Problem:
    """Turn one of pydantic's findings into what, where and remedy."""
    loc: Place = tuple(error["loc"])
    kind, given = error["type"], error["input"]
    where = ".".join(str(part) for part in _known_place(loc, value))
    key = str(loc[-1])
    if kind == "extra_forbidden":
        model = next((_MODELS[str(p)] for p in reversed(loc[:-1]) if str(p) in _MODELS), FileEntry)
        known = [field.alias or name for name, field in model.model_fields.items()]
        near = difflib.get_close_matches(key, known, n=1)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."
        return source.problem(loc, f"unknown key {key!r}", remedy)
    if kind == "missing":
        return source.problem(loc[:-1], f"{where} is missing", f"Add `{key}:`.")
    if kind in ("literal_error", "enum"):
        allowed = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        near = difflib.get_close_matches(str(given), allowed.split(", "), n=1)
        remedy = f"Did you mean {near[0]!r}? " if near else ""
        return source.problem(loc, f"{where} is {given!r}", f"{remedy}Allowed: {allowed}.")
    if kind == "value_error":
        return source.problem(
            loc,
            f"{where}: {error['ctx']['error']}",
            "The README shows it under 'Add a rule in six lines'.",
        )
    if kind == "string_pattern_mismatch":
        pattern = error["ctx"]["pattern"]
        remedy = _PATTERN_REMEDIES.get(pattern, f"It must look like {pattern}.")
        return source.problem(loc, f"{where} is {given!r}", remedy)
    return source.problem(loc, f"{where} is {given!r}", f"{error['msg']}.")


_PATTERN_REMEDIES: Final = {
    r"^[a-z][a-z0-9_]{0,63}$": "Use lower-case letters, digits and underscores.",
    r"^[a-z][a-z0-9-]{0,63}$": "Use lower-case letters, digits and hyphens.",
    r"^([2-5]\d\d|[2-5]xx)$": "Write a status such as 429, or a class such as 5xx.",
}


def _known_place(loc: Place, value: object) -> Iterator[str | int]:
    """Leave out the parts of pydantic's location that are its own and not the file's."""
    for part in loc:
        match value, part:
            case dict(), _ if part in value:
                value = value[part]
            case list(), int() if part < len(value):
                value = value[part]
            case _ if part != loc[-1] or isinstance(part, int):
                continue
        yield part
