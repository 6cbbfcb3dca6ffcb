#!/usr/bin/env bash
# Prove as much of the deployment as this machine lets: all of it where a container engine runs,
# else what needs none. A sandbox that cannot install or run an engine fails nothing, and nothing
# is waited for without end. Only a proof that fails, fails.
#
#     deploy/ci.sh podman runc …     the packages to install: `make deploy-ci` names them
set -uo pipefail
cd "$(dirname "$0")/.."

say() { echo "deploy-ci: $*"; }

# Longer than it takes on a slow machine. TERM goes to all of the group, KILL to who stays.
within() { timeout --kill-after 30 "$@"; }

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    deploy/packages.sh "$@" || say "not every package is installed"
else
    say "no packages are installed: that takes Debian and root"
fi
within 600 make deploy-tools || say "not every tool is installed"
# Where this does not work, a registry may.
if command -v podman >/dev/null; then
    within 300 make deploy-base || say "no base image was made"
fi

if within 420 .venv/bin/python -m tests.deploy.smoke; then
    # Containers start, drain and are rolled out by the clock. What failed is asked once more, alone:
    # a machine that was starved of time passes then, a fault does not.
    within 1800 make deploy-test || within 900 make deploy-test AGAIN=--last-failed
else
    say "NOT proven: the image, and all that runs in containers. Now what needs no engine."
    within 900 make deploy-check
fi
