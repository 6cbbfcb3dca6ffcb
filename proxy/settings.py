"""Settings: flags and `DISCREET_*` variables to one frozen object, or every problem at once.

This class is the only list of settings: the flags of `discreet serve`, their help and the
README's table are made from it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from proxy.operate.record import LogFormat, Originals
from proxy.transport.headers import Forwarded
from proxy.transport.limits import MIB, Limits
from proxy.values import Address, Bytes, HeaderMap, ListenAddress, Seconds, Size, UpstreamUrl

PREFIX: Final = "DISCREET_"


class Settings(BaseModel):
    """All settings. A description says what, and for a bound, why this default."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    upstream: UpstreamUrl = Field(
        description="The provider: scheme, host and an optional path prefix.",
        examples=["https://api.openai.com"],
        json_schema_extra={"metavar": "URL"},
    )
    listen: ListenAddress = Field(
        default=Address("127.0.0.1", 8080),
        description="Where clients connect.",
        json_schema_extra={"metavar": "HOST:PORT"},
    )
    mappings: Path | None = Field(
        default=None,
        description="Your table, or a folder of them. Without it, the shipped one.",
        json_schema_extra={"metavar": "FILE"},
    )
    admin: ListenAddress | None = Field(
        default=None,
        description="The operator's page, incidents, metrics and health. Without it, nowhere.",
        json_schema_extra={"metavar": "HOST:PORT"},
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="Worker processes. One serves thousands of streams; use one for each core.",
        json_schema_extra={"metavar": "NUMBER"},
    )
    admin_token: SecretStr | None = Field(
        default=None,
        description="A bearer token that the admin port asks for, except for health.",
        json_schema_extra={"metavar": "TOKEN"},
    )
    ready_check: bool = Field(
        default=False,
        description="true lets /readyz ask whether the upstream's host answers, too. All replicas "
        "share an upstream: where it is down, none is ready.",
        json_schema_extra={"metavar": "true|false"},
    )
    otel: bool = Field(
        default=False,
        description="true sends spans and metrics by OTLP; needs the extra `otel`.",
        json_schema_extra={"metavar": "true|false"},
    )
    log_format: LogFormat = Field(
        default="json", description="json for machines, console for people."
    )
    log_originals: Originals = Field(
        default="masked",
        description="What the log keeps of a provider's error: off, masked (no secrets) or full.",
    )
    upstream_api_key: SecretStr | None = Field(
        default=None,
        description="A key of yours, sent as a bearer token instead of the clients' keys.",
        json_schema_extra={"metavar": "KEY"},
    )
    upstream_headers: HeaderMap = Field(
        default={},
        repr=False,  # they hold credentials
        description="Headers of yours, sent upstream instead of the clients': a JSON object.",
        json_schema_extra={"metavar": "JSON"},
    )
    forwarded: Forwarded = Field(
        default="drop",
        description="Client addresses: add tells the upstream (X-Forwarded-For), drop does not.",
    )
    gate: Annotated[float, Field(ge=0, le=60)] = Field(
        default=2.0,
        description="Seconds for which a stream waits for content, "
        "so that an early error becomes a real HTTP status. 0: off.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    connect_timeout: Seconds = Field(
        default=10.0,
        description="Seconds to connect to the upstream.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    response_timeout: Seconds = Field(
        default=600.0,
        description="Seconds until the upstream's response headers. "
        "A reasoning model thinks for minutes.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    idle_timeout: Seconds = Field(
        default=300.0,
        description="Seconds of silence in the middle of an answer.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    first_event_timeout: Seconds = Field(
        default=900.0,
        description="Seconds until a stream's first event with content. Comments and "
        "`response.created` are none: a model that thinks may send them for minutes.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    stream_timeout: Seconds = Field(
        default=3600.0,
        description="Seconds for a whole stream.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    keep_alive: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0.0,
        description="Seconds of silence after which a client gets a comment, "
        "for load balancers that close idle streams. 0: off.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    send_timeout: Seconds = Field(
        default=60.0,
        description="Seconds for which a client may take nothing of what is sent to it.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    request_head_timeout: Seconds = Field(
        default=20.0,
        description="Seconds for a client to send a request's head.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    request_idle_timeout: Seconds = Field(
        default=60.0,
        description="Seconds of silence in the middle of a request's body.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    client_idle_timeout: Seconds = Field(
        default=75.0,
        description="Seconds for which a client's connection is kept without a request: "
        "longer than the load balancers before it keep theirs.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    upstream_idle_timeout: Seconds = Field(
        default=15.0,
        description="Seconds for which an unused connection to the upstream is kept: shorter "
        "than servers keep theirs, or a request meets one that is just closing.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    drain_delay: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0.0,
        description="Seconds after SIGTERM for which requests are still taken while /readyz says "
        "503, for load balancers to look away. 0: none.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    drain_timeout: Seconds = Field(
        default=30.0,
        description="Seconds that running streams get after that.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    max_connections: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        default=10_000,
        description="Client connections at one time. Each open stream takes one.",
        json_schema_extra={"metavar": "NUMBER"},
    )
    max_in_flight: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        default=5_000,
        description="Requests under way at one time; one more gets a 503.",
        json_schema_extra={"metavar": "NUMBER"},
    )
    max_event: Size = Field(
        default=Bytes(32 * MIB),
        description="The largest event of a stream. Image events are megabytes.",
        json_schema_extra={"metavar": "SIZE"},
    )
    max_body: Size = Field(
        default=Bytes(64 * MIB),
        description="The largest JSON answer.",
        json_schema_extra={"metavar": "SIZE"},
    )
    max_request: Size = Field(
        default=Bytes(512 * MIB),
        description="The largest request body. Providers take files of 512 MB.",
        json_schema_extra={"metavar": "SIZE"},
    )

    def limits(self) -> Limits:
        """Return the limits of the transport."""
        return Limits(
            gate=self.gate,
            connect=self.connect_timeout,
            response=self.response_timeout,
            first_event=self.first_event_timeout,
            idle=self.idle_timeout,
            stream=self.stream_timeout,
            drain_delay=self.drain_delay,
            drain=self.drain_timeout,
            keep_alive=self.keep_alive,
            send=self.send_timeout,
            request_head=self.request_head_timeout,
            request_idle=self.request_idle_timeout,
            client_unused=self.client_idle_timeout,
            upstream_unused=self.upstream_idle_timeout,
            connections=self.max_connections,
            in_flight=self.max_in_flight,
            event=self.max_event,
            body=self.max_body,
            request=self.max_request,
        )

    def token(self) -> str:
        """Return the admin port's token, "" without one."""
        return self.admin_token.get_secret_value() if self.admin_token else ""

    def added_headers(self) -> dict[str, str]:
        """Return the headers that go upstream in place of the client's."""
        added = dict(self.upstream_headers)
        if self.upstream_api_key is not None:
            added["Authorization"] = f"Bearer {self.upstream_api_key.get_secret_value()}"
        return added


