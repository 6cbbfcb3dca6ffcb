"""The dashboard's queries and the alerts, asked of a real Prometheus that scrapes a real proxy."""

from __future__ import annotations

import asyncio
import json
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
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


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


@asynccontextmanager
async def scraping(target: str, folder: Path) -> AsyncIterator[Prometheus]:
    port = free_port()
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
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


async def test_every_panel_has_something_to_show(tmp_path: Path) -> None:
    need("prometheus")
    async with (
        providing() as url,
        proxy_for(url, admin="127.0.0.1:0", gate=0.5) as proxy,
        scraping(str(proxy.running.admin), tmp_path) as prometheus,
    ):
        await prometheus.until('up{job="discreet"} == 1')

        async def traffic() -> None:
            while True:
                for model in ASKED:
                    asked = json.dumps({"model": model, "stream": True, "input": "x"}).encode()
                    await proxy.ask("POST", "/v1/responses", asked)

        asking = asyncio.create_task(traffic())
        try:
            for title, query in queries():
                assert await prometheus.until(query), title
        finally:
            asking.cancel()
        assert await prometheus.until('ALERTS{alertname="DiscreetErrorRatioHigh"}')
        assert not await prometheus.ask('ALERTS{alertname="DiscreetDown"}')
