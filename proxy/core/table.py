"""The table: an `UpstreamError` in, a `Reply` out, and why.

Rule 1. Resolving is total: the first rule that matches decides, `default` where none does.
Rule 2. A reply's every word is the table's; a slot's value is a bounded number or the name
        of a field that the API declares.
Rule 3. An error that wraps another is matched layer by layer, the innermost first, because
        the gateway around it knows less. All conditions of a rule hold on one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from proxy.core.errors import Credentials, Origin, Reply, UpstreamError
from proxy.core.evidence import Reader
from proxy.core.failures import Failure
from proxy.core.fields import squash
from proxy.core.pattern import Pattern, Sentence, is_field_name, whole_seconds
from proxy.core.spec import RESPONSE_ERROR_CODES

Vocabulary = Literal["spec", "extended"]

# A longer wait is no retry; SDKs ignore more than a minute, people give up after a day.
MAX_RETRY_AFTER: Final = 86_400.0

SELF_FILLED_SLOTS: Final = frozenset({"retry_after", "reference", "param"})
"""Slots of a sentence that need no pattern, when the value is known."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may ask about the exchange, and what a reply says of it.

    surface: the API's name, as in `proxy.core.surfaces`.
    reference: joins the client's reply to the operator's log.
    """

    surface: str
    credentials: Credentials
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Conditions: all that are set must hold, any entry of each will do.

    status: "429", or "5xx" for a class. code and type are compared without case,
    underscores, hyphens and dots. `code` is compared with the type where the provider sent
    no code, or only a number that is an HTTP status.
    """

    status: tuple[str, ...] = ()
    code: frozenset[str] = frozenset()
    type: frozenset[str] = frozenset()
    param: frozenset[str] = frozenset()
    message: tuple[Pattern, ...] = ()
    failure: frozenset[Failure] = frozenset()
    origin: frozenset[Origin] = frozenset()
    surface: frozenset[str] = frozenset()
    provider: frozenset[str] = frozenset()
    credentials: frozenset[Credentials] = frozenset()

    def match(
        self, error: UpstreamError, context: Context, known: frozenset[str]
    ) -> dict[str, str] | str:
        """Return the slots' values, or the first condition that does not hold, in words.

        known: every code and type that the table names. A word that is none of them is also
            compared without the Error or Exception at its end.
        """
        if self.failure:
            if error.failure is None:
                return "the provider said this; the rule is for what the proxy sees"
            if error.failure not in self.failure:
                return f"failure is {error.failure}"
        elif error.failure is not None:
            return "the proxy saw this; the rule is for what a provider says"
        for name, wanted, found in (
            ("credentials", self.credentials, context.credentials),
            ("surface", self.surface, context.surface),
            ("origin", self.origin, error.origin),
            ("provider", self.provider, error.provider),
        ):
            if wanted and found not in wanted:
                return f"{name} is {found or 'not known'}"
        if self.code and self.code.isdisjoint(_forms(error.code or error.type, known)):
            return f"code is {_shown(error.code or error.type)}"
        if self.type and self.type.isdisjoint(_forms(error.type, known)):
            return f"type is {_shown(error.type)}"
        if self.status and not _status_in(error.status, self.status):
            return f"status is {error.status or 'not known'}"
        if self.param and error.param.lower() not in self.param:
            return f"param is {_shown(error.param)}"
        if not self.message:
            return {}
        for pattern in self.message:
            values = pattern.match(error.message)
            if values is not None:
                return values
        return "no message pattern matches" if error.message else "there is no message"


@dataclass(frozen=True, slots=True)
class ReplySpec:
    """A reply as declared. The last of `messages` has no slots, so one can always be said.

    if_proxy_credentials: the reply that is given instead where the proxy added the key: a
        refused key or an empty account is then the operator's fault, not the client's.
    """

    name: str
    status: int
    type: str
    messages: tuple[Sentence, ...]
    responses_code: str
    retryable: bool
    param: bool
    if_proxy_credentials: str | None
    place: str


