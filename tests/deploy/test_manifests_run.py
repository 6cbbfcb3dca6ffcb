"""What the manifests say, done by hand where there is no Kubernetes: the container runs so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.engine import PATIENCE, Container, build, podman
from tests.deploy.test_manifests import MODES, RENDERED, pod_of
from tests.deploy.tools import documents

pytestmark = pytest.mark.deploy

ASK = """
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print(0)
"""


@pytest.fixture(scope="module")
def image() -> str:
    return build("localhost/discreet:tested")


def variables(container: dict[str, Any], maps: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return what the container finds in its environment; each secret is there."""
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        found |= maps[source["configMapRef"]["name"]]
    return found | {each["name"]: each.get("value", "a-secret") for each in container["env"]}


def volumes(
    container: dict[str, Any], pod: dict[str, Any], maps: dict[str, dict[str, str]], folder: Path
) -> Iterator[str]:
    by_name = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = by_name[mount["name"]]
        if "emptyDir" in volume:
            assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Mi"}
            yield from ("--tmpfs", f"{mount['mountPath']}:size=16m")
            continue
        place = folder / volume["name"]
        place.mkdir()
        for name, text in maps[volume["configMap"]["name"]].items():
            (place / name).write_text(text)
        yield from ("--volume", f"{place}:{mount['mountPath']}:ro")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", RENDERED)
async def test_discreet_runs_as_the_manifest_says(
    image: str, tool: str, mode: str, tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    words = ("--set", "secret=discreet") if tool == "helm" else ()
    manifests = RENDERED[tool](mode, *words)
    maps = {
        each["metadata"]["name"]: each["data"]
        for each in documents(manifests)
        if each["kind"] == "ConfigMap"
    }
    pod = pod_of(manifests)
    containers = pod.get("initContainers", []) + pod["containers"]
    (discreet,) = (each for each in containers if each["name"] == "discreet")
    security = pod["securityContext"] | discreet["securityContext"]
    given = variables(discreet, maps)
    started = podman(
        *("run", "--detach", "--network", "none", "--read-only", "--read-only-tmpfs=false"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--user", f"{security['runAsUser']}:{security['runAsGroup']}"),
        *(word for name, value in given.items() for word in ("--env", f"{name}={value}")),
        *volumes(discreet, pod, maps, tmp_path),
        image,
    )
    container = Container(started)
    ports = {port["name"]: port["containerPort"] for port in discreet["ports"]}

    def answers(path: str, port: int) -> str:
        return container.says("python", "-c", ASK, f"http://127.0.0.1:{port}{path}")

    try:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = discreet[probe]["httpGet"]
            async with asyncio.timeout(PATIENCE):
                while answers(asked["path"], ports[asked["port"]]) != "200":
                    await asyncio.sleep(0.1)
        # With its token, the admin port tells nobody else what the provider said.
        assert answers("/metrics", ports["admin"]) == "401"
        # A client's port, where the manifest has clients look for it.
        assert answers("/", ports.get("http", 8080)) in ("404", "502", "503")
        assert given["DISCREET_LISTEN"].startswith("0.0.0.0" if mode == "gateway" else "127.0.0.1")
    finally:
        podman("rm", "--force", "--time", "0", container.id)
