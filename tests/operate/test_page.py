"""The operator's page in a real browser: Chromium, driven by the DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.proxies import CHAT, Proxy, relaying, request
from tests.upstreams import STREAM_HEAD as STREAM_BEGINS
from tests.upstreams import (
    Visit,
    answer,
    chunk,
    completed,
    created,
    delta,
    error_event,
    says_json,
    streams,
)

CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
# A browser that starts while other tests keep the machine busy.
BROWSER_PATIENCE: Final = 60.0

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")

TOKEN = "fake-token-of-the-operator"
RATE_LIMIT = {
    "error": {
        "message": "Rate limit reached for org-FAKE7Xq2Lm. Please try again in 11s.",
        "type": "tokens",
        "code": "rate_limit_exceeded",
    }
}
UNKNOWN = streams(created(), error_event("warp_core_cold", 1, "The warp core is cold."))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a browser; give the address of its DevTools."""
    profile = tmp_path_factory.mktemp("profile")
    said = profile / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield _address(process, profile / "DevToolsActivePort", said)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], file: Path, said: Path) -> str:
    end = time.monotonic() + BROWSER_PATIENCE
    while time.monotonic() < end and process.poll() is None:
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    pytest.fail(f"the browser does not start: {said.read_text()[-2000:]}")


class NoPageError(Exception):
    """The page has not what was asked for, or is about to be another."""


class Tab:
    """A tab of its own: no cookies, no storage of another.

    complaints: what the browser said against the page: errors, violations of its policy.
    """

    def __init__(self, devtools: ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._devtools = devtools
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.session: dict[str, str] = {}

    async def listen(self) -> None:
        """Hear the browser until the connection ends."""
        async for message in self._devtools:
            said = json.loads(message.data)
            if "id" in said:
                self._asked.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))
            elif said["method"] == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"]["text"])
            elif said["method"] == "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(said["params"]["args"]))

    async def tell(self, method: str, **params: Any) -> Any:
        """Give the browser an order; return its result."""
        number = next(self._numbers)
        done = self._asked[number] = asyncio.get_running_loop().create_future()
        order = {"id": number, "method": method, "params": params, **self.session}
        await self._devtools.send_json(order)
        async with asyncio.timeout(BROWSER_PATIENCE):
            found = await done
        if "error" in found:
            raise NoPageError(found["error"])
        return found["result"]

    async def get(self, script: str) -> Any:
        """Return an expression's value."""
        found = await self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise NoPageError(found["exceptionDetails"])
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression is true; return its value."""
        try:
            async with asyncio.timeout(BROWSER_PATIENCE):
                while True:
                    with suppress(NoPageError):
                        if value := await self.get(script):
                            return value
                    await asyncio.sleep(0.02)
        except TimeoutError:
            shown = await self.get("document.body.innerText.slice(0, 2000)")
            pytest.fail(f"never true: {script}\nthe page:\n{shown}\n{self.complaints}")

    async def shows(self, text: str, where: str = "body") -> None:
        """Wait until a part of the page shows a text."""
        part = f"document.querySelector({json.dumps(where)})"
        await self.until(f"{part}?.innerText.includes({json.dumps(text)})")

    async def type(self, where: str, text: str) -> None:
        """Write into a field."""
        await self.get(f"document.querySelector({json.dumps(where)}).focus()")
        await self.tell("Input.insertText", text=text)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        keys = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        await self.tell("Input.dispatchKeyEvent", type="keyDown", **keys)
        await self.tell("Input.dispatchKeyEvent", type="keyUp", **keys)

    async def look(self, width: int, scheme: str) -> None:
        """Be a window of this width, in the light or in the dark."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.tell("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.tell("Emulation.setEmulatedMedia", features=[feature])


@asynccontextmanager
async def tab(browser: str, url: str) -> AsyncIterator[Tab]:
    """Open a page."""
    async with (
        ClientSession() as session,
        session.ws_connect(browser, max_msg_size=0) as devtools,
    ):
        one = Tab(devtools)
        listening = asyncio.create_task(one.listen())
        context = (await one.tell("Target.createBrowserContext", disposeOnDetach=True))[
            "browserContextId"
        ]
        target = {"url": "about:blank", "browserContextId": context}
        opened = await one.tell("Target.createTarget", **target)
        attached = await one.tell(
            "Target.attachToTarget", targetId=opened["targetId"], flatten=True
        )
        one.session = {"sessionId": attached["sessionId"]}
        await one.tell("Emulation.setFocusEmulationEnabled", enabled=True)
        for domain in ("Runtime", "Log", "Page"):
            await one.tell(f"{domain}.enable")
        await one.tell("Page.navigate", url=url)
        try:
            yield one
        finally:
            await devtools.close()
            await listening


