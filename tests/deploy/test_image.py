"""The image, built from the Dockerfile and run as it will run."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from proxy.demo.provider import providing
from proxy.demo.scenarios import SCENARIOS
from tests.deploy.engine import (
    HARDENED,
    PATIENCE,
    Container,
    base_image,
    build,
    environment,
    forget_network,
    free_port,
    inspect,
    is_ready,
    need_networks,
    podman,
    serving,
    start,
)
from tests.deploy.rollout import DELAY, Balancer, a_while, load, more
from tests.deploy.tools import DEPLOY, need, run
from tests.proxies import Client, events_of, request
from tests.upstreams import (
    LAST_CHUNK,
    STREAM_HEAD,
    Script,
    Upstream,
    Visit,
    chunk,
    completed,
    created,
    delta,
    says_json,
)

pytestmark = pytest.mark.deploy

FINE = says_json({"id": "resp_1", "object": "response", "status": "completed", "error": None})


@pytest.fixture(autouse=True)
def a_folder_that_a_container_may_read(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)


@pytest.fixture(scope="module")
def image() -> str:
    return build("localhost/discreet:tested")


def paused(then: asyncio.Event) -> Script:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(STREAM_HEAD, chunk(created() + delta("Hello")))
        await then.wait()
        await visit.send(chunk(completed()), LAST_CHUNK)

    return script


async def connect(container: Container) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", container.port, limit=2**20))


async def begun(container: Container) -> Client:
    """Begin a stream and read its first word."""
    client = await connect(container)
    await client.send(request(body=b'{"model": "any", "stream": true}'))
    await client.until(b"Hello")
    return client


async def rest_of(client: Client) -> bytes:
    """Read a stream that has begun to the end of its framing."""
    async with asyncio.timeout(PATIENCE):
        rest = await client.reader.readuntil(LAST_CHUNK)
    return rest.removesuffix(b"\r\n" + LAST_CHUNK)


async def not_ready(container: Container) -> None:
    async with asyncio.timeout(PATIENCE):
        while await is_ready(container.admin):
            await asyncio.sleep(0.02)


async def test_it_runs_as_nobody_with_no_privilege_and_nothing_to_write(image: str) -> None:
    async with Upstream(FINE) as upstream, serving(image, UPSTREAM=upstream.url) as container:
        status = container.says("cat", "/proc/1/status")
        facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert facts["Uid"].split() == facts["Gid"].split() == ["10001"] * 4
        assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
        assert facts["NoNewPrivs"].strip() == "1"
        assert not container.does("touch", "/opt/discreet/new")
        assert not container.does("touch", "/etc/discreet/new")
        assert container.does("touch", "/tmp/new")  # noqa: S108 - the container's


async def test_it_needs_nothing_to_write_at_all(image: str) -> None:
    async with Upstream(FINE) as upstream:
        port = upstream.port
        name = podman(
            *("run", "--detach", "--network", "host", "--read-only", "--read-only-tmpfs=false"),
            *("--cap-drop", "ALL", "--env", f"DISCREET_UPSTREAM=http://127.0.0.1:{port}"),
            *("--env", "DISCREET_LISTEN=127.0.0.1:0", "--env", "DISCREET_ADMIN=127.0.0.1:0"),
            image,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                while "discreet is ready" not in Container(name).logs():
                    assert podman("inspect", "--format", "{{.State.Running}}", name) == "true"
                    await asyncio.sleep(0.1)
        finally:
            podman("rm", "--force", "--time", "0", name)


async def test_it_holds_nothing_that_builds_or_installs(image: str) -> None:
    script = "for tool in gcc cc g++ make git curl wget pip pip3; do command -v $tool; done; true"
    options = ("run", "--rm", "--network", "none", "--entrypoint")
    assert podman(*options, "sh", image, "-c", script) == ""
    modules = "import importlib.util as u; print([n for n in ('pip', 'ensurepip', 'hatchling', "
    modules += "'pytest', 'setuptools') if u.find_spec(n)])"
    assert podman(*options, "python", image, "-c", modules) == "[]"


def test_it_says_what_it_is_and_how_it_is_run(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["discreet"]
    assert config["Cmd"] == ["serve"]
    assert inspect(image)["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    labels = {
        name.removeprefix("org.opencontainers.image."): v for name, v in config["Labels"].items()
    }
    assert labels["title"] == "discreet"
    assert labels.keys() >= {"description", "version", "revision", "created", "base.name"}


async def test_it_is_small_and_soon_ready(image: str, figures: dict[str, str]) -> None:
    """The bounds are far off, for other bases and busy machines; the figures are printed."""
    size, base = inspect(image)["Size"], inspect(base_image())["Size"]
    took = []
    async with Upstream(FINE) as upstream:
        for _ in range(3):
            began = time.monotonic()
            async with serving(image, UPSTREAM=upstream.url):
                took.append(time.monotonic() - began)
    mib = 1024 * 1024
    figures["image"] = f"{size / mib:.0f} MiB, {(size - base) / mib:.0f} more than its base"
    figures["start-up"] = f"{min(took):.2f} s from `podman run` to ready, the best of {len(took)}"
    assert size - base < 120 * mib
    assert min(took) < 20.0


async def test_a_stream_passes_whole_and_is_healthy_all_the_while(image: str) -> None:
    then = asyncio.Event()
    async with (
        Upstream(paused(then)) as upstream,
        serving(image, UPSTREAM=upstream.url) as container,
    ):
        client = await begun(container)
        await asyncio.to_thread(podman, "healthcheck", "run", container.id)
        then.set()
        assert b"response.completed" in await rest_of(client)
        client.leave()


async def test_telemetry_is_one_setting_away(image: str) -> None:
    """Nobody listens for it here, which no client notices."""
    async with (
        Upstream(FINE) as upstream,
        serving(image, UPSTREAM=upstream.url, OTEL="true") as container,
    ):
        client = await connect(container)
        assert (await client.ask()).status == 200
        client.leave()


async def test_no_failure_of_the_provider_gets_through_as_it_is(image: str) -> None:
    async with providing() as url, serving(image, UPSTREAM=url, IDLE_TIMEOUT="1") as container:
        for scenario in SCENARIOS:
            asked = json.dumps({"model": scenario.name, "stream": True, "input": "x"}).encode()
            client = await connect(container)
            await client.send(request(body=asked, Connection="close"))
            answer = await client.answer()
            client.leave()
            assert answer.whole, scenario.name
            for word in (b"litellm", b"Traceback", b"org-", b"<html", b"site-packages"):
                assert word not in answer.body, scenario.name
            if answer.status == 200:
                last = events_of(answer.body)[-1]
                assert last["type"] in ("response.completed", "response.failed"), scenario.name
            else:
                assert answer.error["code"], scenario.name
        assert "exchange" in container.logs()


TABLE = """\
version: 1
rules:
  - name: tenant-suspended
    when: {message: "tenant ... is suspended"}
    reply: permission_denied
    example: {status: 400, message: "Tenant acme-42 is suspended since Monday."}
