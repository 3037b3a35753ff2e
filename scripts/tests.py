#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests as cargo test does, but several of its programs at the same time: most of them wait for something.

    scripts/tests.py [ARGUMENTS OF cargo test --no-run]

What a program prints comes in one piece when it has ended. The longest of the last run begin first, so that none of them is
left for the end. TESTS_AT_ONCE is the number of programs, usually one more than there are processors.
"""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(arguments):
    """The programs with tests, and the folder in which each is run, as cargo does it. Errors of the compiler are shown."""
    command = ["cargo", "test", "--no-run", "--message-format=json-render-diagnostics", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as cargo:
        messages = [json.loads(line) for line in cargo.stdout]
    if cargo.returncode:
        sys.exit(cargo.returncode)
    return [
        (message["executable"], Path(message["manifest_path"]).parent)
        for message in messages
        if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]
    ]


class Times:
    """Seconds that each program took the last time, by its name without the hash."""

    def __init__(self, file):
        self.file = file
        self.lock = threading.Lock()
        try:
            self.seconds = json.loads(file.read_text())
        except (OSError, ValueError):
            self.seconds = {}

    @staticmethod
    def name(program):
        return Path(program).name.rpartition("-")[0]

    def of(self, program):
        """One that has never been run may be long."""
        return self.seconds.get(self.name(program), float("inf"))

    def keep(self, program, seconds):
        with self.lock:
            self.seconds[self.name(program)] = round(seconds, 1)
            self.file.write_text(json.dumps(self.seconds, indent=0, sort_keys=True))


def main():
    programs = build(sys.argv[1:])
    if not programs:
        sys.exit("tests.py: cargo has built no tests")
    # What was built is written first: on ext4 without a journal, each message that is accepted would wait for it.
    os.sync()
    times = Times(Path(programs[0][0]).parent / "test-seconds.json")
    programs.sort(key=lambda program: -times.of(program[0]))
    at_once = int(os.environ.get("TESTS_AT_ONCE") or (os.cpu_count() or 1) + 1)
    failed = []
    shown = threading.Lock()

    def run(program):
        executable, folder = program
        begin = time.monotonic()
        # Cargo sets this one too, and tests may look for files with it.
        environment = dict(os.environ, CARGO_MANIFEST_DIR=str(folder))
        done = subprocess.run(
            [executable],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        seconds = time.monotonic() - begin
        times.keep(executable, seconds)
        with shown:
            print(f"     Running {Path(executable).name}: {seconds:.1f} s", flush=True)
            sys.stdout.buffer.write(done.stdout)
            sys.stdout.flush()
            if done.returncode:
                failed.append(Path(executable).name)

    with ThreadPoolExecutor(at_once) as pool:
        # The results are asked for, so that a fault of this script is not lost.
        list(pool.map(run, programs))
    if failed:
        sys.exit(f"tests.py: failed: {', '.join(sorted(failed))}")
    print(f"tests.py: {len(programs)} programs passed")


main()
