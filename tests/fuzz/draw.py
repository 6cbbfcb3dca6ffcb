"""Choices drawn from the first bytes of an input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """The choices are as good as the bytes; where these run out, it is always the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        if self._at >= len(self._data):
            return 0
        size = 1 if below <= 256 else 2
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big") % below

    def choice(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def flag(self) -> bool:
        return self.number(2) == 1

    def fork(self, size: int) -> Draw:
        """Take the next bytes off, for choices of their own."""
        self._at += size
        return Draw(self._data[self._at - size : self._at])

    def rest(self) -> bytes:
        return self._data[self._at :]

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Cut `data` into pieces of sizes drawn, the same ones over and over."""
        sizes = [1 + self.number(64) for _ in range(8)]
        start = turn = 0
        while start < len(data):
            end = start + sizes[turn % len(sizes)]
            yield data[start:end]
            start, turn = end, turn + 1
