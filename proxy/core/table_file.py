"""A mappings file to a `Table`, or every problem in it with line and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.core.errors import Origin, UpstreamError
from proxy.core.evidence import Reader, squash
from proxy.core.layout import Condition, Layout, Layouts, parse_path
from proxy.core.pattern import Pattern, Sentence
from proxy.core.problem import Problem, TableError
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.surfaces.names import SURFACE_NAMES
from proxy.core.table import SELF_FILLED_SLOTS, Context, Example, ReplySpec, Rule, Table, When
from proxy.core.table_check import check
from proxy.core.table_schema import ConditionEntry, LayoutEntry, RuleEntry, Source, read_source
from proxy.core.table_yaml import Place

# A table is written by hand; ten times the shipped one is a mistake or an attack.
_MAX_FILE: Final = 1024 * 1024


def shipped_file() -> Path:
    """Return where the shipped table lies: in the wheel, or above the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "mappings.yaml"
    return packaged if packaged.exists() else package.parent / "mappings.yaml"


def load(path: Path | None = None) -> Table:
    """Read a table; None reads the shipped one. Raises TableError with every problem."""
    path = path or shipped_file()
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise TableError(
            [
                Problem(
                    str(path),
                    0,
                    f"cannot be read: {error.strerror}",
                    "Check the path and its permissions.",
                )
            ]
        ) from None
    return parse(data, str(path))


def parse(data: bytes, file: str) -> Table:
    """Read a table from bytes. Raises TableError with every problem; `file` names it there."""
    if len(data) > _MAX_FILE:
        what = f"is larger than {_MAX_FILE // 1024} KiB"
        raise TableError(
            [Problem(file, 0, what, "A table is written by hand; is this the right file?")]
        )
    source = read_source(data, file)
    base: Table | None = None
    if source.entry.extends == "shipped":
        base = load(shipped_file()) if Path(file).resolve() != shipped_file() else None
        if base is None:
            raise TableError(
                [
                    source.problem(
                        ("extends",), "the shipped table extends itself", "Write `extends: none`."
                    )
                ]
            )
    return _build(source, base)


def load_checked(path: Path | None = None) -> Table:
    """Read a table and prove it. Raises TableError with every problem."""
    table = load(path)
    problems = check(table)
    if problems:
        raise TableError(problems)
    return table


def _build(source: Source, base: Table | None) -> Table:
    entry = source.entry
    problems: list[Problem] = []
    replies = dict(base.replies) if base else {}
    for name, reply in entry.replies.items():
        place: Place = ("replies", name)
        sentences = tuple(Sentence.parse(text) for text in reply.message)
        if sentences[-1].slots:
            what = f"the last sentence of {name} has a slot"
            problems.append(
                source.problem(
                    (*place, "message"),
                    what,
                    "End with a sentence without slots, so that there is always one to say.",
                )
            )
        if name not in RESPONSE_ERROR_CODES and reply.responses_code is None:
            what = f"{name} is not in the Responses API's ResponseError enum"
            problems.append(
                source.problem(
                    place,
                    what,
                    "Add `responses_code:` with the enum's code that clients should act on.",
                )
            )
        replies[name] = ReplySpec(
            name=name,
            status=reply.status,
            type=reply.type,
            messages=sentences,
            responses_code=reply.responses_code or name,
            retryable=reply.retryable,
            param=reply.param,
            if_proxy_credentials=reply.if_proxy_credentials,
            place=source.place(place),
        )
    for name, reply in entry.replies.items():
        instead = reply.if_proxy_credentials
        if instead is not None and instead not in replies:
            place = ("replies", name, "if_proxy_credentials")
            problems.append(
                source.problem(
                    place, f"{instead!r} is not a reply", _did_you_mean(instead, replies)
                )
            )
    default = entry.default or (base.default if base else None)
    if default is None:
        problems.append(
            source.problem((), "there is no default", "Add `default:` with the name of a reply.")
        )
    elif default not in replies:
        problems.append(
            source.problem(
                ("default",),
                f"the default {default!r} is not a reply",
                _did_you_mean(default, replies),
            )
        )
    rules = [_rule(source, i, rule) for i, rule in enumerate(entry.rules)]
    problems += _rule_problems(source, rules, replies, base)
    kept = [rule for rule in (base.rules if base else ()) if rule.name not in entry.disable]
    layouts = [_layout(one) for one in entry.evidence]
    delays = [Pattern.parse(text) for text in entry.retry_delays]
    for i, pattern in enumerate(delays):
        if list(pattern.slots.values()) != ["duration"]:
            problems.append(
                source.problem(
                    ("retry_delays", i),
                    "needs exactly one slot",
                    'Write it like "try again in {delay:duration}".',
                )
            )
    if problems or default is None:
        raise TableError(problems)
    base_layouts = base.reader.layouts.all if base else ()
    return Table(
        replies=replies,
        rules=(*rules, *kept),
        default=default,
        vocabulary=entry.vocabulary or (base.vocabulary if base else "spec"),
        reader=Reader(
            layouts=Layouts((*layouts, *base_layouts)),
            delays=(*delays, *(base.reader.delays if base else ())),
        ),
    )


