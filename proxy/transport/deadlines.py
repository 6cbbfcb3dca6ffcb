"""When a stream is late, and for what: all of its deadlines, and no clock of their own.

While the client is full nothing is read from the upstream, so that nobody can be said to be
silent: then only the whole stream's time goes on.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from proxy.core.failures import Failure
from proxy.transport.limits import Limits

NEVER: Final = float("inf")


class Due(Enum):
    """What is to be done at a deadline that is no failure."""

    END = "end"  # the answer is whole, and what could follow it has had its time
    OPEN = "open"  # an error has had its time to become a status
    COMMENT = "comment"  # the client has heard nothing for long


class State(NamedTuple):
    """How a stream stands. is_open: the client has the headers. is_full: it takes no more."""

    is_open: bool
    is_full: bool
    content_seen: bool
    ended: bool


class Deadlines:
    """The deadlines of one stream that begins `now`, in seconds of the event loop's clock.

    heard_at: when the upstream last sent anything, be it half an event.
    """

    __slots__ = ("_end", "_limits", "_said_at", "_whens", "heard_at")

    def __init__(self, now: float, limits: Limits) -> None:
        self._limits = limits
        self.heard_at = self._said_at = now
        self._end = NEVER
        self._whens = now + limits.stream, now + limits.first_event, now + limits.gate

    def await_end(self, now: float, *, ended: bool) -> bool:
        """Give what may follow a whole answer its time; tell whether that is a nearer deadline.

        ended: its last event was there; else only every choice has finished.
        """
        until = now + (self._limits.after_end if ended else self._limits.after_finish)
        nearer = until < self._end
        self._end = min(self._end, until)
        return nearer

    def commented(self, now: float) -> None:
        """Note that the client got a comment."""
        self._said_at = now

    def nearest(self, state: State) -> float:
        """Return when to look again."""
        return min(when for when, _ in self._all(state))

    def due(self, now: float, state: State) -> Due | Failure | None:
        """Return what is due, the most final first."""
        return next((what for when, what in self._all(state) if now >= when), None)

    def _all(self, state: State) -> tuple[tuple[float, Due | Failure], ...]:
        limits = self._limits
        stream, first_event, gate = self._whens
        listens = not state.is_full
        speaks = listens and state.is_open and not state.ended and limits.keep_alive > 0
        silent = max(self.heard_at, self._said_at) + limits.keep_alive
        return (
            (self._end, Due.END),
            (stream, Failure.TOO_LONG),
            (self.heard_at + limits.idle if listens else NEVER, Failure.IDLE),
            (first_event if listens and not state.content_seen else NEVER, Failure.FIRST_EVENT),
            (NEVER if state.is_open else gate, Due.OPEN),
            (silent if speaks else NEVER, Due.COMMENT),
        )
