"""Surfaces: one module per API, and which path belongs to which.

A provider's prefix (`/v1`, `/openai/deployments/NAME`) does not matter: a path is known by
its last segments.
"""

from __future__ import annotations

from typing import Final

from proxy.core.surfaces.chat import chat, completions
from proxy.core.surfaces.messages import messages
from proxy.core.surfaces.other import other
from proxy.core.surfaces.responses import responses
from proxy.core.surfaces.surface import Surface, Target

SURFACES: Final[dict[str, Surface]] = {
    one.name: one for one in (responses, chat, completions, messages, other)
}


def surface_of(target: Target) -> Surface:
    """Return the surface that a request is for."""
    parts = target.path.split("/")
    if "responses" in parts:
        return responses
    if "completions" in parts:
        return chat if "chat" in parts else completions
    if "messages" in parts and "threads" not in parts:
        return messages
    return other