def admin_of(proxy: Proxy) -> str:
    assert proxy.running.admin is not None
    return f"http://{proxy.running.admin}/"


ADMIN: Final = {"admin": "127.0.0.1:0"}
LIVE: Final = "document.getElementById('link').textContent === '● live'"


async def test_an_idle_proxy_is_told_of_in_helpful_sentences(browser: str) -> None:
    async with (
        relaying(says_json({}), **ADMIN) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        await page.until(LIVE)
        await page.shows("● Serving", "#state")
        await page.shows("No errors in the last hour", "#hour")
        await page.shows("Every error so far was matched", "#unmapped")
        await page.shows("No incident since the proxy started", "#none")
        await page.shows("No rule was hit", "#hit")
        assert await page.get("document.querySelectorAll('#unhit tr').length") > 50
        assert await page.get("document.title") == "serving · discreet"
        assert page.complaints == []


async def test_an_incident_that_just_happened_is_shown_before_and_after(browser: str) -> None:
    async with (
        relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        await page.until(LIVE)
        got = await proxy.ask(target=CHAT)
        reference = got.headers["x-request-id"]
        row = f"#incidents [data-reference='{reference}']"
        await page.shows("org-FAKE7Xq2Lm", f"{row} .said")
        await page.shows(got.error["message"], f"{row} .told")
        await page.get(f'document.querySelector("{row} summary").focus()')
        await page.press("Enter", 13, "\r")
        before, after = f"{row} .sides > :first-child", f"{row} .sides > :last-child"
        await page.shows("HTTP 429 · code rate_limit_exceeded · type tokens", before)
        await page.shows("HTTP 429 · code rate_limit_exceeded", after)
        side_by_side = (
            f'document.querySelector("{before}").getBoundingClientRect().top === '
            f'document.querySelector("{after}").getBoundingClientRect().top'
        )
        assert await page.get(side_by_side)
        assert "org-FAKE7Xq2Lm" not in await page.get(
            f'document.querySelector("{after}").innerText'
        )
        await page.shows(f"discreet explain --incident {reference} --admin 127.0.0.1:", row)
        # The figures follow without a reload.
        await page.shows("rate_limit_exceeded", "#hour")
        await page.shows("code-rate-limit", "#hit")
        assert await page.get("document.querySelectorAll('#hour svg').length") == 3
        assert page.complaints == []


async def test_what_runs_now_is_counted(browser: str) -> None:
    then = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(STREAM_BEGINS, chunk(created() + delta("Hello")))
        await then.wait()
        await visit.send(chunk(completed()), b"0\r\n\r\n")

    async with (
        relaying(script, **ADMIN) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        now = "document.querySelector('#figures dd').textContent"
        await page.until(f"{now} === '0'")
        client = await proxy.connect()
        await client.send(request())
        await client.until(b"Hello")
        await page.until(f"{now} === '1'")
        then.set()
        await page.until(f"{now} === '0'")


async def test_an_unmapped_error_comes_with_a_rule_to_copy(browser: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("version: 1\nextends: shipped\n")
    async with (
        relaying(UNKNOWN, **ADMIN, mappings=str(file)) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        await page.until(LIVE)
        got = await proxy.ask()
        reference = got.headers["x-request-id"]
        await proxy.ask()
        await page.shows("2 times", "#unmapped")
        await page.shows("1 kind of errors without a rule of its own (2 times)", "#alarms")
        await page.shows("when:\n    code: warp_core_cold", "#unmapped [data-what=rule]")
        await page.shows(f"discreet check {file}", "#unmapped")
        await page.shows(f"discreet explain --incident {reference}", "#unmapped")
        await page.shows("kill -HUP", "#unmapped")
        await page.get("document.querySelector('[aria-label=\"Copy the suggested rule\"]').focus()")
        await page.press("Enter", 13, "\r")
        await page.until("document.querySelector('#told').textContent.includes('Copied')")

        # What the page suggests works: pasted, it is loaded and matches.
        rule = await page.get("document.querySelector('[data-what=rule]').textContent")
        file.write_text(f"version: 1\nextends: shipped\nrules:\n{rule}")
        await page.shows("version 2", "#figures")
        await page.shows(
            "mapped since: the table in force has the rule warp-core-cold", "#unmapped"
        )
        await page.shows("0", "#figures > :nth-child(4) dd")
        await proxy.ask()
        await page.shows("warp-core-cold", "#hit")
        await page.shows("own.yaml:4", "#hit")
        assert page.complaints == []


async def test_a_refused_reload_is_the_first_thing_to_read(browser: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("version: 1\nextends: shipped\n")
    async with (
        relaying(says_json({}), **ADMIN, mappings=str(file)) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        await page.until(LIVE)
        file.write_text("version: 1\nextends: shipped\nrulez: []\n")
        await page.shows("The last reload was refused: 1 problem", "#alarms")
        await page.shows(f"{file}:3: ", "#alarms")
        await page.shows("✕ refused", "#about")
        top = "document.querySelector('#alarms').getBoundingClientRect().top"
        assert await page.get(
            f"{top} < document.querySelector('#state').getBoundingClientRect().top"
        )
        assert await page.get("document.title") == "! reload refused · discreet"
        file.write_text("version: 1\nextends: shipped\n# corrected\n")
        await page.until("document.querySelector('#alarms').textContent === ''")
        await page.shows("took effect", "#about")


EVIL = (
    "<img src=x onerror=document.title='pwned'>",
    "</script><script>document.title='pwned'</script>",
    "</pre></details><h1 id=evil>",
    "javascript:document.title='pwned'",
    "${document.title='pwned'} {{7*7}}",
)


@pytest.mark.parametrize("text", EVIL)
async def test_what_an_upstream_says_stays_text(browser: str, text: str) -> None:
    script = streams(created(), error_event(text, 1, f"Look: {text} \u202eevil"))
    async with relaying(script, **ADMIN) as (_, proxy):
        await proxy.ask()
        await proxy.exchange()
        async with tab(browser, admin_of(proxy)) as page:
            await page.until(LIVE)
            await page.shows(f"Look: {text}", "#incidents .said")
            await page.get("document.querySelectorAll('details').forEach((one) => one.open = true)")
            await page.shows(text, "#unmapped .sides")
            await page.shows(text, "#incidents .sides pre")
            assert "\u202e" not in await page.get("document.body.innerText")
            await proxy.ask()
            await page.shows("Show 1 new incident", "#fresh")
            assert not await page.get(
                "document.querySelector('img, #evil, script + script')?.tagName"
            )
            assert await page.get("document.title") == "1 unmapped · discreet"
            assert page.complaints == []


async def test_an_incident_is_found_by_its_reference(browser: str) -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy):
        first, *_ = [(await proxy.ask(target=CHAT)).headers["x-request-id"] for _ in range(5)]
        await proxy.exchanges(5)
        drawn = "document.querySelectorAll('#incidents > details').length"
        async with tab(browser, admin_of(proxy)) as page:
            await page.until(f"{drawn} === 5")
            await page.type("#find", first)
            await page.until(f"{drawn} === 1")
            await page.shows("HTTP 429", f"[data-reference='{first}'] .sides")
            assert await page.get("location.hash") == f"#ref={first}"
            await page.type("#find", "-of-another-proxy")
            await page.shows("look for the reference in the log", "#none")
        async with tab(browser, f"{admin_of(proxy)}#ref={first}") as page:
            await page.until(f"{drawn} === 1")
            await page.shows("HTTP 429", f"[data-reference='{first}'] .sides")


async def test_who_reads_an_incident_is_not_disturbed(browser: str) -> None:
    async with (
        relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        drawn = "document.querySelectorAll('#incidents > details').length"
        await page.until(LIVE)
        await proxy.ask(target=CHAT)
        await page.until(f"{drawn} === 1")
        await page.get("document.querySelector('#incidents details').open = true")
        await proxy.ask(target=CHAT)
        await page.shows("Show 1 new incident", "#fresh")
        assert await page.get(drawn) == 1
        await page.get("document.querySelector('#fresh').click()")
        await page.until(f"{drawn} === 2")
        assert await page.get("document.querySelectorAll('#incidents details[open]').length") == 1


async def test_the_token_is_asked_for_once(browser: str) -> None:
    settings = {**ADMIN, "admin_token": TOKEN}
    async with (
        relaying(says_json(RATE_LIMIT, 429), **settings) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        await page.until("document.activeElement.id === 'token'")
        assert await page.get("document.querySelector('#page').hidden")
        await page.type("#token", "not-the-token")
        await page.press("Enter", 13, "\r")
        await page.shows("does not take this token", "#gate")
        await page.type("#token", TOKEN)
        await page.press("Enter", 13, "\r")
        await page.until(LIVE)
        assert await page.get("document.querySelector('#gate').hidden")
        assert TOKEN not in await page.get("location.href + document.cookie")
        await proxy.ask(target=CHAT)
        await page.shows("rate_limit_exceeded", "#incidents")
        await page.tell("Page.reload")
        await page.until(f"document.readyState === 'complete' && {LIVE}")
        await page.shows("rate_limit_exceeded", "#incidents")


async def test_a_draining_proxy_is_told_of_and_asked_on(browser: str) -> None:
    async with (
        relaying(says_json({}), **ADMIN) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        await page.until(LIVE)
        proxy.running.drain()
        await page.shows("▲ Not serving: draining", "#state")
        await page.shows("no live updates: asking every 5 s", "#link")


async def test_a_proxy_that_is_gone_is_told_of(browser: str) -> None:
    async with relaying(says_json(RATE_LIMIT, 429), **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        opened = tab(browser, admin_of(proxy))
        page = await opened.__aenter__()
        await page.until(LIVE)
    try:
        await page.shows("✕ connection lost at", "#link")
        await page.shows("✕ Not reachable since", "#state")
        # What was known stays to be read.
        await page.shows("rate_limit_exceeded", "#incidents")
    finally:
        await opened.__aexit__(None, None, None)


LONG = "x" * 300
SIZES = [(width, scheme) for width in (360, 1280) for scheme in ("light", "dark")]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
async def test_it_is_readable_on_a_phone_and_in_the_dark(
    browser: str, width: int, scheme: str
) -> None:
    said = {"error": {"message": f"Long words: {LONG}", "type": LONG, "code": LONG}}
    async with relaying(says_json(said, 418), **ADMIN) as (_, proxy):
        await proxy.ask(target=CHAT)
        await proxy.exchange()
        async with tab(browser, "about:blank") as page:
            await page.look(width, scheme)
            await page.tell("Page.navigate", url=admin_of(proxy))
            await page.until(f"document.readyState === 'complete' && {LIVE}")
            await page.shows("Long words", "#incidents")
            await page.get("document.querySelectorAll('details').forEach((one) => one.open = true)")
            await page.shows(LONG, "#incidents .sides")
            assert await page.get("innerWidth") == width
            root = "document.documentElement"
            assert await page.get(f"{root}.scrollWidth <= {root}.clientWidth")
            assert await page.get(_CONTRASTS) == []


# Every text's colour against the nearest ground beneath it: WCAG asks for 4.5.
_CONTRASTS: Final = """(() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((n) => n / 255)
      .map((n) => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(node.parentElement) : colour;
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !node.checkVisibility() || node.closest("svg, script")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort();
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) bad.push([node.textContent.slice(0, 40), contrast]);
  }
  return bad;
})()"""


async def test_what_is_unusual_of_an_incident_is_shown_too(browser: str) -> None:
    async def script(visit: Visit) -> None:
        await visit.body()
        if visit.target == CHAT:
            await visit.send(answer(b"<html>502 from llm-7.acme.example</html>", 502, "text/html"))
        else:
            await visit.send(STREAM_BEGINS, chunk(created() + delta("Hello")))
            visit.reset()

    async with relaying(script, **ADMIN, log_originals="off") as (_, proxy):
        page_only = await proxy.ask(target=CHAT)
        cut = await proxy.ask()
        await proxy.exchanges(2)
        async with tab(browser, admin_of(proxy)) as page:
            await page.until(LIVE)
            await page.get("document.querySelectorAll('details').forEach((one) => one.open = true)")
            row = f"[data-reference='{page_only.headers['x-request-id']}']"
            await page.shows("HTTP 502", f"{row} .said")
            await page.shows("--log-originals is off", row)
            assert "acme" not in await page.get("document.body.innerText")
            row = f"[data-reference='{cut.headers['x-request-id']}']"
            await page.shows("the proxy saw: upstream_reset", f"{row} .said")
            await page.shows("inside an answer that had begun", row)
            await page.shows("response.created → response.output_text.delta", row)


async def test_a_healthy_stream_is_no_incident(browser: str) -> None:
    async with (
        relaying(streams(created(), delta("Hi"), completed()), **ADMIN) as (_, proxy),
        tab(browser, admin_of(proxy)) as page,
    ):
        await page.until(LIVE)
        await proxy.ask()
        await proxy.exchange()
        await page.tell("Page.reload")
        await page.until(f"document.readyState === 'complete' && {LIVE}")
        await page.shows("No incident since the proxy started", "#none")
