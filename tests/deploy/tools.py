"""The tools that deployment is proven with. A test that lacks one names it and is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def need(*names: str) -> None:
    """Skip the test unless every tool is there."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(
    *command: str | Path,
    ok: bool = True,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a tool; its output is the message where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if ok:
        assert done.returncode == 0, f"{command[0]}: {done.stdout}\n{done.stderr}"
    return done


def documents(text: str) -> list[dict[str, Any]]:
    """Read the documents of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def one(kind: str, manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the only manifest of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found
