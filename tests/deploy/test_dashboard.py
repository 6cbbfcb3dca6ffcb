"""The dashboard's queries and the alerts, asked of a real Prometheus that scrapes a real proxy."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from proxy.demo.provider import providing
from tests.deploy.engine import PATIENCE, free_port
from tests.deploy.tools import DEPLOY, need
from tests.proxies import proxy_for

pytestmark = pytest.mark.deploy

# What Grafana puts in for its variables.
VARIABLES = {"$__rate_interval": "30s", "$instance": ".*"}
# Healthy, refused, failed early, failed in the middle: something for every panel.
ASKED = ("healthy", "rate-limit", "early-error", "crash", "cut")


def queries() -> list[tuple[str, str]]:
    """Return every query of the dashboard: of its panels, its variables and its annotations."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    found = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    # What Grafana asks Prometheus for the variable: series, for the values of a label.
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert asked
            found.append((variable["name"], f'{asked[1]}{{{asked[2]}!=""}}'))
    return found + [(each["name"], each["expr"]) for each in dashboard["annotations"]["list"]]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self, query: str) -> list[Any]:
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        async with self._session.get(
            f"{self._url}/api/v1/query", params={"query": query}
        ) as answer:
            found = await answer.json()
        assert found["status"] == "success", f"{query}: {found}"
        result: list[Any] = found["data"]["result"]
        return result

    async def until(self, query: str) -> list[Any]:
        """Ask until there is a result."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    if result := await self.ask(query):
                        return result
                except aiohttp.ClientError:
                    pass  # it starts
                await asyncio.sleep(0.2)


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
    return config


@asynccontextmanager
async def running(config: dict[str, Any], folder: Path) -> AsyncIterator[Prometheus]:
    port = free_port()
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    file = folder / "prometheus.yml"
    await asyncio.to_thread(file.write_text, yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        *("prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            yield Prometheus(session, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


def scraping(target: str) -> dict[str, Any]:
    config = config_of("prometheus.yml")
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    return config


async def test_every_panel_has_something_to_show(tmp_path: Path) -> None:
    need("prometheus")
    async with (
        providing() as url,
        proxy_for(url, admin="127.0.0.1:0", gate=0.5) as proxy,
        running(scraping(str(proxy.running.admin)), tmp_path) as prometheus,
    ):
        await prometheus.until('up{job="discreet"} == 1')

        async def traffic() -> None:
            while True:
                for model in ASKED:
                    asked = json.dumps({"model": model, "stream": True, "input": "x"}).encode()
                    await proxy.ask("POST", "/v1/responses", asked)

        async def reloads() -> None:
            while True:
                assert await proxy.running.tables.reload()
                await asyncio.sleep(1)

        asking = [asyncio.create_task(each()) for each in (traffic, reloads)]
        try:
            for title, query in queries():
                assert await prometheus.until(query), title
        finally:
            for task in asking:
                task.cancel()
        assert await prometheus.until('ALERTS{alertname="DiscreetErrorRatioHigh"}')
        assert not await prometheus.ask('ALERTS{alertname="DiscreetDown"}')


async def test_pods_are_found_by_their_port_and_asked_with_the_token(tmp_path: Path) -> None:
    """What Kubernetes would say of each port is said by hand: here is no Kubernetes to ask."""
    need("prometheus")
    token = tmp_path / "token"
    token.write_text("let-me-in")
    config = config_of("kubernetes.yml")
    (job,) = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    job["authorization"]["credentials_file"] = str(token)
    async with (
        providing() as url,
        proxy_for(url, admin="127.0.0.1:0", admin_token="let-me-in") as proxy,
    ):
        ports = [
            ("discreet", "admin", "Running", str(proxy.running.admin)),
            ("app", "http", "Running", "127.0.0.1:9"),
            ("discreet", "admin", "Failed", "127.0.0.1:10"),
        ]
        job["static_configs"] = [
            {"targets": [target], "labels": labels_of_a_port(*port)} for *port, target in ports
        ]
        async with running(config, tmp_path) as prometheus:
            (found,) = await prometheus.until("up == 1")
            assert (found["metric"]["namespace"], found["metric"]["pod"]) == ("shop", "shop-1")
            assert len(await prometheus.ask("up")) == 1


def labels_of_a_port(container: str, port: str, phase: str) -> dict[str, str]:
    said = {
        "namespace": "shop",
        "pod_name": "shop-1",
        "pod_container_name": container,
        "pod_container_port_name": port,
        "pod_phase": phase,
    }
    return {f"__meta_kubernetes_{name}": value for name, value in said.items()}
