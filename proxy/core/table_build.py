"""The entries of a mappings file, and the table it extends, to a `Table`.

Here is checked what one entry alone does not show: names that must exist, names that must be
unique, slots that some rule must fill.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from proxy.core.errors import Origin, UpstreamError
from proxy.core.evidence import Reader
from proxy.core.fields import squash
from proxy.core.layout import Condition, Layout, Layouts, parse_path
from proxy.core.pattern import Pattern, Sentence
from proxy.core.problem import Problem, TableError
from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.surfaces.names import SURFACE_NAMES
from proxy.core.table import SELF_FILLED_SLOTS, Context, Example, ReplySpec, Rule, Table, When
from proxy.core.table_schema import ConditionEntry, LayoutEntry, ReplyEntry, RuleEntry, Source
from proxy.core.table_yaml import Place

_EMPTY: Final = Table(replies={}, rules=(), default="")


def build(source: Source, base: Table | None) -> Table:
    """Build a table. Raises TableError with every problem, those of the entries included."""
    builder = _Builder(source, base)
    table = builder.table()
    if builder.problems:
        raise TableError(builder.problems)
    return table


class _Builder:
    def __init__(self, source: Source, base: Table | None) -> None:
        self._source = source
        self._entry = source.entry
        self._base = base or _EMPTY
        self._replies: dict[str, ReplySpec] = dict(self._base.replies)
        self.problems: list[Problem] = list(source.problems)

    def table(self) -> Table:
        """Return the table; it is of use only if there are no problems."""
        entry, base = self._entry, self._base
        for name, reply in entry.replies.items():
            self._replies[name] = self._reply(name, reply)
        rules = [self._rule(i, rule) for i, rule in enumerate(entry.rules) if rule is not None]
        self._check_names(rules)
        self._check_slots(rules)
        delays = [self._delay(i, text) for i, text in enumerate(entry.retry_delays)]
        layouts = [_layout(one) for one in entry.evidence if one is not None]
        rules += [rule for rule in base.rules if rule.name not in entry.disable]
        return Table(
            replies=self._replies,
            rules=tuple(rules),
            words=frozenset[str]().union(*(r.when.code | r.when.type for r in rules)),
            default=entry.default or base.default,
            vocabulary=entry.vocabulary or base.vocabulary,
            reader=Reader(
                layouts=Layouts((*layouts, *base.reader.layouts.all)),
                delays=(*delays, *base.reader.delays),
            ),
        )

    def _say(self, place: Place, what: str, remedy: str) -> None:
        self.problems.append(self._source.problem(place, what, remedy))

    def _known(self, name: str, place: Place, what: str) -> None:
        """Check that a reply exists, or at least stands in the file with a problem of its own."""
        if name not in self._replies and name not in self._source.broken_replies:
            self._say(place, f"{what} {name!r} is not a reply", _did_you_mean(name, self._replies))

    def _reply(self, name: str, reply: ReplyEntry) -> ReplySpec:
        place: Place = ("replies", name)
        sentences = tuple(Sentence.parse(text) for text in reply.message)
        if sentences[-1].slots:
            what = f"the last sentence of {name} has a slot"
            remedy = "End with one without slots, so that there is always one to say."
            self._say((*place, "message"), what, remedy)
        if name not in RESPONSE_ERROR_CODES and reply.responses_code is None:
            what = f"{name} is not in the Responses API's ResponseError enum"
            remedy = "Add `responses_code:` with the enum's code that clients should act on."
            self._say(place, what, remedy)
        return ReplySpec(
            name=name,
            status=reply.status,
            type=reply.type,
            messages=sentences,
            responses_code=reply.responses_code or name,
            retryable=reply.retryable,
            param=reply.param,
            if_proxy_credentials=reply.if_proxy_credentials,
            place=self._source.place(place),
        )

    def _check_names(self, rules: list[Rule]) -> None:
        entry = self._entry
        if entry.default:
            self._known(entry.default, ("default",), "the default")
        elif not self._base.default and not self._source.problems:
            self._say((), "there is no default", "Add `default:` with the name of a reply.")
        for name, reply in entry.replies.items():
            if reply.if_proxy_credentials:
                where: Place = ("replies", name, "if_proxy_credentials")
                self._known(reply.if_proxy_credentials, where, "if_proxy_credentials:")
        shipped = {rule.name for rule in self._base.rules}
        for i, one in enumerate(entry.disable):
            if one not in shipped:
                what = f"the shipped table has no rule {one!r}"
                self._say(("disable", i), what, _did_you_mean(one, shipped))
        seen: dict[str, str] = {}
        for rule in rules:
            place: Place = ("rules", rule.number)
            self._known(rule.reply, (*place, "reply"), "the reply")
            if rule.when == When():
                remedy = "Name at least one; for everything else there is `default:`."
                self._say((*place, "when"), f"the rule {rule.name!r} has no condition", remedy)
            if rule.name in seen:
                what = f"two rules are called {rule.name!r} (the first at {seen[rule.name]})"
                self._say((*place, "name"), what, "Give each its own name.")
            seen.setdefault(rule.name, rule.place)
            if rule.name in shipped and rule.name not in entry.disable:
                what = f"the shipped table has a rule {rule.name!r} too"
                remedy = "Choose another name, or list it under `disable:`."
                self._say((*place, "name"), what, remedy)

    def _check_slots(self, rules: list[Rule]) -> None:
        filled: dict[str, set[str]] = {}
        for rule in (*rules, *self._base.rules):
            slots = {slot for pattern in rule.when.message for slot in pattern.slots}
            filled.setdefault(rule.reply, set()).update(slots)
        for name in self._entry.replies:
            for i, sentence in enumerate(self._replies[name].messages):
                for slot in set(sentence.slots) - SELF_FILLED_SLOTS - filled.get(name, set()):
                    remedy = "Add it to a message pattern of a rule with this reply."
                    what = f"no rule fills the slot {{{slot}}}"
                    self._say(("replies", name, "message", i), what, remedy)

    def _delay(self, index: int, text: str) -> Pattern:
        pattern = Pattern.parse(text)
        if list(pattern.slots.values()) != ["duration"]:
            remedy = 'Write it like "try again in {delay:duration}".'
            self._say(("retry_delays", index), f"{text!r} needs one slot for a duration", remedy)
        return pattern

    def _rule(self, index: int, entry: RuleEntry) -> Rule:
        when, shown = entry.when, entry.example
        error = UpstreamError(
            origin=shown.origin or (Origin.PROXY if shown.failure else Origin.HTTP),
            failure=shown.failure,
            status=shown.status,
            code=shown.code,
            type=shown.type,
            param=shown.param,
            message=" ".join(shown.message.split()),
            provider=shown.provider,
        )
        context = Context(
            surface=shown.surface or SURFACE_NAMES[0],
            credentials=shown.credentials or "client",
            reference="example",
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
            example=Example(error, context),
            number=index,
            place=self._source.place(("rules", index)),
        )


def _layout(entry: LayoutEntry) -> Layout:
    def path(text: str | None) -> tuple[str, ...]:
        return parse_path(text) if text else ()

    conditions = entry.error_when.items()
    return Layout(
        provider=entry.provider,
        error_when=tuple((parse_path(where), _condition(one)) for where, one in conditions),
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
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    # The shipped table has 170 rules; nobody reads them in an error.
    return f"Known: {', '.join(known)}." if len(known) < 60 else "See the file that is extended."
