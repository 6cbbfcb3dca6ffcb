"""What a client reads for every scenario of the faulty provider: before, and after.

python client.py PROVIDER DISCREET
"""  # noqa: INP001 - a script, in no package

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.error
import urllib.request

# Long enough for a silent provider to be noticed by discreet, not by this client.
SECONDS = 8.0
SHOWN = 1_500


def read(url: str, model: str) -> str:
    """Ask for a stream; return all that came, and how it ended."""
    body = json.dumps({"model": model, "input": "Hello", "stream": True}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-not-a-key"}
    request = urllib.request.Request(f"{url}/v1/responses", body, headers)  # noqa: S310 - as told
    came, ending = b"", "the stream ended"
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            came = f"HTTP {answer.status}\n".encode()
            while piece := answer.read1(65536):
                came += piece
    except urllib.error.HTTPError as error:
        came, ending = f"HTTP {error.code}\n".encode() + error.read(), "an HTTP error"
    except http.client.IncompleteRead as error:
        came, ending = came + error.partial, "the connection was cut"
    except TimeoutError:
        ending = "silence"
    except OSError as error:
        ending = f"the connection was cut: {error}"
    shown = came.decode(errors="replace").strip()
    return f"{shown[-SHOWN:]}\n[{ending}]"


def models(url: str) -> list[str]:
    """Return the scenarios' names, as soon as the server answers."""
    for _ in range(50):
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=SECONDS) as answer:  # noqa: S310
                return [model["id"] for model in json.load(answer)["data"]]
        except OSError:
            time.sleep(0.2)
    sys.exit(f"{url} does not answer")


def main() -> None:
    """Show every scenario from both sides."""
    provider, discreet = sys.argv[1:]
    names = models(provider)
    models(discreet)
    for model in names:
        sys.stdout.write(f"\n━━━ {model}\n\n── before\n{read(provider, model)}\n")
        sys.stdout.write(f"\n── after\n{read(discreet, model)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