"""


def update(volume: Path, table: str) -> None:
    """Change a mounted ConfigMap as the kubelet does: a new folder, then one rename of a link."""
    new = Path(tempfile.mkdtemp(dir=volume, prefix="..data_"))
    new.chmod(0o755)
    (new / "mappings.yaml").write_text(table)
    (volume / "..data_tmp").symlink_to(new.name)
    (volume / "..data_tmp").replace(volume / "..data")
    if not (volume / "mappings.yaml").is_symlink():
        (volume / "mappings.yaml").symlink_to("..data/mappings.yaml")


async def test_a_mounted_config_map_is_in_force_and_so_is_its_change_soon(
    image: str, tmp_path: Path
) -> None:
    update(tmp_path, "version: 1\n")
    suspended = says_json({"error": {"message": "Tenant x is suspended"}}, 400)
    mount = ("--volume", f"{tmp_path}:/etc/discreet:ro")
    async with (
        Upstream(suspended) as upstream,
        serving(image, *mount, UPSTREAM=upstream.url) as container,
    ):
        codes: list[str] = []
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while "permission_denied" not in codes:
                url = f"http://127.0.0.1:{container.port}/v1/responses"
                async with session.post(url, json={}) as answer:
                    codes.append((await answer.json())["error"]["code"])
                if len(codes) == 1:
                    update(tmp_path, TABLE)
                await asyncio.sleep(0.1)
        assert codes[0] != "permission_denied"


@asynccontextmanager
async def streams(container: Container, count: int) -> AsyncIterator[list[Client]]:
    clients = [await begun(container) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.leave()


async def test_a_rollout_under_load_cuts_no_stream(image: str) -> None:
    async with (
        Upstream(a_while()) as upstream,
        Balancer() as balancer,
        serving(image, UPSTREAM=upstream.url, DRAIN_DELAY=str(DELAY)) as old,
        serving(image, UPSTREAM=upstream.url) as new,
    ):
        balancer.add(old)
        await balancer.until(old, ready=True)
        async with load(balancer.port, clients=16) as tally:
            await more(tally)
            balancer.add(new)
            await balancer.until(new, ready=True)
            await asyncio.to_thread(old.signal, "TERM")
            assert await old.exit_code() == 0
            await more(tally)
    assert tally.wrong == []
    assert (tally.failed, balancer.refused) == (0, 0)
    # Every client met both.
    assert min(balancer.served.values()) >= 16
    assert len(balancer.served) == 2


async def test_a_stream_that_outlasts_the_drain_gets_one_ending(image: str) -> None:
    async with (
        Upstream(paused(asyncio.Event())) as upstream,
        serving(image, UPSTREAM=upstream.url, DRAIN_TIMEOUT="0.5") as container,
        streams(container, 5) as clients,
    ):
        container.signal("TERM")
        for client in clients:
            body = await rest_of(client)
            assert body.count(b"event: response.failed") == 1
            assert body.endswith(b"\n\n")
        assert await container.exit_code() == 0


async def test_several_workers_drain_together(image: str) -> None:
    then = asyncio.Event()
    async with (
        Upstream(paused(then)) as upstream,
        serving(image, UPSTREAM=upstream.url, WORKERS="2", DRAIN_TIMEOUT="60") as container,
        streams(container, 10) as clients,
    ):
        container.signal("TERM")
        await not_ready(container)
        then.set()
        for client in clients:
            assert b"event: response.completed" in await rest_of(client)
        assert await container.exit_code() == 0


async def test_a_sigterm_while_it_starts_ends_it(image: str) -> None:
    """As process 1 it must have its handler early: the kernel drops what has none."""
    container = start(image, UPSTREAM="http://127.0.0.1:9")
    try:
        await asyncio.to_thread(_until_it_runs_python, container)
        container.signal("TERM")
        assert await container.exit_code() in (0, 143)
    finally:
        podman("rm", "--force", "--time", "0", container.id)


def _until_it_runs_python(container: Container) -> None:
    pid = podman("inspect", "--format", "{{.State.Pid}}", container.id)
    while b"aiohttp" not in Path(f"/proc/{pid}/maps").read_bytes():
        pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "--upstream (or DISCREET_UPSTREAM) is missing"),
        ({"UPSTREAM": "http://127.0.0.1:9", "GATES": "1"}, "did you mean DISCREET_GATE?"),
    ],
)
async def test_a_wrong_setting_is_said_and_ends_it(
    image: str, settings: dict[str, str], said: str
) -> None:
    container = start(image, **settings)
    try:
        assert await container.exit_code() == 2
        assert said in container.logs()
    finally:
        podman("rm", "--force", "--time", "0", container.id)


@pytest.fixture
def pod(image: str) -> Iterator[Callable[..., str]]:
    """Return how to run a container in a pod that has no network but its loopback."""
    create = ("pod", "create", "--network", "none", "--infra-image", image)
    name = podman(*create, "--infra-command", "sleep infinity")

    def run_in_pod(*words: str) -> str:
        return podman("run", "--pod", name, *HARDENED, *words)

    yield run_in_pod
    podman("pod", "rm", "--force", "--time", "0", name)


def test_the_containers_of_a_pod_talk_over_its_loopback(
    image: str, pod: Callable[..., str]
) -> None:
    provider = ("-m", "proxy.demo.provider", "--listen", "127.0.0.1:9000")
    pod("--detach", "--entrypoint", "python", image, *provider)
    pod(
        *("--detach", "--env", "DISCREET_UPSTREAM=http://127.0.0.1:9000"),
        *("--env", "DISCREET_LISTEN=127.0.0.1:8080", "--env", "DISCREET_IDLE_TIMEOUT=2", image),
    )
    mount = f"{DEPLOY / 'client.py'}:/client.py:ro"
    addresses = ("http://127.0.0.1:9000", "http://127.0.0.1:8080")
    said = pod("--volume", mount, "--entrypoint", "python", image, "/client.py", *addresses)
    shows_before_and_after(said)


def shows_before_and_after(said: str) -> None:
    """Check what the example client shows: the provider's words before, none of them after."""
    scenarios = said.split("━━━")[1:]
    assert len(scenarios) == len(SCENARIOS)
    pairs = [scenario.split("── after") for scenario in scenarios]
    assert any("litellm" in before for before, _ in pairs)
    assert any("[silence]" in before for before, _ in pairs)
    for _, after in pairs:
        assert "litellm" not in after
        assert "[the stream ended]" in after or "[an HTTP error]" in after, after


def test_compose_shows_before_and_after(image: str) -> None:
    need("podman-compose")
    need_networks(image)
    compose = ("podman-compose", "-f", str(DEPLOY / "compose.yaml"), "-p", "discreet-tested")
    settings = environment() | {"DISCREET_IMAGE": image, "PORT": str(free_port())}
    try:
        run(*compose, "up", "--no-build", "--detach", environment=settings)
        podman("wait", "discreet-tested_client_1", seconds=PATIENCE)
        shows_before_and_after(podman("logs", "discreet-tested_client_1"))
    finally:
        run(*compose, "down", "--timeout", "5", ok=False, environment=settings)
        forget_network("discreet-tested_default")
