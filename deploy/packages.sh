#!/usr/bin/env bash
# Install Debian packages without starting their services: nothing here needs a running one.
#
#     deploy/packages.sh podman nginx-light
#
# One that cannot be had keeps no other away. It fails where one is missing at the end.
set -euo pipefail
limit=${SECONDS_TO_INSTALL:-420}
policy=/usr/sbin/policy-rc.d
# Who has a policy keeps it.
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
# The limit is for all of it, and inside of what removes the policy.
timeout --kill-after 30 "$limit" bash -c '
    get() { apt-get -qq --option DPkg::Lock::Timeout=60 "$@"; }
    get update || true
    get --yes --no-upgrade --no-install-recommends install "$@" && exit
    for package; do get --yes --no-upgrade --no-install-recommends install "$package" || true; done
' packages "$@" || true
missing=()
for package; do
    dpkg-query --show --showformat '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^.i' ||
        missing+=("$package")
done
[ ${#missing[@]} = 0 ] || { echo "not installed: ${missing[*]}" >&2; exit 1; }
