# SPDX-License-Identifier: Apache-2.0
"""Instructions a message, by callgrind: independent of the load of the machine, so that small changes show.

Two runs that differ in nothing but the number of messages: the difference of their instructions belongs to the messages
alone, not to the start.
"""

import os
import re
import shutil
import subprocess

import peers
from tools import free_port, send

FEW, MANY = 50, 250


class Valgrinded(peers.Smtprelay):
    """The same program under callgrind."""

    name = "smtprelay, callgrind"

    def command(self):
        out = os.path.join(self.dir, "callgrind.out")
        return [shutil.which("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}"] + super().command()

    def total(self):
        with open(os.path.join(self.dir, "callgrind.out"), encoding="utf-8", errors="replace") as file:
            return int(re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M)[1])


def _run(context, port, count, size):
    provider = context.provider
    delivered = port == provider.port
    with Valgrinded(context, port, provider.ca) as relay:
        provider.reset()
        # One at a time: what several devices share is not the same in each run.
        result = send(context, relay.port, count=count, size=size, kept=True)
        if delivered:
            provider.wait(count, 60)
        relay.relay.stop(60)
        if result["accepted"] != count:
            context.note(f"callgrind: {result['accepted']} of {count} were accepted: {result['errors']}")
        return relay.total()


def measure(context, peer):
    if not shutil.which("valgrind"):
        context.note("valgrind is not installed: no instructions")
        return {}
    few, many = context.count(FEW), context.count(MANY)
    figures = {}
    for name, port, size in [
        ("accept, 1 KiB", None, 1024),
        ("accept, 10 KiB", None, 10240),
        ("accept and deliver, 1 KiB", context.provider.port, 1024),
    ]:
        first = _run(context, port or free_port(), few, size)
        second = _run(context, port or free_port(), many, size)
        figures[name] = (second - first) / (many - few)
        figures.setdefault("start and stop", first - few * figures[name])
    return figures


def version():
    if not shutil.which("valgrind"):
        return "valgrind is not installed"
    return subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=False).stdout.strip()
