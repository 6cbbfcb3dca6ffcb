"""Whether a container engine works here, asked before all is proven with it.

    python -m tests.deploy.smoke

What is tried is no part of the project: the base image, a command in it with the options of the
tests, a build that fetches a package. So a fault of the project's is never taken for the machine's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.deploy.engine import HARDENED, base_image, build_options, need_engine, podman

NAME = "localhost/discreet-smoke:latest"
# What the first steps of the image's build need of a machine.
BUILD = """\
ARG BASE
FROM ${BASE}
ARG PIP_CERT
RUN python3 -m venv /tmp/venv && /tmp/venv/bin/pip download --no-deps --dest /tmp pip
"""


def containers_run(base: str) -> None:
    """Run a container as the tests do, and a command in it."""
    for network in ("host", "none"):
        words = ("run", "--detach", "--network", network, *HARDENED, base, "sleep", "60")
        name = podman(*words, seconds=60)
        try:
            podman("exec", name, "true", seconds=60)
        finally:
            podman("rm", "--force", "--time", "0", name, seconds=60)


def images_are_built(base: str) -> None:
    """Build an image, with a package from where pip has them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Containerfile"
        file.write_text(BUILD)
        options = (*build_options(base), "--no-cache", "--tag", NAME)
        podman("build", *options, "--file", file, folder, seconds=180)
    podman("rmi", NAME)


def problem() -> str:
    """Return what keeps the engine from working; "" where it works."""
    step = "podman"
    try:
        need_engine()
        podman("info", seconds=60)
        step = "the base image"
        base = base_image()
        step = "a container"
        containers_run(base)
        step = "a build"
        images_are_built(base)
    except (pytest.skip.Exception, AssertionError) as error:
        return f"{step}: {error}"
    except subprocess.TimeoutExpired as error:
        return f"{step}: nothing in {error.timeout:.0f} s"
    return ""


if __name__ == "__main__":
    if found := problem():
        sys.exit(f"no container engine works here: {found}")
