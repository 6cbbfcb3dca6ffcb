"""Figures that were measured on the way, printed at the end of the run."""

from __future__ import annotations

import pytest

_FIGURES = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, str]:
    return pytestconfig.stash.setdefault(_FIGURES, {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for what, figure in config.stash.get(_FIGURES, {}).items():
        terminalreporter.write_line(f"{what}: {figure}")
