"""Stored errors: what an object says went wrong with a part of it, or long ago.

A failed background response is a 200 with an error inside, a failed tool call an item of a
response that went well. The answer is no error, so it passes, with each stored error
replaced in place. The places are known paths; everything else in the object is content.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core.errors import Origin, Reply, UpstreamError
from proxy.core.failures import Failure
from proxy.core.fields import squash
from proxy.core.incident import Ledger
from proxy.core.jsontext import write_json
from proxy.core.spec import INCOMPLETE_ALIASES, INCOMPLETE_REASONS
from proxy.core.surfaces.surface import (
    BodyVerdict,
    Ordinary,
    has_error_mark,
    is_error,
    is_stored,
    tells_of_error,
)

# Lists hold at most 100 resources a page in these APIs, resources hold items, items nothing.
_MAX_DEPTH: Final = 4

# Where an object keeps other objects, by its `object` field.
_CHILDREN: Final = {"list": ("data",), "response": ("output",), "response.compaction": ("output",)}
# All the fields that do; most objects have none of them.
_PLACES: Final = frozenset({"data", "item", "output", "response", "result", "sample"})

# The fields that `_clean_own` reads first: most objects have none of them.
_OWN_FIELDS: Final = frozenset(
    {
        "error",
        "errors",
        "incomplete_details",
        "last_error",
        "level",
        "moderation",
        "status_details",
    }
)

# openai-python 3.54.0, types/responses/mcp_tool_call_error.py
_MCP_PROTOCOL: Final = "mcp_protocol_error"
_MCP_TOOL: Final = "mcp_tool_execution_error"
_MCP_KINDS: Final = frozenset({_MCP_PROTOCOL, _MCP_TOOL, "http_error"})
_MCP_CODES: Final = range(-40_000, 1_000)  # JSON-RPC's reserved numbers and HTTP's statuses

# Names of fields, as `squash` leaves them, of which an error may consist whole.
_OF_ERRORS: Final = frozenset(
    """
    code data detail details err errmsg error errorcode errordescription errormessage errormsg
    errors exception fault id instance loc message msg param path reason requestid status
    statuscode success timestamp title traceid type
    """.split()  # noqa: SIM905 - words that are read as a list
)

# Where such an object says how it went, and how it says that it went well.
_OUTCOMES: Final = ("success", "ok", "status", "code", "status_code", "statusCode")
_WELL: Final = frozenset(
    {"true", "ok", "success", "succeeded", "completed", "healthy", "ready", "alive", "0", "200"}
)


def read_resource(value: object, ledger: Ledger) -> BodyVerdict:
    """Judge the JSON of any 2xx answer: an error, or a resource with its stored errors replaced."""
    if (
        isinstance(value, dict)
        and not is_stored(value)
        and (has_error_mark(value, ledger.reader) or _is_bare_error(value))
    ):
        return ledger.reader.read(value, Origin.BODY)
    return Ordinary(write_json(value) if clean(value, ledger) else None)


def read_response(value: object, ledger: Ledger) -> BodyVerdict:
    """Judge the answer to a request for a response: one that failed is the request's failure."""
    reader = ledger.reader
    if not isinstance(value, dict) or not _is_response(value):
        marked = isinstance(value, dict) and has_error_mark(value, reader)
        failure = None if marked else Failure.MALFORMED_BODY
        return reader.read(value, Origin.BODY, failure=failure)
    if is_error(value.get("error")) or value.get("status") == "failed":
        return reader.read(value.get("error") or {}, Origin.BODY)
    return Ordinary(write_json(value) if clean(value, ledger) else None)


def _is_response(value: dict[str, Any]) -> bool:
    kind = value.get("object", "response")
    return (
        isinstance(value.get("id"), str)
        and kind == "response"
        and ("object" in value or "output" in value or "status" in value)
    )


def clean(value: object, ledger: Ledger, depth: int = 0, kind: str = "") -> bool:
    """Replace the stored errors in `value`; tell whether there were any.

    Looked into are a list's resources, an event's response and item, and a response's items.
    What an item holds is content, and a tool's output may well be `{"error": ...}`.

    kind: what it is, where that is known without its `object` field.
    """
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return False
    changed = not _OWN_FIELDS.isdisjoint(value) and _clean_own(value, ledger)
    if _PLACES.isdisjoint(value):
        return changed
    if str(value.get("type")).startswith("response."):  # an event
        changed |= clean(value.get("response"), ledger, depth + 1, "response")
        changed |= clean(value.get("item"), ledger, depth + 1)
    elif "custom_id" in value:  # a line of a batch's results
        changed |= clean(value.get("result"), ledger, depth + 1)
    elif value.get("object") == "eval.run.output_item":
        changed |= clean(value.get("sample"), ledger, depth + 1)
    for key in _CHILDREN.get(kind or str(value.get("object")), ()):
        entries = value.get(key)
        for child in entries if isinstance(entries, list) else ():
            changed |= clean(child, ledger, depth + 1)
    return changed


