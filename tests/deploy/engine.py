"""The container engine: the image is built as it is deployed, and run as it is deployed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.deploy.tools import DEPLOY, ROOT, need, run

# A container starts in a second or two; a busy machine takes its time.
PATIENCE: Final = 90.0
LOCAL_BASE: Final = "localhost/debian-python:bookworm"
# As the manifests run it.
HARDENED: Final = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp:size=16m"),  # noqa: S108 - the container's
)


def is_sandboxed() -> bool:
    """Return whether this is root inside a container itself, without systemd."""
    return os.geteuid() == 0 and not Path("/run/systemd/system").exists()


def podman(
    *words: str | Path, ok: bool = True, all_output: bool = False, seconds: float = 900.0
) -> str:
    """Return what podman says; with all_output also what it says to standard error."""
    done = run("podman", *words, ok=ok, environment=environment(), seconds=seconds)
    return (done.stdout + (done.stderr if all_output else "")).strip()


def environment() -> dict[str, str]:
    """Return what podman needs in a sandbox, where nobody has set it up."""
    if not is_sandboxed() or "CONTAINERS_CONF" in os.environ:
        return {}
    return {"CONTAINERS_CONF": str(Path(__file__).parent / "containers.conf")}


def base_image() -> str:
    """Return an image to build from: the one given, the one made here, or the public one."""
    if given := os.environ.get("BASE"):
        return given
    if podman("images", "--quiet", LOCAL_BASE):
        return LOCAL_BASE
    public = _public_base()
    if not podman("images", "--quiet", public) and not podman(
        "pull", "--quiet", public, ok=False, seconds=300
    ):
        pytest.skip(f"no base image: neither {public} nor {LOCAL_BASE} (make deploy-base)")
    return public


def _public_base() -> str:
    (line,) = (
        line
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("ARG BASE=")
    )
    return line.removeprefix("ARG BASE=")


def need_engine() -> None:
    """Skip the test unless what containers take is there."""
    need("podman", *(["runc"] if is_sandboxed() else []))


def need_networks(image: str) -> None:
    """Skip the test where the engine cannot give containers a network, with a port to the outside.

    Not every sandbox lets it, although it runs containers.
    """
    need(*(["netavark", "aardvark-dns", "iptables"] if is_sandboxed() else []))
    words = ("--network", "bridge", "--publish", f"127.0.0.1:{free_port()}:8080")
    tried = run(
        *("podman", "run", "--rm", *words, "--entrypoint", "true", image),
        ok=False,
        environment=environment(),
    )
    if tried.returncode != 0:
        pytest.skip(f"no network for containers: {tried.stderr.strip()[-300:]}")


def forget_network(name: str) -> None:
    """Let podman's name server forget a network that is gone; it ends with its last one.

    Now and then an entry stays where containers end together, and with it the server, which then
    answers the next network from it.
    """
    folder = Path("/run/containers/networks/aardvark-dns")
    (folder / name).unlink(missing_ok=True)
    with suppress(OSError, ValueError):
        server = int((folder / "aardvark.pid").read_text())
        if Path(f"/proc/{server}/comm").read_text() == "aardvark-dns\n":
            os.kill(server, signal.SIGHUP)


def build_options(base: str) -> list[str]:
    """Return how an image is built here."""
    words = ["--format", "docker", "--build-arg", f"BASE={base}"]
    if is_sandboxed():
        words += ["--isolation", "chroot", "--network", "host"]
    if certificates := os.environ.get("PIP_CERT") or _certificates_of_pip():
        folder = Path(certificates).parent
        words += ["--volume", f"{folder}:{folder}:ro", "--build-arg", f"PIP_CERT={certificates}"]
    return words


def _certificates_of_pip() -> str:
    """Return what pip's configuration trusts here, which it does not see in a build."""
    listed = run(sys.executable, "-m", "pip", "config", "list", ok=False).stdout
    found = re.search(r"^global\.cert='(.+)'$", listed, re.MULTILINE)
    return found[1] if found else ""


def build(name: str) -> str:
    """Build the image, without anything from earlier builds but the base."""
    need_engine()
    options = build_options(base_image())
    podman("build", *options, "--file", DEPLOY / "Dockerfile", "--tag", name, ROOT)
    return name


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@dataclass(slots=True)
class Container:
    """A running container."""

    id: str
    port: int = 0
    admin: int = 0

    def does(self, *command: str) -> bool:
        """Run a command in it; return whether it succeeded."""
        done = podman("exec", self.id, "sh", "-c", f"{' '.join(command)} && echo done", ok=False)
        return done.endswith("done")

    def says(self, *command: str) -> str:
        return podman("exec", self.id, *command)

    def logs(self) -> str:
        return podman("logs", self.id, all_output=True)

    async def exit_code(self) -> int:
        """Wait for its end."""
        async with asyncio.timeout(PATIENCE):
            return int(await asyncio.to_thread(podman, "wait", self.id))

    def signal(self, name: str) -> None:
        podman("kill", "--signal", name, self.id)


async def is_ready(admin: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{admin}/readyz") as answer,
        ):
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def until_ready(admin: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await is_ready(admin):
            await asyncio.sleep(0.05)


def start(image: str, *words: str, **settings: str) -> Container:
    """Start discreet in a container on free ports of the loopback."""
    port, admin = free_port(), free_port()
    given = {"LISTEN": f"127.0.0.1:{port}", "ADMIN": f"127.0.0.1:{admin}"} | settings
    set_to = [
        word for name, value in given.items() for word in ("--env", f"DISCREET_{name}={value}")
    ]
    options = ("--network", "host", *HARDENED, *words, *set_to)
    identity = podman("run", "--detach", *options, image)
    return Container(identity, port, admin)


@asynccontextmanager
async def serving(image: str, *words: str, **settings: str) -> AsyncIterator[Container]:
    """Run discreet in a container as it is deployed, once it is ready."""
    container = start(image, *words, **settings)
    try:
        await until_ready(container.admin)
        yield container
    finally:
        podman("rm", "--force", "--time", "0", container.id)


def inspect(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("inspect", "--type", "image", image))[0]
    return found
