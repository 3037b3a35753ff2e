#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the list of functions that run, for the order in which the linker puts them (scripts/linker-cc.sh).

	scripts/hot.py target/cross/x86_64/smtprelay.symbols BENCH >scripts/hot.txt

The program runs under callgrind and does what it does on a router, in steps: it starts and is idle, devices send mail, the
mail is delivered, the queue grows. Each step is a group of the list: the functions that ran in it and in none before. BENCH is
the load generator (cargo build --release --example bench). Functions that the list does not name stand behind the others,
so that it need not be current; but each of them that runs keeps the 64 KB around it in memory. To be repeated before a
release. The program has to be built as scripts/cross.sh does by itself: with CARGO_INCREMENTAL=1 other functions are inlined.
"""

import bisect
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

# An instruction that ran, in the output of callgrind.
INSTRUCTION = re.compile(r"^0x([0-9a-f]+) ", re.M)
# The processor that valgrind emulates does not have all instructions: what ring has for others belongs to its key exchange.
EXCHANGE = "__x25519_scalar_mult"
OTHER_PROCESSORS = re.compile(r"_adx(_|$)|_vaes_|_vpclmulqdq_|vclmulavx2|^fe4_|^inline_x25519_")
# What the C library calls at the start where the kernel gives it functions, which valgrind hides.
AT_THE_START = {"strcmp"}


class Profiled(peers.Smtprelay):
    """The gateway under callgrind."""

    name = "smtprelay, callgrind"

    def command(self):
        out = os.path.join(self.dir, "callgrind.out")
        options = ["--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", f"--callgrind-out-file={out}"]
        return [shutil.which("valgrind"), *options] + super().command()

    def ran(self):
        """The addresses of what has run since the last call, from the start of the program."""
        pid = self.relay.process.pid
        # Each dump has a file with a number of its own.
        subprocess.run(["callgrind_control", "--dump", str(pid)], check=True, stdout=subprocess.DEVNULL)
        self.dumps = getattr(self, "dumps", 0) + 1
        with open(os.path.join(self.dir, f"callgrind.out.{self.dumps}"), encoding="utf-8", errors="replace") as file:
            return {int(address, 16) for address in INSTRUCTION.findall(file.read())}


def steps(context):
    """What runs in each step: its name, symbols."""
    with Profiled(context, context.provider.port, context.provider.ca) as relay:
        start = relay.ran()
        # Two of what happens every ten seconds. It stands before what runs at the start only: after a burst, the gateway keeps
        # of its code what it needs while nothing happens (src/system/code.rs).
        time.sleep(25)
        yield "idle", relay.ran()
        yield "start", start
        held = memory.hold(relay.port)
        yield "devices in the middle of a message", relay.ran()
        for connection, replies in held:
            replies.close()
            connection.close()
        # As many devices as the benchmark has, and more messages than the history keeps: connections that are closed as no
        # longer needed belong to it, and what is dropped.
        result = send(context, relay.port, count=300, sessions=memory.SESSIONS, size=10240)
        context.provider.wait(result["accepted"], 60)
        # One of what happens every ten seconds, when there is something to give back.
        time.sleep(25)
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
        known = symbols.functions(context.program)
        # Functions with the same code are there once; the list has all their names.
        names = {}
        for address, _, name in known:
            names.setdefault(address, []).append(name)
        places = sorted(names)
        done = set()
        others = {name for _, _, name in known if OTHER_PROCESSORS.search(name)}
        print("# Written by scripts/hot.py; each group begins with a comment.")
        try:
            for step, ran in steps(context):
                functions = {places[bisect.bisect_right(places, address) - 1] for address in ran if address >= places[0]}
                found = {name for function in functions for name in names[function]}
                found |= AT_THE_START
                if any(EXCHANGE in name for name in found):
                    found |= others
                found -= done
                done |= found
                print("#", step)
                print("\n".join(sorted(found)))
        finally:
            context.provider.end()


if __name__ == "__main__":
    main()
