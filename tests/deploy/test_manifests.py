"""Every manifest, unit and chart as the tools of its trade read it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings import read_settings
from tests.deploy.tools import DEPLOY, documents, need, one, run
from tests.proxies import proxy_for

pytestmark = pytest.mark.deploy

CHART = DEPLOY / "helm" / "discreet"
# The oldest with the sleep action on, and the newest that the validator knows.
VERSIONS = ("1.30", "1.37")
MODES = ("gateway", "sidecar")
GATEWAY = {
    *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy"),
    *("PodDisruptionBudget", "Service", "ServiceAccount"),
}
SIDECAR = {"ConfigMap", "Deployment", "NetworkPolicy"}


def rendered_by_kustomize(mode: str, *words: str) -> str:
    need("kubectl")
    assert not words
    return run("kubectl", "kustomize", DEPLOY / "kubernetes" / "overlays" / mode).stdout


def rendered_by_helm(mode: str, *words: str, ok: bool = True) -> str:
    need("helm")
    version = ("--kube-version", f"{VERSIONS[-1]}.0")
    done = run("helm", "template", "shop", CHART, "--set", f"mode={mode}", *version, *words, ok=ok)
    return done.stdout if ok else done.stderr


def kubernetes_takes(manifests: str, folder: Path) -> None:
    need("kubernetes-validate")
    path = folder / "manifests.yaml"
    path.write_text(manifests)
    for version in VERSIONS:
        run("kubernetes-validate", "--strict", "-k", version, path)


RENDERED = {"kustomize": rendered_by_kustomize, "helm": rendered_by_helm}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", RENDERED)
def test_kubernetes_takes_the_manifests(tool: str, mode: str, tmp_path: Path) -> None:
    manifests = RENDERED[tool](mode)
    kubernetes_takes(manifests, tmp_path)
    kinds = {manifest["kind"] for manifest in documents(manifests)} - {"Pod"}
    assert kinds == {"gateway": GATEWAY, "sidecar": SIDECAR}[mode]


def test_kubernetes_refuses_a_misspelt_field(tmp_path: Path) -> None:
    wrong = rendered_by_kustomize("sidecar").replace(
        "restartPolicy: Always", "restartPolice: Always"
    )
    with pytest.raises(AssertionError, match="restartPolice"):
        kubernetes_takes(wrong, tmp_path)


def pod_of(manifests: str) -> dict[str, Any]:
    pod: dict[str, Any] = one("Deployment", documents(manifests))["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", RENDERED)
def test_no_container_has_more_than_the_restricted_standard_allows(tool: str, mode: str) -> None:
    pod = pod_of(RENDERED[tool](mode))
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    for container in pod.get("initContainers", []) + pod["containers"]:
        allowed = pod["securityContext"] | container["securityContext"]
        assert allowed["runAsNonRoot"] is True
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["allowPrivilegeEscalation"] is False
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        assert allowed["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("tool", RENDERED)
def test_the_sidecar_starts_before_the_app_and_ends_after_it(tool: str) -> None:
    (sidecar,) = pod_of(RENDERED[tool]("sidecar"))["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/startupz"
    listens = {each["name"]: each.get("value") for each in sidecar["env"]}["DISCREET_LISTEN"]
    assert listens == "127.0.0.1:8080"


@pytest.mark.parametrize("tool", RENDERED)
def test_clients_of_the_gateway_reach_nothing_else(tool: str) -> None:
    policies = [
        manifest["spec"]
        for manifest in documents(RENDERED[tool]("gateway"))
        if manifest["kind"] == "NetworkPolicy"
    ]
    (clients,) = (
        each for each in policies if each["podSelector"] == {"matchLabels": {"discreet": "client"}}
    )
    assert clients["policyTypes"] == ["Egress"]
    ports = [{port["port"] for port in rule["ports"]} for rule in clients["egress"]]
    assert ports == [{53}, {8080}]
    assert all("ipBlock" not in target for rule in clients["egress"] for target in rule["to"])


def test_the_charts_grace_follows_from_its_drain() -> None:
    words = ("--set", "drainTimeout=600,drainDelay=20,preStopSeconds=15")
    pod = pod_of(rendered_by_helm("gateway", *words))
    assert pod["terminationGracePeriodSeconds"] > 600 + 20 + 15 + 3
    (discreet,) = pod["containers"]
    assert discreet["lifecycle"]["preStop"]["sleep"]["seconds"] == 15


def test_the_charts_sidecar_has_time_after_the_app() -> None:
    words = ("--set", "drainTimeout=60,preStopSeconds=7,app.terminationSeconds=40")
    pod = pod_of(rendered_by_helm("sidecar", *words))
    assert pod["terminationGracePeriodSeconds"] > 7 + 40 + 60 + 3


@pytest.mark.parametrize("tool", RENDERED)
@pytest.mark.parametrize("mode", MODES)
def test_every_pod_says_no_for_itself_before_it_ends(tool: str, mode: str) -> None:
    """In a sidecar's pod that is the app's business too: its clients come from outside."""
    pod = pod_of(RENDERED[tool](mode))
    for container in pod.get("initContainers", []) + pod["containers"]:
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] > 0


def test_the_gateway_can_do_without_its_autoscaler(tmp_path: Path) -> None:
    words = ("--set", "gateway.autoscaling.enabled=false,gateway.replicas=5")
    manifests = rendered_by_helm("gateway", *words)
    kubernetes_takes(manifests, tmp_path)
    assert one("Deployment", documents(manifests))["spec"]["replicas"] == 5
    assert "HorizontalPodAutoscaler" not in {each["kind"] for each in documents(manifests)}


def test_clients_may_be_in_other_namespaces(tmp_path: Path) -> None:
    team = {"matchLabels": {"team": "shop"}}
    words = ("--set-json", f"gateway.clientNamespaces={json.dumps(team)}")
    manifests = rendered_by_helm("gateway", *words)
    kubernetes_takes(manifests, tmp_path)
    policies = [each["spec"] for each in documents(manifests) if each["kind"] == "NetworkPolicy"]
    (gateway,) = (policy for policy in policies if "Ingress" in policy["policyTypes"])
    clients = {"matchLabels": {"discreet": "client"}}
    (client,) = gateway["ingress"][0]["from"]
    assert client == {"podSelector": clients, "namespaceSelector": team}


def test_more_ways_out_are_a_value(tmp_path: Path) -> None:
    rule = {"to": [{"namespaceSelector": {}}], "ports": [{"port": 4318}]}
    for mode in MODES:
        words = ("--set-json", f"networkPolicy.extraEgress={json.dumps([rule])}")
        manifests = rendered_by_helm(mode, *words)
        kubernetes_takes(manifests, tmp_path)
        policies = [each for each in documents(manifests) if each["kind"] == "NetworkPolicy"]
        assert any(rule in policy["spec"].get("egress", []) for policy in policies)


def test_more_ways_into_the_gateway_are_a_value(tmp_path: Path) -> None:
    """Such as for the addresses of a load balancer, which no pod's label lets in."""
    rule = {"from": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 8080}]}
    words = ("--set-json", f"networkPolicy.extraIngress={json.dumps([rule])}")
    manifests = rendered_by_helm("gateway", *words)
    kubernetes_takes(manifests, tmp_path)
    assert rule in policy_of_discreet(manifests)["ingress"]