def _rule_problems(
    source: Source, rules: list[Rule], replies: Mapping[str, ReplySpec], base: Table | None
) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    shipped = {rule.name for rule in base.rules} if base else set()
    for i, rule in enumerate(rules):
        place: Place = ("rules", i)
        if rule.name in seen:
            yield source.problem(
                (*place, "name"),
                f"two rules are called {rule.name!r} (first in line {seen[rule.name]})",
                "Give each its own name.",
            )
        seen.setdefault(rule.name, source.line((*place, "name")))
        if rule.name in shipped and rule.name not in source.entry.disable:
            yield source.problem(
                (*place, "name"),
                f"the shipped table has a rule {rule.name!r} too",
                "Choose another name, or list it under `disable:`.",
            )
        if rule.reply not in replies:
            yield source.problem(
                (*place, "reply"),
                f"{rule.reply!r} is not a reply",
                _did_you_mean(rule.reply, replies),
            )
        if rule.when == When():
            yield source.problem(
                (*place, "when"),
                "has no condition",
                "Name at least one; for everything else there is `default:`.",
            )
    for i, name in enumerate(source.entry.disable):
        if name not in shipped:
            yield source.problem(
                ("disable", i),
                f"the shipped table has no rule {name!r}",
                _did_you_mean(name, shipped),
            )
    fillable: dict[str, set[str]] = {}
    for rule in (*rules, *(base.rules if base else ())):
        slots = {slot for pattern in rule.when.message for slot in pattern.slots}
        fillable.setdefault(rule.reply, set()).update(slots)
    for name in source.entry.replies:
        for i, sentence in enumerate(replies[name].messages):
            for slot in sentence.slots:
                if slot not in SELF_FILLED_SLOTS | fillable.get(name, set()):
                    yield source.problem(
                        ("replies", name, "message", i),
                        f"no rule fills the slot {{{slot}}}",
                        "Add it to a message pattern of a rule with this reply, or take it out.",
                    )


def _rule(source: Source, index: int, entry: RuleEntry) -> Rule:
    when, shown = entry.when, entry.example
    error = UpstreamError(
        origin=shown.origin or (Origin.PROXY if shown.failure else Origin.HTTP),
        failure=shown.failure,
        status=shown.status,
        code=shown.code,
        type=shown.type,
        param=shown.param,
        message=shown.message,
        provider=shown.provider,
    )
    return Rule(
        name=entry.name,
        when=When(
            status=tuple(when.status),
            code=frozenset(map(squash, when.code)),
            type=frozenset(map(squash, when.type)),
            param=frozenset(param.lower() for param in when.param),
            message=tuple(map(Pattern.parse, when.message)),
            failure=frozenset(when.failure),
            origin=frozenset(when.origin),
            surface=frozenset(when.surface),
            provider=frozenset(when.provider),
            credentials=frozenset(when.credentials),
        ),
        reply=entry.reply,
        example=Example(
            error,
            Context(
                surface=shown.surface or SURFACE_NAMES[0],
                credentials=shown.credentials or "client",
                reference="example",
            ),
        ),
        place=source.place(("rules", index)),
    )


def _layout(entry: LayoutEntry) -> Layout:
    def path(text: str | None) -> tuple[str, ...]:
        return parse_path(text) if text else ()

    return Layout(
        provider=entry.provider,
        error_when=tuple(
            (parse_path(where), _condition(condition))
            for where, condition in entry.error_when.items()
        ),
        code=path(entry.code),
        type=path(entry.type),
        message=path(entry.message),
        param=path(entry.param),
        status=path(entry.status),
        retry_after=path(entry.retry_after),
    )


def _condition(entry: ConditionEntry) -> Condition:
    if "not_" in entry.model_fields_set:
        return Condition("not", _values(entry.not_))
    return Condition("is", _values(entry.is_) if "is_" in entry.model_fields_set else ())


def _values(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, list) else (given,)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
