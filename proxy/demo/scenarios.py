"""The scenarios: what can go wrong with a provider, as data.

A scenario says what goes wrong; the API that is asked decides how it is written. The texts
are what real servers say; every key, organization, host and address in them is made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Literal

from proxy.demo.wire import Json, encode

Api = Literal["responses", "chat"]


class Ending(Enum):
    """How an answer ends."""

    WHOLE = auto()
    CUT = auto()  # the connection breaks in the middle of an event
    SILENT = auto()  # the connection ends as it should, the answer does not
    HANG = auto()  # nothing more comes, and the connection stays


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way to fail.

    name: the model that a request asks for to get it.
    api: where the demo shows it; the provider plays it on both.
    point: what is worth seeing, in one line.
    body: the whole answer where it is no stream.
    words, tool_error, error, ending: what a stream says, in this order.
    leaks: what no client should read.
    """

    name: str
    api: Api
    title: str
    point: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    words: tuple[str, ...] = ()
    tool_error: str = ""
    error: Json | None = None
    ending: Ending = Ending.WHOLE
    leaks: tuple[str, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Tell whether nothing goes wrong."""
        broken = self.body is not None or self.tool_error or self.error is not None
        return not broken and self.ending is Ending.WHOLE


def _says(message: str, code: str | int | None, kind: str | None = None, **more: object) -> Json:
    return {"message": message, "type": kind, "param": None, "code": code, **more}


def _error(message: str, code: str | int | None, kind: str | None = None, **more: object) -> bytes:
    return encode({"error": _says(message, code, kind, **more)})


_JSON: Final = {"content-type": "application/json"}
_RIVERS: Final = ("The three longest rivers", " are the Nile,", " the Amazon")

HEALTHY: Final = Scenario(
    name="healthy",
    api="chat",
    title="A healthy stream",
    point="What is in order passes as it came, event by event.",
    words=(*_RIVERS, " and", " the Yangtze."),
)

SCENARIOS: Final = (
    Scenario(
        name="rate-limit",
        api="responses",
        title="A rate limit",
        point="The wait is worth knowing; whose account it is, is not.",
        status=429,
        headers={**_JSON, "openai-organization": "acme-internal", "retry-after": "11"},
        body=_error(
            "Rate limit reached for gpt-5.1 in organization org-FAKE7Xq2Lm on tokens per min"
            " (TPM): Limit 30000, Used 22999, Requested 12528. Please try again in 11.054s.",
            "rate_limit_exceeded",
            "tokens",
        ),
        leaks=("acme-internal", "org-FAKE7Xq2Lm", "Limit 30000, Used 22999"),
    ),
    Scenario(
        name="context-overflow",
        api="chat",
        title="The input is too long",
        point="What helps is kept: the limit passes, as a number and nothing else.",
        status=400,
        headers=_JSON,
        body=_error(
            "litellm.ContextWindowExceededError: OpenAIException - This model's maximum context"
            " length is 8192 tokens. However, your messages resulted in 9001 tokens.\n"
            "Received Model Group=acme-prod-eu. Available Model Group Fallbacks=None",
            "400",
        ),
        leaks=("litellm.ContextWindowExceededError", "OpenAIException", "acme-prod-eu"),
    ),
    Scenario(
        name="bad-image",
        api="responses",
        title="A broken base64 image",
        point="The cause is three layers deep; the client gets one plain sentence.",
        status=400,
        headers=_JSON,
        body=_error(
            "Provider returned error",
            400,
            metadata={
                "provider_name": "Google",
                "raw": '{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"Invalid value'
                " at 'contents[0].parts[2].inline_data' (TYPE_BYTES), Base64 decoding"
                ' failed for \\"data:image/png;base64\\""}}',
            },
        ),
        leaks=("Google", "contents[0].parts[2].inline_data"),
    ),
    Scenario(
        name="html-502",
        api="chat",
        title="An HTML page instead of JSON",
        point="A client that parses JSON gets JSON, also when everything is down.",
        status=502,
        headers={"content-type": "text/html", "server": "nginx/1.22.1"},
        body=(
            b"<html><head>\n<title>llm-7.acme.example | 502 Bad Gateway</title>\n</head><body>\n"
            b"<center><h1>502 Bad Gateway</h1></center>\n"
            b"<hr><center>nginx/1.22.1</center>\n</body></html>\n"
        ),
        leaks=("llm-7.acme.example", "nginx/1.22.1"),
    ),
    Scenario(
        name="error-in-200",
        api="chat",
        title="A success that is none",
        point="The status says 200, the body says no: the client gets a status to act on.",
        headers=_JSON,
        body=_error(
            "Provider returned error",
            429,
            metadata={
                "provider_name": "gpu-pool-eu-3",
                "raw": "model is temporarily rate-limited upstream, add your own key",
                "user_id": "user_FAKE0001",
            },
        ),
        leaks=("gpu-pool-eu-3", "add your own key", "user_FAKE0001"),
    ),
    Scenario(
        name="early-error",
        api="responses",
        title="A stream that fails before its first word",
        point="Too early to be a stream: it becomes a real HTTP status, which SDKs retry.",
        error=_says(
            "Requests to the Responses_Create Operation under Azure OpenAI API version"
            " 2025-04-01-preview have exceeded token rate limit of your current OpenAI S0"
            " pricing tier. Please retry after 9 seconds.",
            "rate_limit_exceeded",
            "too_many_requests",
        ),
        leaks=("Responses_Create", "2025-04-01-preview", "S0 pricing tier"),
    ),
    Scenario(
        name="cut",
        api="responses",
        title="The connection is cut",
        point="Half an event is never passed on; the client is told what happened.",
        words=_RIVERS,
        ending=Ending.CUT,
    ),
    Scenario(
        name="silent-stop",
        api="chat",
        title="The stream just stops",
        point="Without an end mark, SDKs take half an answer for a whole one.",
        words=_RIVERS,
        ending=Ending.SILENT,
    ),
    Scenario(
        name="hang",
        api="responses",
        title="The provider hangs",
        point="The client is told in time, instead of waiting for minutes.",
        words=_RIVERS,
        ending=Ending.HANG,
    ),
    Scenario(
        name="failed-tool",
        api="responses",
        title="A tool fails, the answer does not",
        point="Only the tool's error is replaced; the stream goes on to its own end.",
        tool_error="connect ECONNREFUSED 10.4.7.33:8931 (tickets-mcp.acme.example)",
        words=("I could not look", " into the tickets,", " so here is what I know."),
        leaks=("10.4.7.33:8931", "tickets-mcp.acme.example"),
    ),
    Scenario(
        name="crash",
        api="responses",
        title="The model crashes in the middle of a stream",
        point="The response fails by the spec: same id, next number, a code clients know.",
        words=_RIVERS,
        error=_says(
            "CUDA error: an illegal memory access was encountered on gpu-node-17.acme.example"
            " (worker pid 4242). Compile with `TORCH_USE_CUDA_DSA`.",
            "engine_dead",
            "InternalServerError",
        ),
        leaks=("CUDA error", "gpu-node-17.acme.example", "pid 4242", "TORCH_USE_CUDA_DSA"),
    ),
    Scenario(
        name="refused-key",
        api="chat",
        title="The operator's key is refused",
        point="It is not the client's key: there is nothing for the client to check.",
        status=401,
        headers={**_JSON, "www-authenticate": 'Bearer realm="acme-gateway"'},
        body=_error(
            "Incorrect API key provided: sk-proj-FAKE**********FxYA. You can find your API key"
            " at https://platform.openai.com/api-keys.",
            "invalid_api_key",
            "invalid_request_error",
        ),
        leaks=("acme-gateway", "sk-proj-FAKE**********FxYA", "platform.openai.com"),
    ),
    Scenario(
        name="traceback",
        api="chat",
        title="A traceback in the middle of a stream",
        point="What was said stays; then comes one ending that every SDK understands.",
        words=_RIVERS,
        error=_says(
            "Traceback (most recent call last):\n"
            '  File "/srv/acme/llm.py", line 312\n'
            "    async for chunk in response:\n"
            "httpx.RemoteProtocolError: peer 10.4.7.21:8000 closed connection",
            "500",
            "None",
        ),
        leaks=("Traceback", "/srv/acme/llm.py", "httpx.RemoteProtocolError", "10.4.7.21:8000"),
    ),
    HEALTHY,
)

BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
