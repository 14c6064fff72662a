#!/usr/bin/env bash
# Installs Redis for the tests when it is missing. They start servers of their own in temporary directories; a service of
# the machine's own is neither needed nor touched, nor made.
set -euo pipefail

home="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.tools/redis"
if command -v redis-server > /dev/null || [ -x "$home/redis-server" ]; then
    exit 0
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if ! command -v apt-get > /dev/null; then
    echo "install Redis 7 or newer so that redis-server is on the path: the tests need it" >&2
    exit 1
fi
# Debian's package redis-server is a link to this program and a service that starts with the machine: only the first is wanted.
if ! command -v redis-check-rdb > /dev/null; then
    echo "installing Redis for the tests" >&2
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-tools > /dev/null
fi
mkdir -p "$home"
ln -sfn "$(command -v redis-check-rdb)" "$home/redis-server"
"$home/redis-server" --version > /dev/null
