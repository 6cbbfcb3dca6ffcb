"""What the deployment's files say is so: pins, settings, metrics, names, times."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client.parser import text_string_to_metric_families

from proxy.core.failures import Failure
from proxy.core.table_file import load_checked
from proxy.settings import Settings, variable_of
from tests.deploy.tools import DEPLOY, ROOT, documents, one
from tests.proxies import proxy_for, shipped
from tests.upstreams import Upstream, says_json

RUN = DEPLOY / "requirements.txt"
BUILD = DEPLOY / "requirements-build.txt"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
KUBERNETES = DEPLOY / "kubernetes"
_PIN = re.compile(
    r"^([\w.-]+)==([\w.]+)((?:.*\\\n)?(?:    --hash=sha256:[0-9a-f]{64}.*\n?)+)", re.MULTILINE
)


def files() -> list[Path]:
    return [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]


def pins(path: Path) -> dict[str, str]:
    """Read the versions that have hashes."""
    return {canonicalize_name(name): version for name, version, _ in _PIN.findall(path.read_text())}


def locked() -> dict[str, str]:
    lines = (ROOT / ".requirements.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version.split(";")[0].strip() for name, version in pairs}


def needed(names: list[str]) -> set[str]:
    """Return packages and all that they need here."""
    found: set[str] = set()
    left = [Requirement(name) for name in names]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        left += map(Requirement, requires(name) or [])
    return found


def project(*keys: str) -> Any:
    found: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for key in keys:
        found = found[key]
    return found


@pytest.mark.parametrize("path", [RUN, BUILD], ids=lambda path: path.name)
def test_the_image_gets_the_versions_that_were_tested_each_with_a_hash(path: Path) -> None:
    versions = pins(path)
    lines = path.read_text().splitlines()
    assert len(versions) == sum("==" in line for line in lines)
    assert versions.items() <= locked().items()


def test_the_image_gets_what_the_project_needs_and_nothing_more() -> None:
    otel = project("project", "optional-dependencies", "otel")
    wanted = needed(project("project", "dependencies") + otel)
    assert set(pins(RUN)) == wanted, "run make deploy-lock"


def test_the_image_is_built_with_what_the_project_is_built_with() -> None:
    assert set(pins(BUILD)) == needed(project("build-system", "requires")), "run make deploy-lock"


def test_no_file_names_an_index() -> None:
    index = re.compile(
        r"--(extra-)?index-url|--find-links|--trusted-host|pypi|/simple\b", re.IGNORECASE
    )
    for path in files():
        assert not index.search(path.read_text()), path


def test_every_yaml_file_can_be_read() -> None:
    for path in files():
        if path.suffix in (".yaml", ".yml") and "templates" not in path.parts:
            list(yaml.safe_load_all(path.read_text()))


def test_every_variable_is_a_setting() -> None:
    known = {variable_of(name) for name in Settings.model_fields}
    # The compose file's, and what Kubernetes adds.
    own = {"DISCREET_IMAGE", "DISCREET_PORT"}
    for path in files():
        for name in re.findall(r"\bDISCREET_[A-Z_]+[A-Z]\b", path.read_text()):
            assert name in known | own, f"{path}: {name}"


def test_what_the_dockerfile_copies_exists_and_is_not_ignored() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize(
    "path", [DEPLOY / "mappings.yaml", KUBERNETES / "base" / "mappings.yaml"], ids=str
)
def test_the_table_that_is_deployed_is_the_shipped_one(path: Path) -> None:
    table = load_checked(path)
    assert table.replies == shipped().replies
    assert [rule.name for rule in table.rules] == [rule.name for rule in shipped().rules]


def pods_with_discreet() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for path in (
        KUBERNETES / "overlays" / "gateway" / "gateway.yaml",
        KUBERNETES / "overlays" / "sidecar" / "discreet.yaml",
    ):
        pod = one("Deployment", documents(path.read_text()))["spec"]["template"]["spec"]
        containers = pod.get("initContainers", []) + pod.get("containers", [])
        (discreet,) = (each for each in containers if each["name"] == "discreet")
        yield path.name, pod, discreet


PODS = [pytest.param(pod, container, id=name) for name, pod, container in pods_with_discreet()]


@pytest.mark.parametrize(("pod", "container"), PODS)
def test_a_pod_has_the_time_that_its_drain_takes(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    set_to = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    drain = int(set_to["DISCREET_DRAIN_TIMEOUT"]) + int(set_to.get("DISCREET_DRAIN_DELAY", "0"))
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    last_endings = 3
    assert pod["terminationGracePeriodSeconds"] > before + drain + last_endings


@pytest.mark.parametrize(("pod", "container"), PODS)
def test_a_service_named_discreet_adds_no_variables(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    del container
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize(("pod", "container"), PODS)
def test_every_probe_asks_the_admin_port(pod: dict[str, Any], container: dict[str, Any]) -> None:
    del pod
    paths = {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}
    for name, path in paths.items():
        assert container[f"{name}Probe"]["httpGet"] == {"path": path, "port": "admin"}
    assert {"name": "admin", "containerPort": 8081} in container["ports"]


@pytest.mark.parametrize(("pod", "container"), PODS)
def test_a_changed_table_arrives_because_its_whole_folder_is_mounted(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    """A ConfigMap's file that is mounted by `subPath` never changes."""
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == "/etc/discreet")
    assert mount.keys() == {"name", "mountPath", "readOnly"}
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    assert volume["configMap"] == {"name": "discreet-table"}


