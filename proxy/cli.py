"""The command: serve, demo, check, explain, incidents, codes.

Exit codes: 0 all is well; 1 a check that failed; 2 a wrong argument, setting or table.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, get_args
from urllib.parse import quote

import typer

from proxy.codes import reference
from proxy.core.failures import Failure
from proxy.core.jsontext import write_json
from proxy.core.problem import TableError
from proxy.core.spec import SPEC
from proxy.core.table import Table
from proxy.core.table_check import check as find_problems
from proxy.core.table_file import load, load_checked
from proxy.explain import Explained, Explainer, describe, list_incidents
from proxy.operate.review import compare, logged_error, read_incidents
from proxy.operate.secrets import one_line
from proxy.remote import NotReachedError, ask
from proxy.settings import Settings, SettingsError, flag_of, read_settings, variable_of

_CHECK_FAILED: Final = 1
_USAGE: Final = 2

app = typer.Typer(
    name="discreet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="A reverse proxy that keeps an LLM provider's failures discreet.",
)


def _show_version(value: bool) -> None:  # noqa: FBT001 - as typer calls it
    if value:
        try:
            typer.echo(f"discreet {version('discreet-proxy')}")
        except PackageNotFoundError:
            typer.echo("discreet, not installed: run from its source")
        raise typer.Exit


@app.callback()
def _discreet(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """A reverse proxy that keeps an LLM provider's failures discreet."""


class SurfaceChoice(StrEnum):
    """The surfaces, for a flag."""

    responses = "responses"
    chat = "chat"
    completions = "completions"
    messages = "messages"
    other = "other"


class CredentialsChoice(StrEnum):
    """Whose key goes upstream, for a flag."""

    client = "client"
    proxy = "proxy"


def _stop(text: str, code: int) -> NoReturn:
    sys.stderr.write(text.rstrip("\n") + "\n")
    raise typer.Exit(code)


def _table(file: Path | None) -> Table:
    try:
        return load_checked(file)
    except TableError as error:
        _stop(_problems(error), _USAGE)


def _problems(error: TableError) -> str:
    count = len(error.problems)
    return f"{error}\n{count} problem{'s' if count > 1 else ''} in the table."


def _settings_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give `serve` one flag for each setting, with its help and its variable."""
    parameters = []
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        metavar = extra.get("metavar") if isinstance(extra, dict) else None
        default = field.default
        shown = f" [default: {default}]" if default not in (None, {}) and field.default else ""
        if field.is_required():
            shown = " [required]"
        option = typer.Option(
            flag_of(name),
            metavar=str(metavar or "|".join(get_args(field.annotation))),
            help=f"{field.description}{shown} [{variable_of(name)}]",
            show_default=False,
        )
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, option],
            )
        )
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


@app.command(name="serve")
@_settings_flags
def serve_command(**flags: Any) -> None:
    """Relay requests to the upstream until SIGTERM or Ctrl-C.

    Every flag is also an environment variable, named in brackets.
    """
    try:
        settings = read_settings(flags)
    except SettingsError as error:
        lines = "\n".join(f"  {problem}" for problem in error.problems)
        _stop(f"discreet cannot start:\n{lines}", _USAGE)
    from proxy.app import run_loop, serve
    from proxy.workers import supervise

    main = serve(settings) if settings.workers == 1 else supervise(settings)
    try:
        run_loop(main)
    except TableError as error:
        _stop(_problems(error), _USAGE)
    except ModuleNotFoundError as error:
        if not settings.otel:
            raise
        missing = f"{error.name} is missing; install discreet-proxy[otel]"
        _stop(f"discreet cannot start:\n  --otel: {missing}", _USAGE)
    except OSError as error:
        _stop(f"discreet cannot start:\n  --listen or --admin: {error.strerror}", _USAGE)


@app.command()
def demo(
    *,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Keep both servers running, to try with your own client."),
    ] = False,
) -> None:
    """Show a provider's failures before and after, without a key or a network."""
    from proxy.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(serve=serve)))


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The table, or a folder. Without it, the shipped one.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Logged errors, JSON lines: show what would change.", metavar="FILE"),
    ] = None,
) -> None:
    """Prove a table: every problem with file, line and remedy.

    Exit code 0: it can be served. 1: an example does not reach its rule. 2: it cannot be read.
    """
    try:
        table = load(file)
    except TableError as error:
        _stop(_problems(error), _USAGE)
    problems = find_problems(table)
    if problems:
        _stop(_problems(TableError(problems)), _CHECK_FAILED)
    name = file or "the shipped table"
    typer.echo(f"{name}: {len(table.rules)} rules and {len(table.replies)} replies, all proven.")
    if against is not None:
        logged = _read(str(against), "--against").decode("utf-8", "replace")
        for line in compare(read_incidents(logged, table), table):
            typer.echo(one_line(line))


