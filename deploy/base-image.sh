#!/usr/bin/env bash
# Make a base image without a registry: Debian with its Python, from the mirror apt uses.
#
#     deploy/base-image.sh localhost/debian-python:bookworm
#
# For machines that reach a Debian mirror but no registry. Needs debootstrap, podman and root.
set -euo pipefail
name=${1:?the image to make, such as localhost/debian-python:bookworm}
suite=${SUITE:-bookworm}
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n 1p)}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$suite" "$root" "$mirror" >&2
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar --directory "$root" --create . \
    | podman import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        - "$name"
