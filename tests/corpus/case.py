"""The corpus: one recorded or made case after another, from the files in `cases/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from proxy.core.errors import Credentials
from proxy.core.surfaces import surface_of
from proxy.core.surfaces.surface import Surface, Target

FOLDER: Final = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What an upstream answered, and what a client is to read instead.

    method, path: what the client asked for; the path with its query.
    cut: the upstream's connection breaks after the body.
    reply, proxy_reply: the reply's name, where the key is the client's and where it is the
        proxy's; None where nothing is to be said.
    retry_after: seconds that the client is told.
    in_place: the answer passes; only the errors inside it are replaced.
    passes: a control, which passes byte for byte.
    incidents: how many faults there are.
    leaks: what must not reach the client.
    """

    id: str
    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool
    reply: str | None
    proxy_reply: str | None
    retry_after: float | None
    in_place: bool
    passes: bool
    incidents: int
    leaks: tuple[str, ...]

    @property
    def target(self) -> Target:
        return Target(self.method, self.path.partition("?")[0])

    @property
    def surface(self) -> Surface:
        return surface_of(self.target)

    @property
    def is_stream(self) -> bool:
        return self.status < 300 and self.content_type == "text/event-stream"

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].lower()

    def reply_for(self, credentials: Credentials) -> str | None:
        return self.reply if credentials == "client" else self.proxy_reply

    def __str__(self) -> str:
        return self.id


def _case(entry: Mapping[str, Any]) -> Case:
    method, path = entry["request"].split(" ")
    expect = entry["expect"]
    reply = expect.get("reply")
    return Case(
        id=entry["id"],
        method=method,
        path=path,
        status=entry["status"],
        headers=entry["headers"],
        body=entry["body"].encode(),
        cut=entry.get("cut", False),
        reply=reply,
        proxy_reply=expect.get("proxy_reply", reply),
        retry_after=expect.get("retry_after"),
        in_place=expect.get("in_place", False),
        passes=expect.get("pass", False),
        incidents=expect.get("incidents", 0 if reply is None else 1),
        leaks=tuple(entry.get("leaks", ())),
    )


# libyaml's, where it is there, is ten times faster.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read() -> tuple[Case, ...]:
    return tuple(
        _case(entry)
        for file in sorted(FOLDER.glob("*.yaml"))
        for entry in yaml.load(file.read_bytes(), _LOADER)  # noqa: S506 - either is the safe one
    )


CASES: Final = _read()
STREAMS: Final = tuple(case for case in CASES if case.is_stream)
CONTROLS: Final = tuple(case for case in CASES if case.passes)
