#!/opt/discreet/bin/python -IS
"""Ask /readyz on the admin port; the exit code is the answer.

A wildcard address is asked on its loopback. Only a socket: it runs every few seconds.
"""

import os
import socket
import sys

HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to ask instead of it


def ready(address: str, seconds: float = 2.0) -> bool:
    """Return whether the proxy says that it serves."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((HERE.get(host, host), int(port)), seconds) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            return connection.recv(12) == b"HTTP/1.1 200"
    except OSError as error:
        sys.stderr.write(f"{address}: {error}\n")
        return False


if __name__ == "__main__":
    sys.exit(0 if ready(os.environ["DISCREET_ADMIN"]) else 1)
