"""The closed enums are those of the installed openai SDK; a newer SDK is noticed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import openai
from openai.types.responses import ResponseError, ResponseStreamEvent
from openai.types.responses.response import IncompleteDetails

from proxy.core import spec


def literals(annotation: Any) -> set[str]:
    """Return every string in a Literal, however deep in unions and Annotated it stands."""
    if isinstance(annotation, str):
        return {annotation}
    return set[str]().union(*map(literals, get_args(annotation)))


def drift(ours: Iterable[str], theirs: Iterable[str]) -> str:
    """Say in words how two lists differ; "" where they do not."""
    new, gone = sorted({*theirs} - {*ours}), sorted({*ours} - {*theirs})
    return "; ".join(
        f"{what} in openai-python {openai.__version__}: {', '.join(names)}"
        for what, names in (("new", new), ("no longer", gone))
        if names
    )


def test_drift_says_what_is_new_and_what_is_gone() -> None:
    assert drift(["a", "b"], ["b", "c"]) == (
        f"new in openai-python {openai.__version__}: c; "
        f"no longer in openai-python {openai.__version__}: a"
    )


def test_the_response_error_codes_are_the_sdks() -> None:
    theirs = literals(ResponseError.model_fields["code"].annotation)
    assert not drift(spec.RESPONSE_ERROR_CODES, theirs), drift(spec.RESPONSE_ERROR_CODES, theirs)


def test_the_incomplete_reasons_are_the_sdks() -> None:
    theirs = literals(IncompleteDetails.model_fields["reason"].annotation)
    assert not drift(spec.INCOMPLETE_REASONS, theirs), drift(spec.INCOMPLETE_REASONS, theirs)


def test_the_event_types_are_the_sdks() -> None:
    union, *_ = get_args(ResponseStreamEvent)
    theirs = set[str]().union(
        *(literals(event.model_fields["type"].annotation) for event in get_args(union))
    )
    assert not drift(spec.RESPONSE_EVENTS, theirs), drift(spec.RESPONSE_EVENTS, theirs)


def test_the_version_named_is_the_one_compared_with() -> None:
    assert f"openai-python {openai.__version__}" == spec.SPEC


def test_no_code_stands_twice() -> None:
    assert len(set(spec.RESPONSE_ERROR_CODES)) == len(spec.RESPONSE_ERROR_CODES)