@pytest.mark.parametrize("mode", MODES)
def test_the_chart_lets_discreet_out_as_the_overlays_do(mode: str) -> None:
    chart, overlay = (policy_of_discreet(RENDERED[tool](mode)) for tool in ("helm", "kustomize"))
    assert chart["egress"] == overlay["egress"]


@pytest.mark.parametrize("mode", MODES)
def test_the_chart_asks_for_as_much_as_the_overlays_do(mode: str) -> None:
    chart, overlay = (container_of_discreet(RENDERED[tool](mode)) for tool in ("helm", "kustomize"))
    assert chart["resources"] == overlay["resources"]


def test_the_charts_resources_are_a_value() -> None:
    given = rendered_by_helm("gateway", "--set", "resources.limits.memory=2Gi")
    assert container_of_discreet(given)["resources"] == {"limits": {"memory": "2Gi"}}


def container_of_discreet(manifests: str) -> dict[str, Any]:
    """Return the container that is discreet, beside an app or alone."""
    pod = pod_of(manifests)
    (found,) = pod.get("initContainers") or pod["containers"]
    container: dict[str, Any] = found
    return container


def policy_of_discreet(manifests: str) -> dict[str, Any]:
    """Return the network policy of the pods that discreet is in."""
    (policy,) = (
        manifest["spec"]
        for manifest in documents(manifests)
        if manifest["kind"] == "NetworkPolicy" and "Ingress" in manifest["spec"]["policyTypes"]
    )
    found: dict[str, Any] = policy
    return found


PARENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      initContainers: {{- include "discreet.sidecar" .Subcharts.discreet | nindent 8 }}
      containers: [{name: app, image: shop}]
      volumes: {{- include "discreet.volumes" .Subcharts.discreet | nindent 8 }}
"""


def test_the_sidecar_joins_an_app_with_a_chart_of_its_own(tmp_path: Path) -> None:
    need("helm")
    parent = tmp_path / "shop"
    (parent / "templates").mkdir(parents=True)
    (parent / "Chart.yaml").write_text(
        "apiVersion: v2\nname: shop\nversion: 1.0.0\n"
        f'dependencies: [{{name: discreet, version: 0.1.0, repository: "file://{CHART}"}}]\n'
    )
    values = "discreet: {mode: sidecar, app: {enabled: false}}\n"
    (parent / "values.yaml").write_text(values)
    (parent / "templates" / "app.yaml").write_text(PARENT)
    run("helm", "dependency", "build", parent)
    version = ("--kube-version", f"{VERSIONS[-1]}.0")
    manifests = run("helm", "template", "shop", parent, *version).stdout
    kubernetes_takes(manifests, tmp_path)
    assert {each["kind"] for each in documents(manifests)} == {"ConfigMap", "Deployment", "Pod"}
    pod = pod_of(manifests)
    (sidecar,) = pod["initContainers"]
    names = {each["metadata"]["name"] for each in documents(manifests)}
    used = {sidecar["envFrom"][0]["configMapRef"]["name"], pod["volumes"][0]["configMap"]["name"]}
    assert used <= names


@pytest.mark.parametrize("mode", MODES)
async def test_the_charts_own_test_passes_against_a_real_proxy(mode: str) -> None:
    test = one("Pod", documents(rendered_by_helm(mode)))
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (client,) = test["spec"]["containers"]
    *_, script = client["command"]
    host, port = {"gateway": ("shop-discreet", 80), "sidecar": ("127.0.0.1", 8080)}[mode]
    assert f'"{host}", {port}' in script
    async with proxy_for("http://127.0.0.1:9") as proxy:
        here = script.replace(f'"{host}", {port}', f'"127.0.0.1", {proxy.port}')
        done = await asyncio.to_thread(run, sys.executable, "-c", here)
    assert "405" in done.stdout


def test_the_charts_table_and_settings_arrive_as_they_are() -> None:
    table = (
        "version: 1\nrules:\n  - {name: a, when: {code: x}, reply: not_found, example: {code: x}}\n"
    )
    values = {"table": table, "settings": {"idle_timeout": 120, "workers": 1}}
    words = [
        word
        for name, value in values.items()
        for word in ("--set-json", f"{name}={json.dumps(value)}")
    ]
    found = {
        manifest["metadata"]["name"]: manifest["data"]
        for manifest in documents(rendered_by_helm("gateway", *words))
        if manifest["kind"] == "ConfigMap"
    }
    assert found["shop-discreet-table"] == {"mappings.yaml": table}
    assert found["shop-discreet-settings"]["DISCREET_IDLE_TIMEOUT"] == "120"


def test_the_charts_settings_are_ones_that_discreet_takes(tmp_path: Path) -> None:
    """Helm reads a file's numbers as floats, and writes large ones as 1e+06."""
    values = tmp_path / "values.yaml"
    given = "{max_body: 67108864, max_in_flight: 1000000, gate: 0.5, otel: true}"
    values.write_text(f"settings: {given}")
    manifests = documents(rendered_by_helm("gateway", "--values", str(values)))
    found = {key: value for each in manifests for key, value in each.get("data", {}).items()}
    settings = read_settings({}, found | {"DISCREET_MAPPINGS": ""})
    assert (settings.max_body, settings.max_in_flight) == (67108864, 1000000)
    assert (settings.gate, settings.otel) == (0.5, True)


