"""The view: each scenario in two columns, what the provider said and what the client got.

Rule 1. It reads well in 80 columns, and uses more where there are more.
Rule 2. Red is what no client should see, green is what the proxy says instead; without
        colours, the figures beside each title say the same.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from proxy.demo.outcome import Count, Outcome, is_open_ended
from proxy.demo.scenarios import SCENARIOS, Scenario
from proxy.demo.transcript import Answer, Close, read

# Wider than this, two columns are harder to read than narrow ones.
_MAX_WIDTH: Final = 132

_APIS: Final = {"responses": "Responses", "chat": "Chat Completions"}
_KINDS: Final = {
    "application/json": "JSON",
    "text/html": "HTML",
    "text/event-stream": "event stream",
}
_LEAK: Final = "bold red"
_SAFE: Final = "green"


class View:
    """The terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        out = out or sys.stdout
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")  # not every terminal has an arrow
        self._console = Console(file=out, highlight=False)
        self._console.width = min(self._console.width, _MAX_WIDTH)
        self._shown = 0

    def begin(self) -> None:
        """Say what is to be seen."""
        failures = sum(not scenario.is_healthy for scenario in SCENARIOS)
        line = Text("discreet", "bold").append(
            f": {failures} ways a provider fails, and what its client gets to read", "not bold"
        )
        self._console.print(Group(Text(), line, Text()))

    def show(self, outcome: Outcome) -> None:
        """Show one scenario."""
        scenario = outcome.scenario
        self._shown += 1
        name = Text(f"{self._shown:>2} ", "dim").append(scenario.title, "not dim bold")
        name.append(f"  {_APIS[scenario.api]}", "dim")
        title = Table.grid(expand=True)
        title.add_column(ratio=1)
        title.add_column(justify="right", no_wrap=True)
        title.add_row(name, _score(outcome))
        sides = Table(
            box=box.MINIMAL, show_header=False, show_edge=False, expand=True, border_style="dim"
        )
        sides.add_column(ratio=1, overflow="fold")
        sides.add_column(ratio=1, overflow="fold")
        newline = Text("\n")
        sides.add_row(newline.join(_provider(outcome)), newline.join(_client(outcome)))
        point = Padding(Text(scenario.point, "dim italic"), (0, 0, 0, 1))
        self._console.print(title, Padding(Group(point, sides), (0, 0, 1, 2)))

    def end(self, counted: Count, logged: str) -> None:
        """Show the count, one line of the operator's log, and what to do next."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("")
        table.add_column("without", justify="right", header_style="dim")
        table.add_column("with discreet", justify="right", header_style="dim")
        rows = (
            ("secrets and internals that clients read", counted.leaks),
            ("answers that stop without an ending", counted.open_ended),
        )
        for what, (before, after) in rows:
            style = _LEAK if after else f"bold {_SAFE}"
            table.add_row(what, Text(str(before), _LEAK), Text(str(after), style))
        untouched = Text("untouched", _SAFE) if counted.untouched else Text("changed", _LEAK)
        table.add_row("a healthy stream", "", untouched)
        border = _SAFE if counted.is_good else _LEAK
        self._console.print(
            Panel.fit(table, title="The count", title_align="left", border_style=border), Text()
        )
        line = json.loads(logged)
        said = Text(" ".join(json.loads(line["original"])["error"]["message"].split()))
        known = Text(f"{line['reference']}  {line['reply']}", "bold")
        self._console.print(
            "Nothing is lost: the operator's log keeps it, under the client's reference.",
            Padding(Group(known, said), (0, 0, 1, 3)),
        )
        command = _command()
        self._console.print(
            "Next",
            f"   with your own client   [bold]{command} demo --serve[/]",
            f"   before your provider   [bold]{command} serve --upstream URL[/]",
            "",
            sep="\n",
            soft_wrap=True,
        )

    def serving(self, proxy: str, provider: str) -> None:
        """Say where both servers are, and what to try."""
        names = Table.grid(padding=(0, 2))
        for scenario in SCENARIOS:
            names.add_row(Text(scenario.name, "bold"), scenario.title)
        stream = '{"model": "traceback", "stream": true, "messages": []}'
        self._console.print(
            Text(),
            f"the proxy          [bold]{proxy}/v1[/]",
            f"the bare provider  {provider}/v1",
            "",
            "The model of a request picks what goes wrong, on both APIs:",
            "",
            Padding(names, (0, 0, 1, 3)),
            "Try (any key will do, and the provider's URL shows what it really said):",
            "",
            f"   curl -i {proxy}/v1/responses \\",
            '     -d \'{"model": "rate-limit", "input": "hello"}\'',
            "",
            f"   curl -N {proxy}/v1/chat/completions \\",
            f"     -d '{stream}'",
            "",
            f"   curl -N {provider}/v1/chat/completions \\",
            f"     -d '{stream}'",
            "",
            f"   export OPENAI_BASE_URL={proxy}/v1 OPENAI_API_KEY=any",
            "",
            "The proxy's log follows. Ctrl-C ends both.",
            "",
            sep="\n",
            soft_wrap=True,
        )


def _score(outcome: Outcome) -> Text:
    before, after = outcome.leaks_before, outcome.leaks_after
    if before or after:
        return _change(f"{before} leaks", str(after), good=after == 0)
    if is_open_ended(outcome.said):
        ended = not is_open_ended(outcome.got)
        return _change("no ending", "one" if ended else "none", good=ended)
    return Text("untouched", _SAFE) if outcome.identical else Text("changed", _LEAK)


def _change(before: str, after: str, *, good: bool) -> Text:
    text = Text(before, _LEAK).append(" → ", "not bold default dim")
    return text.append(after, f"not dim bold {_SAFE}" if good else _LEAK)


def _status(who: str, answer: Answer) -> Text:
    kind = answer.header("content-type").partition(";")[0]
    text = Text(f"{who}  ", "dim").append(f"HTTP {answer.status}", "not dim bold")
    return text.append(f", {_KINDS.get(kind, kind)}")


def _provider(outcome: Outcome) -> Iterator[Text]:
    scenario, answer = outcome.scenario, outcome.said
    said = read(answer)
    yield _status("provider said", answer)
    for name, value in answer.headers:
        if name.lower() == "retry-after" or any(leak in value for leak in scenario.leaks):
            yield _marked(f"{name.lower()}: {value}", scenario)
    if said.tool_error:
        yield _marked(f"tool: {said.tool_error}", scenario)
    if said.text:
        yield Text(f"“{said.text}”")
    if said.events:
        yield Text(" + ".join(said.events), "dim")
    for line in (said.message, *said.details):
        if line:
            yield _marked(line, scenario)
    if answer.close is Close.CUT:
        yield Text("✗ cut inside an event", _LEAK)
    elif answer.close is Close.SILENT:
        yield Text("✗ nothing more comes", _LEAK)
    elif is_open_ended(answer):
        yield Text("✗ no end mark", _LEAK)


def _client(outcome: Outcome) -> Iterator[Text]:
    answer = outcome.got
    got = read(answer)
    yield _status("client got", answer)
    if outcome.identical:
        yield Text(f"identical, {len(answer.body):,} bytes", _SAFE)
        return
    if retry := answer.header("retry-after"):
        yield Text(f"retry-after: {retry}")
    if got.tool_error:
        yield Text("tool: ").append(got.tool_error, _SAFE)
    if got.text:
        yield Text(f"“{got.text}”")
    if got.events:
        yield Text(" + ".join(got.events), "dim")
    if got.code:
        yield Text(got.code, "bold")
    if got.message:
        yield Text(got.message, _SAFE)
        if answer.reference not in got.message:
            yield Text(f"reference {answer.reference}", "dim")


def _marked(text: str, scenario: Scenario) -> Text:
    marked = Text(text)
    marked.highlight_words(scenario.leaks, _LEAK)
    return marked


def _command() -> str:
    """Return how this command is called from here."""
    called = Path(sys.argv[0])
    if called.name != "discreet" or shutil.which("discreet"):
        return "discreet"
    return str(called)
