"""Coverage-guided fuzzing, by atheris, of every target or of those named.

    python -m tests.fuzz [TARGET...]

FUZZ_SECONDS: for each target; 60 unless told.
FUZZ_CORPUS: a directory in which what was found stays for the next time.

A crash tells its input, to be read with `bytes.fromhex`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# An input that takes longer hangs: most take less than a millisecond.
_HANG: Final = 15
_LONGEST: Final = 2048
_MEMORY: Final = 2048  # MiB

_ONE: Final = "--one"


def main(arguments: list[str]) -> int:
    if find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed: pip install atheris\n")
        return 2
    if arguments[:1] == [_ONE]:
        _fuzz(arguments[1], Path(arguments[2]), arguments[3])
    kept = os.environ.get("FUZZ_CORPUS")
    seconds = os.environ.get("FUZZ_SECONDS", "60")
    with tempfile.TemporaryDirectory() as temporary:
        return _fuzz_all(arguments, Path(kept or temporary), seconds)


def _fuzz_all(names: list[str], directory: Path, seconds: str) -> int:
    from tests.fuzz.targets import TARGETS

    broken = 0
    say = sys.stdout.write
    say(f"{'target':20} {'executions':>12} {'a second':>9} {'corpus':>7} {'edges':>6}  result\n")
    for name in names or TARGETS:
        corpus = directory / name
        corpus.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.fuzz", _ONE, name, str(corpus), seconds]
        run = subprocess.run(command, stderr=subprocess.PIPE, check=False)
        said = run.stderr.decode("utf-8", "replace")
        done = _figure(said, r"stat::number_of_executed_units:\s*(\d+)")
        edges = _figure(said, r"(?s:.*) cov: (\d+)")
        result = "ok" if run.returncode == 0 else "BROKEN"
        rate = done // max(1, int(seconds))
        size = len(list(corpus.iterdir()))
        say(f"{name:20} {done:12,} {rate:9,} {size:7,} {edges:6,}  {result}\n")
        sys.stdout.flush()
        if run.returncode:
            broken += 1
            sys.stderr.write("\n".join(said.splitlines()[-60:]) + "\n")
    return 1 if broken else 0


def _figure(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _fuzz(name: str, corpus: Path, seconds: str) -> None:
    """Fuzz one target in this process; never returns."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["proxy"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.seeds import SEEDS, WORDS

    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = corpus.with_suffix(".words")
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in WORDS))
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_HANG}",
        f"-rss_limit_mb={_MEMORY}",
        f"-max_len={_LONGEST}",
        f"-dict={words}",
        f"-artifact_prefix={corpus}.",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], _telling(TARGETS[name]))
    atheris.Fuzz()


def _telling(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def told(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            sys.stderr.write(f"input: {data.hex()}\n")
            raise

    return told


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


sys.exit(main(sys.argv[1:]))