@pytest.mark.parametrize("mode", MODES)
def test_the_operators_monitor_finds_the_port_and_has_the_token(mode: str) -> None:
    words = ("--set", "podMonitor.enabled=true,secret=keys")
    manifests = documents(rendered_by_helm(mode, *words))
    monitor = one("PodMonitor", manifests)["spec"]
    template = one("Deployment", manifests)["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
    assert endpoint["authorization"] == {"credentials": {"name": "keys", "key": "admin-token"}}
    assert {"targetLabel": "job", "replacement": "discreet"} in endpoint["relabelings"]


def test_the_operators_monitor_finds_an_app_that_has_a_chart_of_its_own() -> None:
    words = ("--set", "podMonitor.enabled=true,app.enabled=false")
    assert "podMonitor.matchLabels" in rendered_by_helm("sidecar", *words, ok=False)
    given = rendered_by_helm("sidecar", *words, "--set", "podMonitor.matchLabels.app=shop")
    monitor = one("PodMonitor", documents(given))["spec"]
    assert monitor["selector"] == {"matchLabels": {"app": "shop"}}


def test_the_alerts_know_every_job_that_scrapes_discreet() -> None:
    """The chart's monitor names its job `discreet`, see above."""
    folder = DEPLOY / "prometheus"
    jobs = {
        job["job_name"]
        for name in ("prometheus.yml", "kubernetes.yml")
        for job in yaml.safe_load((folder / name).read_text())["scrape_configs"]
    }
    known = re.findall(r'up\{job=~"([^"]*)"\}', (folder / "alerts.yml").read_text())
    assert len(known) == 2
    for job in jobs | {"discreet"}:
        assert all(re.fullmatch(pattern, job) for pattern in known), job


@pytest.mark.parametrize("mode", MODES)
def test_the_chart_has_no_lint(mode: str) -> None:
    need("helm")
    run("helm", "lint", "--strict", CHART, "--set", f"mode={mode}", "--set", "secret=discreet")


@pytest.mark.parametrize(
    "wrong",
    [
        "mode=both",
        "upstream=api.openai.com",
        "upstreams=https://api.openai.com",
        "drainTimeout=soon",
        "settings.admin_token=in-plain-sight",
        "image.digest=latest",
    ],
)
def test_the_chart_refuses_values_that_are_wrong(wrong: str) -> None:
    said = rendered_by_helm("gateway", "--set", wrong, ok=False)
    assert "values don't meet the specifications of the schema" in said


def test_the_compose_file_is_one() -> None:
    need("check-jsonschema")
    schema = ("--builtin-schema", "vendor.compose-spec")
    run("check-jsonschema", *schema, DEPLOY / "compose.yaml")


def test_the_charts_schema_is_one() -> None:
    need("check-jsonschema")
    run("check-jsonschema", "--check-metaschema", CHART / "values.schema.json")


def test_the_dockerfile_has_no_lint() -> None:
    need("hadolint")
    run("hadolint", DEPLOY / "Dockerfile")


def test_prometheus_takes_its_files_and_the_alerts_pass_their_tests() -> None:
    need("promtool")
    folder = DEPLOY / "prometheus"
    run("promtool", "check", "config", "prometheus.yml", cwd=folder)
    run("promtool", "test", "rules", "alerts_test.yml", cwd=folder)


def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    need("systemd-analyze")
    unit = tmp_path / "discreet.service"
    text = (DEPLOY / "systemd" / "discreet.service").read_text()
    command = "ExecStart=/opt/discreet/bin/discreet serve"
    assert command in text
    unit.write_text(text.replace(command, "ExecStart=/bin/true"))
    done = run("systemd-analyze", "verify", unit)
    assert done.stdout + done.stderr == ""


def test_the_unit_is_exposed_to_little() -> None:
    need("systemd-analyze")
    unit = DEPLOY / "systemd" / "discreet.service"
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", unit)
