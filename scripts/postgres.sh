#!/usr/bin/env bash
# Installs Postgres for the tests when it is missing. They start servers of their own in temporary directories; the
# machine's own cluster is neither needed nor touched.
set -euo pipefail

if compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null; then
    exit 0
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if ! command -v apt-get > /dev/null; then
    echo "install Postgres 15 or newer so that /usr/lib/postgresql/*/bin/initdb exists: the tests need it" >&2
    exit 1
fi
echo "installing Postgres for the tests" >&2
as_root apt-get update -qq
# Without a cluster that runs: the tests make their own.
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql > /dev/null