AdminOption = Annotated[
    str | None,
    typer.Option(help="The running proxy's admin port [DISCREET_ADMIN].", metavar="HOST:PORT"),
]
TokenOption = Annotated[
    str | None,
    typer.Option(help="Its token, if it has one [DISCREET_ADMIN_TOKEN].", metavar="TOKEN"),
]


@app.command()
def incidents(
    reference: Annotated[
        str | None, typer.Argument(help="A client's reference. Without it, all.")
    ] = None,
    admin: AdminOption = None,
    admin_token: TokenOption = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, as `check` reads.")] = False,
) -> None:
    """List the last errors of the running proxy, and those that no rule matched.

    Exit code 1: there is none of this reference.
    """
    found = _ask("/incidents", admin, admin_token)
    entries = [one for one in found["incidents"] if reference in (None, one["reference"])]
    if reference is not None and not entries:
        _stop(f"no incident {reference}: it is older than what is kept, or of another proxy", 1)
    if json:
        for entry in entries:
            _echo_bytes(write_json(entry))
        return
    for line in list_incidents(entries, [] if reference else found["unmapped"]):
        typer.echo(line)


def _ask(path: str, admin: str | None, token: str | None) -> Any:
    try:
        return ask(path, admin, token)
    except NotReachedError as error:
        _stop(str(error), _USAGE)


@app.command()
def explain(
    status: Annotated[
        int | None, typer.Option(help="The answer's HTTP status.", min=100, max=599)
    ] = None,
    body: Annotated[
        str | None, typer.Option(help="A file with the answer's body, or -.", metavar="FILE")
    ] = None,
    event: Annotated[
        str | None, typer.Option(help="A file with one event, or -.", metavar="FILE")
    ] = None,
    stream: Annotated[
        str | None, typer.Option(help="A file with a whole event stream, or -.", metavar="FILE")
    ] = None,
    failure: Annotated[
        str | None, typer.Option(help="The name of a failure that the proxy sees.", metavar="NAME")
    ] = None,
    incident: Annotated[
        str | None,
        typer.Option(help="A client's reference, asked of the running proxy.", metavar="REF"),
    ] = None,
    admin: AdminOption = None,
    admin_token: TokenOption = None,
    surface: Annotated[
        SurfaceChoice, typer.Option(help="The API it came from.")
    ] = SurfaceChoice.responses,
    credentials: Annotated[
        CredentialsChoice, typer.Option(help="Whose key was sent upstream.")
    ] = CredentialsChoice.client,
    mappings: Annotated[
        Path | None, typer.Option(help="The table. Without it, the shipped one.", metavar="FILE")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--every", help="One line for each rule tried.")] = False,
) -> None:
    """Show what the table does with one captured error, rule by rule.

    Give --status and --body, or one of --event, --stream, --failure and --incident.
    """
    given = (status if status is not None else body, event, stream, failure, incident)
    if sum(one is not None for one in given) != 1:
        what = "Give --status and --body, or one of --event, --stream, --failure and --incident."
        _stop(what, _USAGE)
    table = _table(mappings)
    explainer = Explainer(table, surface.value, credentials.value)
    whole = b""
    found: Explained | None
    if incident is not None:
        entries = _ask(f"/incidents/{quote(incident, safe='')}", admin, admin_token)
        if not entries:
            _stop(f"--incident: the proxy knows no {incident}", _CHECK_FAILED)
        logged = logged_error(entries[0], table)
        explainer = Explainer(table, logged.context.surface, logged.context.credentials)
        found = explainer.error(logged.error)
    elif failure is not None:
        found = explainer.failure(_failure(failure))
    elif event is not None:
        found = explainer.event(_read(event, "--event"))
    elif stream is not None:
        found, whole = explainer.stream(_read(stream, "--stream"))
    else:
        found = explainer.http(
            500 if status is None else status, _read(body, "--body") if body else b""
        )
    if found is None:
        typer.echo("no error: this passes to the client as it is")
        _echo_bytes(whole)
        return
    for line in describe(found, every=every):
        typer.echo(line)
    typer.echo("the client gets")
    _echo_bytes(found.client)


def _failure(name: str) -> Failure:
    try:
        return Failure[{one.value: one.name for one in Failure}[name]]
    except KeyError:
        known = "\n".join(f"  {one.value:<40} {one.meaning}" for one in Failure)
        _stop(f"--failure: {name!r} is no failure. Known:\n{known}", _USAGE)


def _read(file: str, flag: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        _stop(f"{flag}: {file}: {error.strerror}", _USAGE)


def _echo_bytes(data: bytes) -> None:
    typer.echo(data.decode("utf-8", "replace").rstrip("\n"))


@app.command()
def codes(
    mappings: Annotated[
        Path | None, typer.Option(help="The table. Without it, the shipped one.", metavar="FILE")
    ] = None,
) -> None:
    """Print the reference for client developers, in Markdown."""
    typer.echo(reference(_table(mappings), SPEC))