class SettingsError(Exception):
    """Settings that cannot be used, with every problem found."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def flag_of(name: str) -> str:
    """Return a setting's flag."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """Return a setting's environment variable."""
    return PREFIX + name.upper()


def read_settings(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings; a flag wins over its variable.

    flags: by setting's name; None where a flag was not given.

    Raises SettingsError with every problem.
    """
    environ = os.environ if environ is None else environ
    problems = list(_unknown_variables(environ))
    given = {name: value for name, value in flags.items() if value is not None}
    variables = {name: environ.get(variable_of(name)) for name in Settings.model_fields}
    try:
        # An empty variable is one that is not set: compose files and charts leave them so.
        settings = Settings(**{n: v for n, v in variables.items() if v} | given)
    except ValidationError as error:
        problems += [_explain(dict(one), given) for one in error.errors()]
        settings = None
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


# Kubernetes gives every pod variables for each Service of its namespace: DISCREET_PORT,
# DISCREET_SERVICE_HOST, DISCREET_PORT_8080_TCP_ADDR for one that is called `discreet`.
_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = [name.upper() for name in Settings.model_fields]
    problems = []
    for name in environ:
        if _SERVICE_LINK.search(name):
            continue
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known:
            near = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
            remedy = f"did you mean {PREFIX}{near[0]}?" if near else "see `discreet serve --help`"
            problems.append(f"{name}: no such setting; {remedy}")
    return problems


def _explain(error: dict[str, Any], given: Mapping[str, Any]) -> str:
    name = str(error["loc"][0])
    place = flag_of(name) if name in given else variable_of(name)
    if error["type"] == "missing":
        example = Settings.model_fields[name].examples
        shown = f", such as {example[0]}" if example else ""
        what = (Settings.model_fields[name].description or "").rstrip(".")
        return f"{flag_of(name)} (or {variable_of(name)}) is missing: {what}{shown}"
    if error["type"] == "value_error":
        return f"{place}: {error['ctx']['error']}"
    message = error["msg"][:1].lower() + error["msg"][1:]
    return f"{place}: {message}"
