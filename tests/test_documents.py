"""What is documented is so. `python tests/test_documents.py` writes the README's settings table."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from proxy.core.surfaces.names import SURFACE_NAMES
from proxy.core.table_file import load
from proxy.core.table_schema import FileEntry, WhenEntry
from proxy.explain import Explainer
from proxy.settings import Settings, flag_of, variable_of

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_TABLE = re.compile(r"(<!-- settings:[^\n]*-->\n).*?(<!-- end of settings -->)", re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def settings_table() -> str:
    rows = ["| flag | variable | default | what it is |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.is_required() or field.default in (None, {}) else f"`{field.default}`"
        words = get_args(field.annotation)
        choice = ""
        if words and all(isinstance(word, str) for word in words):
            choice = " " + "\\|".join(words)
        cells = f"`{flag_of(name)}`{choice}", f"`{variable_of(name)}`", default, field.description
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def blocks(kind: str) -> list[str]:
    return [text for name, text in _BLOCK.findall(README.read_text()) if name == kind]


def test_the_settings_table_is_what_the_settings_are() -> None:
    found = _TABLE.search(README.read_text())
    assert found is not None
    assert found[0] == found[1] + settings_table() + found[2], "run python tests/test_documents.py"


def test_the_rule_in_the_readme_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(blocks("yaml")[0])
    ran = 0
    for line in "".join(blocks("sh")).splitlines():
        command = line.split("#")[0].strip()
        if command.startswith("echo"):
            subprocess.run(command, shell=True, check=True, cwd=tmp_path)  # noqa: S602 - ours
        if not command.startswith(("discreet check mine", "discreet explain --mappings")):
            continue
        if "--against" in command:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *shlex.split(command)[1:]],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if "explain" in command:
            assert "yes  tenant-suspended" in done.stdout
            assert '"code":"permission_denied"' in done.stdout
        ran += 1
    assert ran == 2


def test_before_and_after_are_what_happens() -> None:
    indented = re.findall(r"(?:^    .*\n|^\n)+", README.read_text(), re.MULTILINE)
    before, after = (" ".join(one.split()) for one in indented if "data: " in one)
    explained, client = Explainer(load(), "chat", "client").stream(before.encode())
    assert explained is not None
    said = json.loads(client.split(b"\n")[0].removeprefix(b"data: "))["error"]
    shown = json.loads(after.removesuffix("data: [DONE]").removeprefix("data: "))["error"]
    reference = re.compile(r"the reference \w+")
    assert {k: reference.sub("", str(v)) for k, v in said.items()} == {
        k: reference.sub("", str(v)) for k, v in shown.items()
    }


@pytest.mark.parametrize("name", WhenEntry.model_fields)
def test_the_readme_names_every_key_of_when(name: str) -> None:
    assert f"`{name}`" in README.read_text()


@pytest.mark.parametrize("name", FileEntry.model_fields)
def test_the_readme_names_every_part_of_a_table(name: str) -> None:
    assert re.search(rf"\b{name}\b", README.read_text())


def test_every_surface_has_its_module() -> None:
    for name in SURFACE_NAMES:
        home = "chat" if name == "completions" else name
        assert (ROOT / "proxy" / "core" / "surfaces" / f"{home}.py").exists()


def test_the_documents_that_are_linked_exist() -> None:
    for document in ROOT.rglob("*.md"):
        if ".venv" in document.parts:
            continue
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document}: {link}"


if __name__ == "__main__":
    README.write_text(_TABLE.sub(lambda f: f[1] + settings_table() + f[2], README.read_text()))
