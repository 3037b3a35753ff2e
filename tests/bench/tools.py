# SPDX-License-Identifier: Apache-2.0
"""The quick parts of the benchmark, `tests/support/bench_main.rs`, as seen from here."""

import json
import os
import socket
import subprocess
import tempfile
import time

import processes

USER, PASSWORD = "u", "p"


class Context:
    """What a run has: programs, a scratch folder, the chosen sizes."""

    def __init__(self, program, bench, servers, scratch, quick=False):
        self.program, self.bench, self.servers, self.scratch, self.quick = program, bench, servers, scratch, quick

    def resolver(self, dead):
        """The name server from now on: one that never answers, or one that refuses at once."""
        # "lookup" is a word of OpenBSD's resolver: without it OpenSMTPD asks the name server even for 127.0.0.1.
        with open(os.path.join(self.scratch, "resolv.conf"), "w", encoding="ascii") as file:
            file.write(f"nameserver {'192.0.2.53' if dead else '127.0.0.1'}\nlookup file bind\n")

    def folder(self, name):
        """A new folder that the users of a peer can enter."""
        path = tempfile.mkdtemp(prefix=f"{name}-", dir=self.scratch)
        os.chmod(path, 0o755)
        return path

    def seconds(self, usual):
        """How long a load takes; a fifth of it in a quick run, which only shows that everything works."""
        return usual / 5 if self.quick else usual

    def count(self, usual):
        return max(usual // 10, 1) if self.quick else usual


def free_port():
    """The network is this run's own, so that nobody else takes the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(path, process):
    while not os.path.exists(path):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[:2]} ended with status {process.returncode}")
        time.sleep(0.005)
    with open(path, encoding="ascii") as file:
        return int(file.read())


def _end(process):
    process.stdin.close()
    process.terminate()
    process.wait()
    processes.tools.discard(process.pid)


class Provider:
    """The mail provider that counts: port 465 with a login."""

    def __init__(self, context, tls="implicit"):
        folder = context.folder("provider")
        self.ca, port = os.path.join(folder, "ca.pem"), os.path.join(folder, "port")
        command = [context.bench, "provider", "--port-file", port, "--ca-out", self.ca, "--tls", tls]
        command += ["--user", USER, "--password", PASSWORD]
        self.process = processes.tool(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = _wait_for(port, self.process)
        os.chmod(self.ca, 0o644)

    def order(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def wait(self, count, seconds):
        """All arrivals since the reset, when there are so many or the time is over: number → nanoseconds."""
        self.order(f"wait {count} {seconds}")
        answer = json.loads(self.process.stdout.readline())
        arrivals = {}
        for number, at in answer["arrivals"]:
            arrivals.setdefault(number, at)
        return arrivals, answer

    def reset(self):
        self.order("reset")

    def end(self):
        _end(self.process)


class Proxy:
    """A line with a delay in each direction."""

    def __init__(self, context, to, delay_ms):
        port = os.path.join(context.folder("proxy"), "port")
        command = [context.bench, "proxy", "--port-file", port, "--to", to, "--delay", delay_ms]
        self.process = processes.tool(command, stdin=subprocess.PIPE)
        self.port = _wait_for(port, self.process)

    def end(self):
        _end(self.process)


def send(context, port, **options):
    """Sends a load and returns the figures of the load generator."""
    command = [context.bench, "send", "--port", port]
    for name, value in options.items():
        if value is True:
            value = "yes"
        if value is not None and value is not False:
            command += [f"--{name}", value]
    process = processes.tool(command, stdout=subprocess.PIPE)
    text, _ = process.communicate()
    processes.tools.discard(process.pid)
    if process.returncode:
        raise RuntimeError(f"the load generator ended with status {process.returncode}")
    return json.loads(text)
