"""The account of one exchange: what went wrong, and what was said of it, each fault once."""

from __future__ import annotations

from proxy.core.errors import Origin, UpstreamError
from proxy.core.surfaces.names import RESPONSES
from tests.playbook import REFERENCE, event, ledger, sanitizer


def failed_item(item_id: str) -> dict[str, str]:
    return {"type": "mcp_call", "id": item_id, "error": f"canary of {item_id}"}


def test_an_incident_joins_the_error_the_rule_and_the_reply() -> None:
    account = ledger(RESPONSES)
    error = UpstreamError(origin=Origin.HTTP, code="slow_down", message="canary")
    reply = account.answer(error)
    (incident,) = account.incidents
    assert incident.error is error
    assert incident.resolution.reply is reply
    assert incident.resolution.rule is not None
    assert incident.resolution.rule.name == "code-slow-down"
    assert reply.reference == REFERENCE


def test_an_items_error_told_twice_is_one_incident() -> None:
    one = sanitizer(RESPONSES)
    items = [failed_item("mcp_1"), failed_item("mcp_2")]
    out = one.feed(
        event("response.created", response={"id": "resp_1"}).data
        + event("response.output_item.done", item=items[0]).data
        + event("response.output_item.done", item=items[1]).data
        + event("response.completed", response={"id": "resp_1", "output": items}).data
    )
    assert b"canary" not in out
    assert len(one._ledger.incidents) == 2


def test_errors_without_an_id_are_each_their_own() -> None:
    account = ledger(RESPONSES)
    error = UpstreamError(origin=Origin.ITEM)
    for _ in range(20):
        account.answer(error)
        account.answer(error, once={"no": "id"})
    assert len(account.incidents) == 16
    assert account.dropped == 24


def test_the_memory_of_what_was_told_is_bounded() -> None:
    account = ledger(RESPONSES)
    for i in range(1000):
        account.answer(UpstreamError(origin=Origin.ITEM), once=f"mcp_{i}")
    assert len(account._told) == 16
    assert account.answer(UpstreamError(origin=Origin.ITEM), once="mcp_0").code
    assert account.dropped == 1000 - 16
