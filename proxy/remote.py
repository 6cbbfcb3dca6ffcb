"""Ask a running proxy's admin port."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any, Final

from proxy.core.jsontext import parse_json

_PATIENCE: Final = 5.0


class NotReachedError(Exception):
    """The admin port did not answer; the message says why, for a person."""


def ask(path: str, admin: str | None, token: str | None) -> Any:
    """Return the JSON that the admin port answers with; None for a 404.

    admin: HOST:PORT; None takes DISCREET_ADMIN. token: None takes DISCREET_ADMIN_TOKEN.

    Raises NotReachedError.
    """
    address = admin or os.environ.get("DISCREET_ADMIN")
    if not address:
        msg = "Which proxy? Give --admin HOST:PORT, or set DISCREET_ADMIN."
        raise NotReachedError(msg)
    url = f"http://{address.removeprefix('http://').rstrip('/')}{path}"
    request = urllib.request.Request(url)
    token = token or os.environ.get("DISCREET_ADMIN_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_PATIENCE) as answer:
            return parse_json(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        hint = "Give --admin-token." if error.code == 401 else "Is this an admin port?"
        msg = f"{url} answers {error.code}. {hint}"
        raise NotReachedError(msg) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        msg = f"{url} cannot be asked: {reason}. Does the proxy run with --admin?"
        raise NotReachedError(msg) from None
