#!/bin/sh
# Puts ONNX Runtime's shared library into .tools/onnxruntime/, from the wheel on PyPI. Running it twice does nothing.
set -eu

version="${ONNXRUNTIME_VERSION:-1.32.0}"
root="$(cd "$(dirname "$0")/.." && pwd)"
target="$root/.tools/onnxruntime"
library="libonnxruntime.so.$version"

if [ -s "$target/$library" ]; then
    exit 0
fi

mkdir -p "$root/.tools"
scratch="$(mktemp -d "$root/.tools/onnxruntime.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT INT TERM

python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --dest "$scratch/wheel" "onnxruntime==$version"
python3 - "$scratch" "$library" <<'PYTHON'
import glob, os, sys, zipfile
scratch, library = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(scratch, "wheel", "*.whl"))
os.mkdir(os.path.join(scratch, "out"))
with zipfile.ZipFile(wheel) as archive:
    names = [n for n in archive.namelist() if n.startswith("onnxruntime/capi/libonnxruntime.so")]
    # The wheel holds one library, whatever suffix it gave it; ours names the version in full.
    (name,) = [n for n in names if not os.path.basename(n).startswith("libonnxruntime_")]
    with open(os.path.join(scratch, "out", library), "wb") as out:
        out.write(archive.read(name))
        out.flush()
        os.fsync(out.fileno())
PYTHON

# The library appears whole or not at all: a rename within one file system.
mkdir -p "$target"
mv -f "$scratch/out/$library" "$target/$library"
echo "onnxruntime $version: $target/$library"
