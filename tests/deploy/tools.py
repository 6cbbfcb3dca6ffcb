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


# Where engines and servers keep what is no command of a person's.
_ELSEWHERE = os.pathsep.join(
    [
        *os.environ.get("PATH", "").split(os.pathsep),
        *("/usr/sbin", "/usr/lib/podman", "/usr/libexec/podman"),
    ]
)


def need(*names: str) -> None:
    """Skip the test unless every tool is there."""
    missing = [name for name in names if shutil.which(name, path=_ELSEWHERE) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(
    *command: str | Path,
    ok: bool = True,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    seconds: float = 900.0,
) -> subprocess.CompletedProcess[str]:
    """Run a tool; its output is the message where it fails.

    seconds: an image is built in one minute or two, on a busy machine in more; nothing hangs.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
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