@dataclass(frozen=True, slots=True)
class Example:
    """An error that must reach its rule, and where it is met."""

    error: UpstreamError
    context: Context


@dataclass(frozen=True, slots=True)
class Rule:
    """When a reply is given. `place` is file:line, `number` its place in its file, from 0."""

    name: str
    when: When
    reply: str
    example: Example
    number: int
    place: str

    @property
    def by_status_only(self) -> bool:
        """Tell whether this rule asks for nothing but a status: it matches what it knows not."""
        return self.when == When(status=self.when.status)

    def match(
        self, error: UpstreamError, context: Context, known: frozenset[str]
    ) -> dict[str, str] | str:
        """Match the innermost layer first; where none matches, say why the outermost did not."""
        why = ""
        for layer in error.layers():
            found = self.when.match(layer, context, known)
            if not isinstance(found, str):
                return found
            why = found
        return why


@dataclass(frozen=True, slots=True)
class Resolution:
    """A reply and the rule that gave it; None: the default."""

    reply: Reply
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Step:
    """One rule tried: `why_not` is "" for the rule that matched."""

    rule: Rule
    why_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The whole of what a client can ever read, and when.

    words: every code and type that a rule names, as they are compared.
    """

    replies: Mapping[str, ReplySpec]
    rules: tuple[Rule, ...]
    default: str
    vocabulary: Vocabulary = "spec"
    words: frozenset[str] = frozenset()
    reader: Reader = field(default_factory=Reader)

    def resolve(self, error: UpstreamError, context: Context) -> Resolution:
        """Return the reply for `error`. Never raises."""
        for rule in self.rules:
            values = rule.match(error, context, self.words)
            if not isinstance(values, str):
                return Resolution(self._fill(rule.reply, error, context, values), rule)
        return Resolution(self._fill(self.default, error, context, {}), None)

    def trace(self, error: UpstreamError, context: Context) -> Iterator[Step]:
        """Yield each rule tried, up to the one that matches."""
        for rule in self.rules:
            values = rule.match(error, context, self.words)
            if not isinstance(values, str):
                yield Step(rule, "")
                return
            yield Step(rule, values)

    def _fill(
        self, name: str, error: UpstreamError, context: Context, values: dict[str, str]
    ) -> Reply:
        spec = self.replies[name]
        if context.credentials == "proxy" and spec.if_proxy_credentials:
            spec = self.replies[spec.if_proxy_credentials]
        delay = error.retry_after
        if delay is not None and not 0 < delay <= MAX_RETRY_AFTER:
            delay = None
        known = {**values, "reference": context.reference}
        if delay is not None:
            known["retry_after"] = whole_seconds(delay)
        param = _param_of(error, values) if spec.param else None
        if param is not None:
            known["param"] = param
        sentences = (sentence.fill(known) for sentence in spec.messages)
        message = next((text for text in sentences if text is not None), "")
        return Reply(
            code=spec.name,
            responses_code=self._responses_code(spec),
            status=spec.status,
            type=spec.type,
            message=message,
            param=param,
            retryable=spec.retryable,
            retry_after=delay if spec.retryable else None,
            reference=context.reference,
        )

    def _responses_code(self, spec: ReplySpec) -> str:
        if self.vocabulary == "extended" or spec.name in RESPONSE_ERROR_CODES:
            return spec.name
        return spec.responses_code


def _forms(word: str, known: frozenset[str]) -> tuple[str, ...]:
    """Return what a word is compared as."""
    squashed = squash(word)
    if squashed in known:
        return (squashed,)
    return squashed, squashed.removesuffix("exception").removesuffix("error")


def _param_of(error: UpstreamError, values: Mapping[str, str]) -> str | None:
    if "param" in values:
        return values["param"]
    return next((e.param for e in error.layers() if is_field_name(e.param)), None)


def _status_in(status: int | None, wanted: tuple[str, ...]) -> bool:
    if status is None:
        return False
    text = str(status)
    return any(text == one or (one.endswith("xx") and one[0] == text[0]) for one in wanted)


def _shown(word: str) -> str:
    return repr(word) if word else "empty"
