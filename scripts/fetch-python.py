#!/usr/bin/env python3
"""Puts Python packages that tests and benches need into virtual environments: fetch-python.py NAME...

NAME is a folder of tests/ with a requirements.txt: `mlflow` (MLflow's client, and its server for the benches), `feast`
(Feast's client), `lake` (readers of open tables). Each goes into .tools/NAME/.

Running it twice does nothing. An environment counts as there only if its copy of the requirements, which is written
last, says what tests/NAME/requirements.txt says; anything else is removed and made again.
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


class Environment:
    def __init__(self, name):
        self.name = name
        self.wanted = ROOT / "tests" / name / "requirements.txt"
        self.target = ROOT / ".tools" / name
        self.stamp = self.target / "requirements.txt"

    def whole(self):
        there = self.stamp.is_file() and self.stamp.read_bytes() == self.wanted.read_bytes()
        return there and (self.target / "bin/python").exists()

    def install(self):
        started = time.monotonic()
        lines = self.wanted.read_text().splitlines()
        packages = [line for line in lines if line and not line.startswith("#")]
        print(f"{self.name}: {len(packages)} Python packages for the tests (the first time takes a minute) ...", flush=True)
        shutil.rmtree(self.target, ignore_errors=True)
        # Without a pip of its own: some systems ship Python without what would put it there.
        venv.create(self.target, symlinks=True)
        # The list is complete, so nothing is left to be resolved; what is never imported need not be compiled.
        python = self.target / "bin/python"
        pip = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check", "--no-input"]
        options = ["--no-deps", "--no-compile", "--only-binary=:all:"]
        subprocess.run([*pip, "install", *options, "--requirement", self.wanted], check=True)
        subprocess.run([*pip, "check"], check=True)
        aside = self.stamp.with_suffix(".new")
        aside.write_bytes(self.wanted.read_bytes())
        os.replace(aside, self.stamp)
        print(f"{self.name}: {self.target} in {time.monotonic() - started:.0f} s", flush=True)

    def ensure(self):
        self.target.parent.mkdir(exist_ok=True)
        # Two `make test` side by side must not install over each other.
        with open(self.target.parent / f"{self.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.whole():
                return
            try:
                self.install()
            except subprocess.CalledProcessError as error:
                command = " ".join(map(str, error.cmd))
                sys.exit(f"could not make {self.target}: {command} ended with {error.returncode}")


def main(names):
    if sys.version_info[:2] < (3, 11):
        sys.exit(f"python3 is {sys.version.split()[0]}; the packages of the tests need 3.11")
    for name in names:
        Environment(name).ensure()


if __name__ == "__main__":
    main(sys.argv[1:])
