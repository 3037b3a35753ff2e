#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the list of functions that run, for the order in which the linker puts them (scripts/linker-cc.sh).

	scripts/hot.py target/cross/x86_64/smtprelay.symbols BENCH >scripts/hot.txt

The program runs under callgrind and does what it does on a router, in steps: it starts and is idle, devices send mail, the
mail is delivered, the queue grows. Each step is a group of the list: the functions that ran in it and in none before. BENCH is
the load generator (cargo build --release --example bench). Functions that the list does not name stand behind the others,
so that it need not be current; but each of them that runs keeps the 64 KB around it in memory. To be repeated before a
release.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
sys.dont_write_bytecode = True

import memory
import peers
import processes
import symbols
from tools import Context, Provider, free_port, send

FUNCTION = re.compile(r"^fn=(?:\(\d+\) )?(.+?)(?:'\d+)?$", re.M)


class Profiled(peers.Smtprelay):
    """The gateway under callgrind."""

    name = "smtprelay, callgrind"

    def command(self):
        out = os.path.join(self.dir, "callgrind.out")
        options = ["--tool=callgrind", "--demangle=no", "--compress-strings=no", f"--callgrind-out-file={out}"]
        return [shutil.which("valgrind"), *options] + super().command()

    def ran(self):
        """The symbols of the functions that have run since the last call."""
        # Each dump has a file with a number of its own.
        control = ["callgrind_control", "--dump", str(self.relay.process.pid)]
        subprocess.run(control, check=True, stdout=subprocess.DEVNULL)
        self.dumps = getattr(self, "dumps", 0) + 1
        with open(os.path.join(self.dir, f"callgrind.out.{self.dumps}"), encoding="utf-8", errors="replace") as file:
            return set(FUNCTION.findall(file.read()))


def steps(context):
    """What runs in each step: its name, symbols."""
    with Profiled(context, context.provider.port, context.provider.ca) as relay:
        # Two of what happens every ten seconds.
        time.sleep(25)
        yield "start, and idle", relay.ran()
        held = memory.hold(relay.port, 10)
        yield "devices in the middle of a message", relay.ran()
        for connection, replies in held:
            replies.close()
            connection.close()
        result = send(context, relay.port, count=20, sessions=5, size=10240)
        context.provider.wait(result["accepted"], 60)
        time.sleep(15)
        yield "mail is delivered", relay.ran()
    with Profiled(context, free_port(), context.provider.ca) as relay:
        send(context, relay.port, count=100, sessions=5, kept=True)
        time.sleep(15)
        yield "the queue grows", relay.ran()
        relay.order("queue")
        relay.order("status")
        yield "questions", relay.ran()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    processes.become_subreaper()
    with tempfile.TemporaryDirectory() as scratch:
        open(os.path.join(scratch, "resolv.conf"), "w", encoding="utf-8").close()
        context = Context(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), scratch, scratch)
        context.note = lambda text: sys.exit(f"hot.py: {text}")
        context.provider = Provider(context)
        # Functions with the same code are there once; callgrind names one of them, the list all.
        same = {}
        for address, symbol, name in symbols.functions(context.program):
            same.setdefault(address, []).append((symbol, name))
        names = {symbol: [name for _, name in group] for group in same.values() for symbol, _ in group}
        done = set()
        print("# Written by scripts/hot.py; each group begins with a comment.")
        try:
            for step, ran in steps(context):
                found = {name for symbol in ran for name in names.get(symbol, [])} - done
                done |= found
                print("#", step)
                print("\n".join(sorted(found)))
        finally:
            context.provider.end()


if __name__ == "__main__":
    main()
