"""The surfaces' names, as rules, settings and logs use them."""

from __future__ import annotations

from typing import Final

RESPONSES: Final = "responses"
CHAT: Final = "chat"
COMPLETIONS: Final = "completions"
MESSAGES: Final = "messages"
OTHER: Final = "other"

SURFACE_NAMES: Final = (RESPONSES, CHAT, COMPLETIONS, MESSAGES, OTHER)