def test_the_service_has_the_time_that_its_drain_takes() -> None:
    unit = (DEPLOY / "systemd" / "discreet.service").read_text()
    drain = re.search(r"DISCREET_DRAIN_TIMEOUT=(\d+)", unit)
    stop = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert drain
    assert stop
    assert int(stop[1]) > int(drain[1]) + 3


def test_compose_gives_the_time_that_the_drain_takes() -> None:
    discreet = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["discreet"]
    drain = int(discreet["environment"]["DISCREET_DRAIN_TIMEOUT"])
    assert int(discreet["stop_grace_period"].rstrip("s")) > drain + 3


def test_haproxy_looks_more_than_once_and_yet_sooner_than_the_drain_begins() -> None:
    text = (DEPLOY / "haproxy" / "discreet.cfg").read_text()
    checks = re.search(r"check inter (\d+)ms fall (\d+)", text)
    delay = re.search(r"DISCREET_DRAIN_DELAY=(\d+)", text)
    assert checks
    assert delay
    assert int(checks[2]) > 1
    # A check that is late takes as long as the pause before it.
    assert 2 * int(checks[1]) * int(checks[2]) < int(delay[1]) * 1000


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> dict[str, str]:
    """Return every query that is deployed, by where it is."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    found |= {each["name"]: each["expr"] for each in dashboard["annotations"]["list"]}
    found |= {
        each["name"]: each["query"]["query"]
        for each in dashboard["templating"]["list"]
        if each["type"] == "query"
    }
    found |= {rule["alert"]: rule["expr"] for rule in alerts()}
    adapter = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yaml").read_text())
    return found | {"adapter": adapter["rules"]["custom"][0]["seriesQuery"]}


_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


async def served() -> dict[str, set[str]]:
    """Scrape a live proxy after one error: the labels of every series it can have, by name."""
    async with (
        Upstream(says_json({"error": {"message": "no"}}, 500)) as upstream,
        proxy_for(upstream.url, admin="127.0.0.1:0") as proxy,
        aiohttp.ClientSession() as client,
    ):
        await proxy.ask("POST", "/v1/responses", b"{}")
        async with client.get(f"http://{proxy.running.admin}/metrics") as answer:
            text = await answer.text()
    return {
        family.name + suffix: {label for sample in family.samples for label in sample.labels}
        for family in text_string_to_metric_families(text)
        for suffix in _SUFFIXES[family.type]
    }


async def test_every_query_asks_for_metrics_and_labels_that_exist() -> None:
    known = await served()
    seen = set()
    for place, query in queries().items():
        for name, matchers in re.findall(r"\b(discreet_\w+)(?:\{([^}]*)\})?", query):
            assert name in known, f"{place}: {name}"
            labels = set(re.findall(r"(\w+)(?:=|!)", matchers))
            assert labels <= known[name] | {"instance", "namespace", "pod"}, f"{place}: {matchers}"
            seen.add(name)
        for group in re.findall(r"\bby \(([^)]*)\)", query):
            labels = {label.strip() for label in group.split(",")}
            everything = set.union(*known.values()) | {"instance"}
            assert labels <= everything, f"{place}: {group}"
    assert len(seen) > 8


def quoted(label: str) -> set[str]:
    text = " ".join(queries().values())
    found = {
        word
        for _, words in re.findall(label + r'(=~?)"([^"]*)"', text)
        for word in words.split("|")
    }
    assert found
    return found


def test_the_failures_that_are_alerted_on_exist() -> None:
    assert quoted("failure") <= {failure.value for failure in Failure}


def test_the_replies_that_are_alerted_on_exist() -> None:
    assert quoted("reply") <= set(shipped().replies)


def test_every_alert_has_a_test_and_says_what_to_do() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_autoscaler_and_its_adapter_mean_the_same_metric() -> None:
    scaling = documents((KUBERNETES / "overlays" / "gateway" / "scaling.yaml").read_text())
    (metric,) = (
        each["pods"]["metric"]["name"]
        for each in one("HorizontalPodAutoscaler", scaling)["spec"]["metrics"]
        if each["type"] == "Pods"
    )
    assert metric in queries()["adapter"]


def healthcheck(admin: str) -> int:
    return subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env={"DISCREET_ADMIN": admin},
        capture_output=True,
        check=False,
    ).returncode


async def test_the_healthcheck_knows_a_proxy_that_serves_from_one_that_is_gone() -> None:
    async with (
        Upstream(says_json({})) as upstream,
        proxy_for(upstream.url, admin="127.0.0.1:0") as proxy,
    ):
        assert proxy.running.admin is not None
        port = proxy.running.admin.port
        for address in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
            assert await asyncio.to_thread(healthcheck, address) == 0
        proxy.running.drain()
        assert await asyncio.to_thread(healthcheck, f"127.0.0.1:{port}") == 1
    assert await asyncio.to_thread(healthcheck, f"127.0.0.1:{port}") == 1
