#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether a message takes as few instructions as tests/budget.txt says, with 2 % to spare.

usage: tests/instructions.py PROGRAM BENCH

PROGRAM is the static program for x86_64, BENCH the load generator (cargo build --example bench). Counted by callgrind, so
neither the machine nor what else it does matters. What depends on it a little, such as how many pieces the socket hands
over, is levelled out by the number of messages.
"""

import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True

import instructions
import peers
import processes
from tools import Context, Provider

# What the budget calls the figures.
NAMES = {
    "accept, 1 KiB": "instructions-accept-1k",
    "accept, 10 KiB": "instructions-accept-10k",
    "accept and deliver, 1 KiB": "instructions-deliver-1k",
}


def budget():
    with open(os.path.join(ROOT, "budget.txt"), encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    return {what: int(count) for arch, what, count in rows if arch == "x86_64"}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    processes.become_subreaper()
    allowed, failures = budget(), 0
    with tempfile.TemporaryDirectory() as scratch:
        open(os.path.join(scratch, "resolv.conf"), "w", encoding="utf-8").close()
        # Relays are started in folders of their own.
        context = Context(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), scratch, scratch)
        context.notes = []
        context.note = lambda text: sys.exit(f"instructions: {text}")
        context.provider = Provider(context)
        try:
            figures = instructions.measure(context, peers.Smtprelay)
        finally:
            context.provider.end()
    for name, what in NAMES.items():
        count, most = round(figures[name]), allowed.get(what)
        print(f"{name}: {count} instructions; the budget is {most}")
        if most is None or count > most * 1.02:
            failures += 1
            print(f"FAILED: tests/budget.txt allows {most} for x86_64 {what}", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
