"""What came of the scenarios: leaks and endings, counted on both sides in the bytes delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.demo.scenarios import SCENARIOS, Scenario
from proxy.demo.transcript import Answer, Close, read

# A client must read no secret of any scenario, whichever it asked for.
_SECRETS: Final = tuple(leak for scenario in SCENARIOS for leak in scenario.leaks)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario and its two answers.

    said: what the provider answers. got: what the proxy's client gets.
    """

    scenario: Scenario
    said: Answer
    got: Answer

    @property
    def leaks_before(self) -> int:
        """How many leaks a client without the proxy reads."""
        return len(self.said.holds(self.scenario.leaks))

    @property
    def leaks_after(self) -> int:
        """How many the proxy's client reads."""
        return len(self.got.holds(_SECRETS))

    @property
    def identical(self) -> bool:
        """Tell whether the client got the provider's own bytes."""
        return self.said.body == self.got.body


def is_open_ended(answer: Answer) -> bool:
    """Tell whether a client cannot know that this is all."""
    return answer.close is not Close.ENDED or (answer.is_stream and not read(answer).ended)


@dataclass(frozen=True, slots=True)
class Count:
    """What all scenarios come to. A pair is before and after."""

    leaks: tuple[int, int]
    open_ended: tuple[int, int]
    untouched: bool

    @property
    def is_good(self) -> bool:
        """Tell whether the proxy kept its promises."""
        return self.leaks[1] == 0 and self.open_ended[1] == 0 and self.untouched


def count(outcomes: Sequence[Outcome]) -> Count:
    """Count."""
    return Count(
        leaks=(
            sum(one.leaks_before for one in outcomes),
            sum(one.leaks_after for one in outcomes),
        ),
        open_ended=(
            sum(is_open_ended(one.said) for one in outcomes),
            sum(is_open_ended(one.got) for one in outcomes),
        ),
        untouched=all(one.identical for one in outcomes if one.scenario.is_healthy),
    )
