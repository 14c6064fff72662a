#!/usr/bin/env python3
"""Puts Python packages into a virtual environment below .tools/.

    fetch-python.py NAME REQUIREMENTS

makes .tools/NAME from a file of requirements (a path in the repository), in which every package stands with its version.
Running it twice does nothing. The environment counts as there only if its copy of the requirements, which is written
last, says what the file says; anything else is removed and made again.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME, WANTED = sys.argv[1], ROOT / sys.argv[2]
TARGET = ROOT / ".tools" / NAME
STAMP = TARGET / "requirements.txt"


def whole():
    return STAMP.is_file() and STAMP.read_bytes() == WANTED.read_bytes() and (TARGET / "bin/python").exists()


def install():
    started = time.monotonic()
    packages = [line for line in WANTED.read_text().splitlines() if "==" in line and not line.startswith("#")]
    print(f"{NAME}: {len(packages)} Python packages (the first time takes a minute) ...", flush=True)
    shutil.rmtree(TARGET, ignore_errors=True)
    # Without a pip of its own: some systems ship Python without what would put it there.
    venv.create(TARGET, symlinks=True)
    # The list is complete, so nothing is left to be resolved; what is never imported need not be compiled.
    python = TARGET / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--no-compile", "--only-binary=:all:"]
    subprocess.run([*pip, "install", *options, "--requirement", WANTED], check=True)
    subprocess.run([*pip, "check"], check=True)
    aside = STAMP.with_suffix(".new")
    aside.write_bytes(WANTED.read_bytes())
    os.replace(aside, STAMP)
    print(f"{NAME}: {TARGET} in {time.monotonic() - started:.0f} s", flush=True)


def main():
    if sys.version_info[:2] < (3, 11):
        sys.exit(f"python3 is {sys.version.split()[0]}; the packages in {WANTED} need 3.11")
    TARGET.parent.mkdir(exist_ok=True)
    # Two `make test` side by side must not install over each other.
    with open(TARGET.parent / f"{NAME}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if whole():
            return
        try:
            install()
        except subprocess.CalledProcessError as error:
            sys.exit(f"could not make {TARGET}: {' '.join(map(str, error.cmd))} ended with {error.returncode}")


if __name__ == "__main__":
    main()
