"""The reference for client developers: every code that can reach them, in Markdown."""

from __future__ import annotations

from proxy.core.spec import RESPONSE_ERROR_CODES
from proxy.core.table import ReplySpec, Table

_HEAD = """\
# Error codes

Every error that this service gives has one of these codes, in `error.code`. An HTTP error has
the status beside it; in a stream that has begun, the same code stands in the error event.
`response.error.code` of the Responses API is a closed enum ({spec}): what stands there for a
code outside it is in the third column.

`retry` says whether the same request may succeed later; it is also in the header
`x-should-retry`. `retry-after` says when, where that is known. The header `x-request-id` is
the reference to give the operator.

| code | status | in `response.error.code` | retry | message |
| --- | --- | --- | --- | --- |
"""


def reference(table: Table, spec: str) -> str:
    """Write the reference. spec: which enum `response.error.code` keeps to."""
    rows = [_row(table, reply) for reply in sorted(table.replies.values(), key=lambda r: r.name)]
    return _HEAD.format(spec=spec) + "\n".join(rows)


def _row(table: Table, reply: ReplySpec) -> str:
    inside = reply.name
    if reply.name not in RESPONSE_ERROR_CODES and table.vocabulary == "spec":
        inside = reply.responses_code
    message = reply.messages[-1].text.replace("|", "\\|")
    retry = "yes" if reply.retryable else "no"
    return f"| `{reply.name}` | {reply.status} | `{inside}` | {retry} | {message} |"
