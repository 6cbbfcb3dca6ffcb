"""Which deadline comes next, and what is due at it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.core.failures import Failure
from proxy.settings import read_settings
from proxy.transport.deadlines import NEVER, Deadlines, Due, State
from proxy.transport.limits import Limits

LIMITS = replace(
    read_settings({"upstream": "http://upstream.example"}, {}).limits(),
    gate=2,
    first_event=20,
    idle=10,
    stream=100,
    keep_alive=0,
    after_end=0.5,
    after_finish=3,
)
HELD = State(is_open=False, is_full=False, content_seen=False, ended=False)
OPEN = HELD._replace(is_open=True, content_seen=True)


def deadlines(**limits: Any) -> Deadlines:
    return Deadlines(1000, replace(LIMITS, **limits))


def test_the_gate_is_the_first() -> None:
    one = deadlines()
    assert one.nearest(HELD) == 1002
    assert one.due(1001.9, HELD) is None
    assert one.due(1002, HELD) is Due.OPEN


def test_an_upstream_is_silent_since_it_last_sent_anything() -> None:
    one = deadlines()
    one.heard_at = 1005
    assert one.nearest(OPEN) == 1015
    assert one.due(1015, OPEN) is Failure.IDLE


def test_content_is_waited_for_however_much_else_comes() -> None:
    one = deadlines()
    one.heard_at = 1019
    state = OPEN._replace(content_seen=False)
    assert one.nearest(state) == 1020
    assert one.due(1020, state) is Failure.FIRST_EVENT
    assert one.due(1020, OPEN) is None


def test_a_client_that_is_full_stops_all_but_the_stream_s_own_time() -> None:
    one = deadlines(keep_alive=1)
    full = OPEN._replace(is_full=True, content_seen=False)
    assert one.nearest(full) == 1100
    assert one.due(1099, full) is None
    assert one.due(1100, full) is Failure.TOO_LONG


@pytest.mark.parametrize(("ended", "until"), [(True, 1050.5), (False, 1053)])
def test_what_follows_a_whole_answer_gets_its_time_once(ended: bool, until: float) -> None:  # noqa: FBT001
    one = deadlines()
    one.heard_at = 1050
    assert one.await_end(1050, ended=ended)
    assert not one.await_end(1050.1, ended=ended)
    assert one.nearest(OPEN) == until
    assert one.due(until, OPEN) is Due.END


def test_the_last_event_shortens_what_the_last_choice_began() -> None:
    one = deadlines()
    assert one.await_end(1000, ended=False)
    assert one.await_end(1001, ended=True)
    assert one.nearest(OPEN) == 1001.5


def test_a_client_that_hears_nothing_gets_comments() -> None:
    one = deadlines(keep_alive=4)
    assert one.nearest(OPEN) == 1004
    assert one.due(1004, OPEN) is Due.COMMENT
    one.commented(1004)
    assert one.nearest(OPEN) == 1008
    one.heard_at = 1006
    assert one.nearest(OPEN) == 1010


@pytest.mark.parametrize("state", [OPEN._replace(ended=True), OPEN._replace(is_full=True)])
def test_nobody_gets_comments_who_has_all_or_takes_none(state: State) -> None:
    one = deadlines(keep_alive=4)
    assert one.due(1004, state) is None


def test_without_keep_alive_there_are_no_comments() -> None:
    assert deadlines(idle=NEVER, stream=NEVER).nearest(OPEN) == NEVER


def test_what_is_final_comes_before_what_is_not() -> None:
    one = deadlines(keep_alive=1)
    assert one.due(5000, HELD) is Failure.TOO_LONG
    one.await_end(1000, ended=True)
    assert one.due(5000, HELD) is Due.END


def test_whatever_is_nearest_is_due_then() -> None:
    for is_open in (False, True):
        for is_full in (False, True):
            for seen in (False, True):
                for ended in (False, True):
                    state = State(is_open, is_full, seen, ended)
                    one = deadlines(keep_alive=4)
                    assert one.due(one.nearest(state), state) is not None


def test_the_defaults_suit_models_that_think_for_minutes() -> None:
    limits: Limits = read_settings({"upstream": "http://upstream.example"}, {}).limits()
    assert limits.response >= 600
    assert limits.first_event >= 600
    assert limits.idle >= 300
