"""A path is known by its last segments, whatever stands before them."""

from __future__ import annotations

import pytest

from proxy.core.surfaces import SURFACES, surface_of
from proxy.core.surfaces.names import SURFACE_NAMES
from proxy.core.surfaces.surface import Target

PATHS = {
    "/v1/responses": "responses",
    "/v1/responses/resp_1": "responses",
    "/v1/responses/resp_1/cancel": "responses",
    "/v1/responses/resp_1/input_items": "responses",
    "/openai/deployments/fake/responses": "responses",
    "/v1/chat/completions": "chat",
    "/openai/deployments/fake/chat/completions": "chat",
    "/chat/completions/": "chat",
    "/v1/completions": "completions",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages",
    "/v1/threads/thread_1/messages": "other",
    "/v1/threads/thread_1/runs": "other",
    "/v1/embeddings": "other",
    "/v1/images/generations": "other",
    "/v1/audio/speech": "other",
    "/v1/models": "other",
    "/v1/my-responses": "other",
    "/": "other",
    "": "other",
}


@pytest.mark.parametrize(("path", "surface"), PATHS.items())
def test_a_path_belongs_to_a_surface(path: str, surface: str) -> None:
    assert surface_of(Target("POST", path)).name == surface


def test_every_surface_has_its_name() -> None:
    assert {name: one.name for name, one in SURFACES.items()} == {n: n for n in SURFACE_NAMES}