def _clean_own(value: dict[str, Any], ledger: Ledger) -> bool:
    changed = False
    if is_error(value.get("error")):
        value["error"] = _stored_error(value, value["error"], ledger)
        changed = True
    if is_error(value.get("last_error")):
        value["last_error"] = _rewrite(value["last_error"], _answer(value["last_error"], ledger))
        changed = True
    errors = value.get("errors")
    if isinstance(errors, dict) and isinstance(errors.get("data"), list) and errors["data"]:
        errors["data"] = [_rewrite(one, _answer(one, ledger)) for one in errors["data"]]
        changed = True
    if value.get("status_details") and value.get("object") == "file":
        value["status_details"] = _answer(value["status_details"], ledger).message
        changed = True
    if value.get("object") == "fine_tuning.job.event" and value.get("level") == "error":
        value["message"] = _answer(value.get("message"), ledger).message
        changed = True
    if value.get("incomplete_details"):
        changed |= _clean_incomplete(value)
    if value.get("moderation"):
        changed |= _clean_moderation(value["moderation"], ledger)
    return changed


def _is_bare_error(value: dict[str, Any]) -> bool:
    """Tell whether an object holds nothing but what errors hold: `{"detail": "..."}`."""
    tells = tells_of_error(value) or any(
        isinstance(value.get(name), dict) for name in ("detail", "fault")
    )
    well = any(str(value.get(name)).lower() in _WELL for name in _OUTCOMES)
    return (
        tells
        and not well
        and all(squash(name) in _OF_ERRORS for name, entry in value.items() if entry is not None)
    )


def _answer(
    stored: object, ledger: Ledger, origin: Origin = Origin.RESOURCE, once: object = None
) -> Reply:
    return ledger.answer(ledger.reader.read(stored, origin, raw=write_json(stored)), once)


def _stored_error(owner: dict[str, Any], stored: object, ledger: Ledger) -> object:
    kind = owner.get("type")
    if owner.get("object") == "response":
        reply = _answer(stored, ledger)
        return _rewrite(stored, reply, code=reply.responses_code)
    if not isinstance(kind, str):
        return _rewrite(stored, _answer(stored, ledger))
    is_tool = kind.startswith("mcp_")
    origin = Origin.TOOL if is_tool else Origin.ITEM
    reply = _answer(stored, ledger, origin, owner.get("id"))
    if is_tool and isinstance(stored, dict):
        return _mcp_error(stored, reply)
    return _rewrite(stored, reply)


def _rewrite(stored: object, reply: Reply, code: str = "") -> object:
    """Say the reply in the shape that the stored error has."""
    if not isinstance(stored, dict):
        return reply.message
    error: dict[str, object] = {"code": code or reply.code, "message": reply.message}
    if "type" in stored:
        error["type"] = reply.type
    if "param" in stored:
        error["param"] = reply.param
    return error


def _mcp_error(stored: dict[str, Any], reply: Reply) -> dict[str, object]:
    kind = stored.get("type")
    if not isinstance(kind, str) or kind not in _MCP_KINDS:
        kind = _MCP_PROTOCOL
    if kind == _MCP_TOOL:
        return {"type": kind, "content": [{"type": "text", "text": reply.message}]}
    code = stored.get("code")
    safe = code if type(code) is int and code in _MCP_CODES else 0
    return {"type": kind, "code": safe, "message": reply.message}


def _clean_incomplete(owner: dict[str, Any]) -> bool:
    details = owner["incomplete_details"]
    reason = details.get("reason") if isinstance(details, dict) else None
    reason = INCOMPLETE_ALIASES.get(reason, reason) if isinstance(reason, str) else None
    known = reason in INCOMPLETE_REASONS
    safe = {"reason": reason} if known else None
    owner["incomplete_details"] = safe
    return bool(safe != details)


def _clean_moderation(moderation: object, ledger: Ledger) -> bool:
    changed = False
    for side in ("input", "output"):
        result = moderation.get(side) if isinstance(moderation, dict) else None
        if (
            isinstance(moderation, dict)
            and isinstance(result, dict)
            and result.get("type") == "error"
        ):
            reply = _answer(result, ledger, Origin.MODERATION)
            moderation[side] = {"type": "error", "code": reply.code, "message": reply.message}
            changed = True
    return changed


def fault_of(response: dict[str, Any], ledger: Ledger, raw: bytes) -> UpstreamError:
    """Read the error of a response that failed."""
    return ledger.reader.read(response.get("error") or {}, Origin.STREAM, raw=raw)
