#!/bin/sh
# Puts an S3 server for the tests, s3s-fs, into .tools/s3s/, built from crates.io. Running it twice does nothing.
set -eu

version=0.14.1
root="$(cd "$(dirname "$0")/.." && pwd)"
target="$root/.tools/s3s"

if [ -x "$target/bin/s3s-fs" ] && [ "$("$target/bin/s3s-fs" --version)" = "s3s-fs $version" ]; then
    exit 0
fi

mkdir -p "$root/.tools"
scratch="$(mktemp -d "$root/.tools/s3s.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT INT TERM

echo "s3s-fs $version: building an S3 server for the tests (the first time takes a minute) ..."
# Only what hashes is worth optimising: that halves the build.
cargo install s3s-fs --version "$version" --locked --features binary --quiet --no-track \
    --root "$scratch/out" --target-dir "$scratch/target" \
    --config profile.release.opt-level=0 --config profile.release.build-override.opt-level=0 \
    --config profile.release.package.sha2.opt-level=3 --config profile.release.package.md-5.opt-level=3

# The program appears whole or not at all: a rename within one file system.
mkdir -p "$target/bin"
mv -f "$scratch/out/bin/s3s-fs" "$target/bin/s3s-fs"
echo "s3s-fs $version: $target/bin/s3s-fs"
