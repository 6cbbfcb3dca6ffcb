"""A mappings file to a `Table`, or every problem in it with line and remedy."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from proxy.core.problem import Problem, TableError
from proxy.core.table import Table
from proxy.core.table_build import build
from proxy.core.table_check import check
from proxy.core.table_schema import read_source

# A table is written by hand; ten times the shipped one is a mistake or an attack.
_MAX_FILE: Final = 1024 * 1024


def shipped_file() -> Path:
    """Return where the shipped table lies: in the wheel, or above the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "mappings.yaml"
    return packaged if packaged.exists() else package.parent / "mappings.yaml"


def load(path: Path | None = None) -> Table:
    """Read a table, or a folder of them as one; None reads the shipped one.

    Raises TableError with every problem.
    """
    if path is None:
        return _shipped()
    if not path.is_dir():
        return parse(_read(path), str(path))
    # The first file's rules are tried first, so it is built last, on all that follow it.
    files = sorted(path.glob("[!.]*.y*ml"), reverse=True)
    if not files:
        what = "is a folder without a .yaml file"
        raise TableError([Problem(str(path), 0, what, "Put your table into it.")])
    table: Table | None = None
    problems: list[Problem] = []
    for file in files:
        try:
            table = parse(_read(file), str(file), table)
        except TableError as error:
            problems += error.problems
    if problems or table is None:
        raise TableError(problems)
    return table


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE + 1)
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        problem = Problem(str(path), 0, what, "Check the path and its permissions.")
        raise TableError([problem]) from None


def parse(data: bytes, file: str, below: Table | None = None) -> Table:
    """Read a table from bytes. Raises TableError with every problem; `file` names it there.

    below: what it extends instead of the shipped table: the folder's files that follow it.
    """
    if len(data) > _MAX_FILE:
        what = f"is larger than {_MAX_FILE // 1024} KiB"
        remedy = "A table is written by hand; is this the right file?"
        raise TableError([Problem(file, 0, what, remedy)])
    source = read_source(data, file)
    if source.entry.extends == "none":
        return build(source, None)
    if Path(file).resolve() == shipped_file():
        what, remedy = "the shipped table extends itself", "Write `extends: none`."
        raise TableError([*source.problems, source.problem(("extends",), what, remedy)])
    return build(source, below or _shipped())


@lru_cache(maxsize=1)
def _shipped() -> Table:
    """Return the shipped table, which does not change while a process runs."""
    file = shipped_file()
    return parse(_read(file), str(file))


def load_checked(path: Path | None = None) -> Table:
    """Read a table and prove it. Raises TableError with every problem."""
    table = load(path)
    problems = check(table)
    if problems:
        raise TableError(problems)
    return table
