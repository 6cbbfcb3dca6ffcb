"""Settings: flags and variables to one object, or every problem at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from yarl import URL

from proxy.settings import (
    Settings,
    SettingsError,
    flag_of,
    read_settings,
    variable_of,
)
from proxy.values import Address

UPSTREAM = "https://api.example.com"
SECRET = "sk-fake-0123456789"

GOOD: dict[str, tuple[str, Any]] = {
    "upstream": ("https://api.example.com:8443/v1", URL("https://api.example.com:8443/v1")),
    "listen": ("0.0.0.0:80", Address("0.0.0.0", 80)),
    "mappings": ("my.yaml", Path("my.yaml")),
    "admin": ("[::1]:9090", Address("::1", 9090)),
    "workers": ("2", 2),
    "admin_token": (SECRET, SecretStr(SECRET)),
    "otel": ("true", True),
    "log_format": ("console", "console"),
    "log_originals": ("full", "full"),
    "upstream_api_key": (SECRET, SecretStr(SECRET)),
    "upstream_headers": ('{"api-key": "fake"}', {"api-key": "fake"}),
    "forwarded": ("add", "add"),
    "gate": ("0", 0.0),
    "connect_timeout": ("1.5", 1.5),
    "response_timeout": ("30", 30.0),
    "idle_timeout": ("0.25", 0.25),
    "stream_timeout": ("86400", 86_400.0),
    "keep_alive": ("15", 15.0),
    "send_timeout": ("9", 9.0),
    "first_event_timeout": ("240", 240.0),
    "client_idle_timeout": ("30", 30.0),
    "upstream_idle_timeout": ("4", 4.0),
    "request_head_timeout": ("5", 5.0),
    "request_idle_timeout": ("6", 6.0),
    "drain_delay": ("3", 3.0),
    "drain_timeout": ("7", 7.0),
    "max_connections": ("100", 100),
    "max_in_flight": ("50", 50),
    "max_event": ("64KiB", 64 * 1024),
    "max_body": ("16 MiB", 16 * 1024 * 1024),
    "max_request": ("1000", 1000),
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)


def read(**flags: str) -> Settings:
    return read_settings({"upstream": UPSTREAM} | flags)


def problems(**flags: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read(**flags)
    assert str(raised.value) == "\n".join(raised.value.problems)
    return raised.value.problems


def problem(**flags: str) -> str:
    (one,) = problems(**flags)
    return one


def test_every_setting_is_tried_here() -> None:
    assert GOOD.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", GOOD)
def test_a_flag_sets_it(name: str) -> None:
    text, value = GOOD[name]
    assert getattr(read(**{name: text}), name) == value


@pytest.mark.parametrize("name", GOOD)
def test_a_variable_sets_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, value = GOOD[name]
    monkeypatch.setenv("DISCREET_UPSTREAM", UPSTREAM)
    monkeypatch.setenv(f"DISCREET_{name.upper()}", text)
    assert getattr(read_settings({}), name) == value


@pytest.mark.parametrize("name", GOOD)
def test_the_flag_wins_over_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, value = GOOD[name]
    monkeypatch.setenv(variable_of(name), "nonsense")
    assert getattr(read(**{name: text}), name) == value


def test_a_given_environment_is_read_instead_of_the_process_s() -> None:
    settings = read_settings({}, {"DISCREET_UPSTREAM": UPSTREAM, "DISCREET_GATE": "1"})
    assert (settings.upstream, settings.gate) == (URL(UPSTREAM), 1.0)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCREET_MAPPINGS", "")
    monkeypatch.setenv("DISCREET_GATE", "")
    settings = read()
    assert settings.mappings is None
    assert settings.gate == Settings.model_fields["gate"].default


@pytest.mark.parametrize("name", GOOD)
def test_names(name: str) -> None:
    assert flag_of(name) == f"--{name.replace('_', '-')}"
    assert variable_of(name) == f"DISCREET_{name.upper()}"
    assert Settings.model_fields[name].description


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(read(), "gate", 9.0)  # noqa: B010 - the type checker knows too


def test_only_the_upstream_is_required() -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({})
    (said,) = raised.value.problems
    assert said.startswith("--upstream (or DISCREET_UPSTREAM) is missing: ")
    assert "https://" in said
    assert read().listen == Address("127.0.0.1", 8080)


def test_all_problems_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCREET_LISTEN", "nowhere")
    monkeypatch.setenv("DISCREET_GATTE", "1")
    monkeypatch.setenv("DISCREET_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError) as raised:
        read_settings({"gate": "soon", "max_body": "1.5MiB"})
    places = {said.split(" ")[0].rstrip(":") for said in raised.value.problems}
    assert places == {
        "--upstream",
        "DISCREET_LISTEN",
        "DISCREET_GATTE",
        "DISCREET_LOG_FORMAT",
        "--gate",
        "--max-body",
    }


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("DISCREET_UPSTREEM", "did you mean DISCREET_UPSTREAM?"),
        ("DISCREET_API_KEY", "did you mean DISCREET_UPSTREAM_API_KEY?"),
        ("DISCREET_IDLE_TIMOUT", "did you mean DISCREET_IDLE_TIMEOUT?"),
        ("DISCREET_QQQQQQ", "discreet serve --help"),
    ],
)
def test_an_unknown_variable_is_a_problem(
    wrong: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wrong, SECRET)
    said = problem()
    assert said.startswith(f"{wrong}: ")
    assert said.endswith(meant) or meant in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:11434", "https://api.example.com", "http://[::1]:8000/v1/", "https://h/a/b"],
)
def test_an_upstream(url: str) -> None:
    assert read(upstream=f" {url}\n").upstream == URL(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "api.example.com:443",
        "//api.example.com",
        "/v1",
        "ftp://api.example.com",
        "unix:///run/model.sock",
        "http://",
        "https://:443",
        "http://h:99999",
        "http://h:port",
        "http://[::1",
        "https://api.example.com/?key=1",
        "https://api.example.com/#top",
        f"https://user:{SECRET}@api.example.com",
        f"https://{SECRET}@api.example.com",
    ],
)
def test_what_is_no_upstream(url: str) -> None:
    said = problem(upstream=url)
    assert said.startswith("--upstream: ")
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::]:8080", Address("::", 8080)),
        ("[::1]:65535", Address("::1", 65535)),
        (" 0.0.0.0:80 ", Address("0.0.0.0", 80)),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert read(listen=text).listen == address
    assert str(address) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["", ":", "8080", ":8080", "localhost", "localhost:", "localhost:http", "h:-1", "h:65536",
     "h:1.5", "http://h:80", "[::1]", "::1:8080"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    assert problem(listen=text) == "--listen: write HOST:PORT, such as 127.0.0.1:8080"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512b", 512),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1 kib", 1024),
        ("2M", 2 * 1024 * 1024),
        ("2MiB", 2 * 1024 * 1024),
    ],
)
def test_a_size(text: str, size: int) -> None:
    assert read(max_event=text).max_event == size


@pytest.mark.parametrize("text", ["0", "-1", "1.5MiB", "MiB", "", "1GB", "ten", "1KB!", "0x10"])
def test_what_is_no_size(text: str) -> None:
    assert problem(max_event=text).startswith("--max-event: ")


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", "86401", ""])
def test_what_is_no_time(text: str) -> None:
    assert problem(idle_timeout=text).startswith("--idle-timeout: ")


@pytest.mark.parametrize("text", ["-0.1", "61", "nan", "x"])
def test_what_is_no_gate(text: str) -> None:
    assert problem(gate=text).startswith("--gate: ")


@pytest.mark.parametrize("name", ["log_format", "log_originals", "forwarded"])
def test_a_choice_says_what_there_is_to_choose(name: str) -> None:
    said = problem(**{name: "nonsense"})
    assert said.startswith(f"{flag_of(name)}: ")
    assert GOOD[name][0] in said


@pytest.mark.parametrize(
    "text",
    [
        '{"api-key": "fake", "X-Team": "blue"}',
        "api-key: fake\nX-Team: blue",
        "\n  api-key:fake\n\n  X-Team :  blue  \n",
        "api-key: fake\r\nX-Team: blue\r\n",
    ],
)
def test_headers(text: str) -> None:
    assert read(upstream_headers=text).upstream_headers == {"api-key": "fake", "X-Team": "blue"}


@pytest.mark.parametrize(
    "value",
    [
        "no colon",
        "X-Good: 1\nno colon",
        ": nameless",
        "X Team: a space in the name",
        '{"X-Number": 1}',
        '{"X-Null": null}',
        '{"": "nameless"}',
        '{"X-Line": "a\\r\\nInjected: 1"}',
        '{"X-Line\\n": "a"}',
        '{"X-Nul": "a\\u0000"}',
        '{"caf\\u00e9": "a"}',
        '{"a b": "a"}',
        '{"a:b": "a"}',
        '["list"]',
        "{not json}",
        '{"unfinished": ',
    ],
)
def test_what_are_no_headers(value: str) -> None:
    assert problem(upstream_headers=value).startswith("--upstream-headers: write a JSON object")


@pytest.mark.parametrize(
    ("flags", "added"),
    [
        ({}, {}),
        ({"upstream_api_key": SECRET}, {"Authorization": f"Bearer {SECRET}"}),
        ({"upstream_headers": '{"api-key": "fake"}'}, {"api-key": "fake"}),
        (
            {"upstream_api_key": SECRET, "upstream_headers": '{"X-Team": "blue"}'},
            {"X-Team": "blue", "Authorization": f"Bearer {SECRET}"},
        ),
    ],
)
def test_added_headers(flags: dict[str, str], added: dict[str, str]) -> None:
    assert read(**flags).added_headers() == added


@pytest.mark.parametrize(
    "flags",
    [
        {"upstream_api_key": SECRET},
        {"admin_token": SECRET},
        {"upstream_headers": json.dumps({"api-key": SECRET})},
    ],
    ids=["key", "token", "headers"],
)
def test_a_secret_is_not_shown(flags: dict[str, str]) -> None:
    settings = read(**flags)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in " ".join(problems(**flags, listen="nowhere"))


@pytest.mark.parametrize("name", ["upstream_headers", "gate", "listen", "log_format"])
def test_a_value_that_is_wrong_is_not_repeated(name: str) -> None:
    assert SECRET not in problem(**{name: SECRET})


def test_every_limit_is_a_setting_s() -> None:
    limits = read(**{name: text for name, (text, _) in GOOD.items()}).limits()
    assert (limits.gate, limits.connect, limits.response, limits.idle) == (0.0, 1.5, 30.0, 0.25)
    assert (limits.stream, limits.keep_alive, limits.drain) == (86_400.0, 15.0, 7.0)
    assert (limits.request_head, limits.request_idle, limits.drain_delay) == (5.0, 6.0, 3.0)
    assert (limits.connections, limits.in_flight) == (100, 50)
    assert (limits.event, limits.body, limits.request) == (65_536, 16_777_216, 1000)
