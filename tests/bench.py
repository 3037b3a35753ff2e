# SPDX-License-Identifier: Apache-2.0
"""Measures a running smtprelay from outside. Called by scripts/bench.sh: bench.py PROGRAM PROVIDER SCRATCH [queue | crowd]."""

import json
import os
import resource
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

SETTINGS = """
config relay 'main'
	option hostname 'gw.example'
	option user 'root'
	option spool '{dir}/ram'
	option safe_spool '{dir}/flash'
	option durability '{durability}'
	option spool_limit '512M'

config listener 'lan'
	list address '127.0.0.1'
	option port '0'
	list allow '127.0.0.0/8'

config account 'provider'
	option username 'u'
	option password 'p'
	option from 'me@example.com'
	option from_policy 'keep'
{account}
"""

# A name that has to be asked for, and nobody answers.
NOBODY = "\toption host 'provider.example'"

MAIL = b"From: plc@example.com\r\nTo: ops@example.com\r\nSubject: alarm\r\n\r\n" + b"0123456789abcdef" * 60 + b"\r\n.\r\n"


class Relay:
    """The program with settings of its own; its log lines are read while it runs."""

    def __init__(self, program, scratch, durability, account=NOBODY):
        self.dir = tempfile.mkdtemp(dir=scratch)
        self.delivered = []
        self.news = threading.Condition()
        self.program = program
        self.config = os.path.join(self.dir, "config")
        with open(self.config, "w") as file:
            file.write(SETTINGS.format(dir=self.dir, durability=durability, account=account))
        self.start()

    def start(self):
        command = [self.program, "run", "--foreground", "--config", self.config]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"event=listening .*port=(\d+)", line):
                self.port = int(found[1])
                break
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        for line in self.process.stderr:
            if "event=delivered" in line:
                with self.news:
                    self.delivered.append(time.perf_counter())
                    self.news.notify_all()

    def wait_for(self, count):
        with self.news:
            self.news.wait_for(lambda: len(self.delivered) >= count, timeout=120)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port))

    def memory(self):
        with open(f"/proc/{self.process.pid}/smaps_rollup") as file:
            return int(re.search(r"Pss:\s+(\d+)", file.read())[1])

    def command(self, *words):
        return subprocess.run([self.program, *words, "--config", self.config], check=True, stdout=subprocess.PIPE).stdout

    def stop(self):
        self.process.terminate()
        self.process.wait()


def send(relay, count):
    for _ in range(count):
        with relay.connect() as connection:
            replies = connection.makefile("rb")
            replies.readline()
            for command in (b"EHLO bench\r\n", b"MAIL FROM:<plc@example.com>\r\n", b"RCPT TO:<ops@example.com>\r\n", b"DATA\r\n", MAIL):
                connection.sendall(command)
                while replies.readline()[3:4] == b"-":
                    pass
            connection.sendall(b"QUIT\r\n")
            replies.readline()


def greeting(relay):
    times = []
    for _ in range(1000):
        start = time.perf_counter()
        with relay.connect() as connection:
            connection.recv(1)
            times.append((time.perf_counter() - start) * 1000)
    times.sort()
    print(f"greeting with a dead name server, 1000 connections, ms: median {statistics.median(times):.2f}, 99 % {times[989]:.2f}, most {times[-1]:.2f}")


def rate(relay, parallel, total):
    threads = [threading.Thread(target=send, args=(relay, total // parallel)) for _ in range(parallel)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total / (time.perf_counter() - start)


class Provider:
    """The provider stand-in of the tests: TLS from the first byte, login."""

    def __init__(self, program, scratch):
        port, ca = os.path.join(scratch, "port"), os.path.join(scratch, "ca.pem")
        arguments = ["--port-file", port, "--ca-out", ca, "--user", "u", "--password", "p", "--tls", "implicit", "--count", "1000000"]
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
        while not (os.path.exists(port) and os.path.getsize(port)):
            time.sleep(0.05)
        with open(port) as file:
            self.account = f"\toption host 'localhost'\n\toption port '{file.read().strip()}'\n\toption ca_file '{ca}'"


def delivery(program, provider, scratch):
    relay = Relay(program, scratch, "always", provider.account)
    times = []
    for number in range(1, 51):
        send(relay, 1)
        sent = time.perf_counter()
        relay.wait_for(number)
        times.append((relay.delivered[-1] - sent) * 1000)
    times.sort()
    print(f"from the end of the session to the provider's 250, 465 with login, kept connection, ms: median {times[25]:.1f}")
    start = time.perf_counter()
    rate(relay, 10, 1000)
    relay.wait_for(1050)
    print(f"accepted and delivered a second, always, 465 with login: {1000 / (relay.delivered[-1] - start):.0f}")
    print(f"memory after that, kB PSS: {relay.memory()}")
    relay.stop()


def queued(program, scratch, count=10000):
    """Start, memory and listing with many messages in the queue."""
    relay = Relay(program, scratch, "memory")
    # What the first messages bring with them is not theirs.
    send(relay, 10)
    idle = relay.memory()
    rate(relay, 10, count - 10)
    print(f"{count} messages waiting, as accepted: memory {(relay.memory() - idle) * 1024 / count:.0f} bytes PSS each")
    relay.stop()
    start = time.perf_counter()
    relay.start()
    with relay.connect() as connection:
        connection.recv(1)
    greeted = time.perf_counter() - start
    while json.loads(relay.command("status", "--json"))["queue"]["recovering"]:
        time.sleep(0.01)
    read = time.perf_counter() - start
    print(f"{count} messages waiting: from the start to the first 220 {greeted:.2f} s, until all are read {read:.2f} s")
    print(f"{count} messages waiting, after a start: memory {(relay.memory() - idle) * 1024 / count:.0f} bytes PSS each")
    for words in (["queue"], ["queue", "--json"]):
        start = time.perf_counter()
        size = len(relay.command(*words))
        print(f"{count} messages: smtprelay {' '.join(words)} takes {time.perf_counter() - start:.2f} s for {size >> 10} KB")
    print(f"{count} messages, after listing: memory {(relay.memory() - idle) * 1024 / count:.0f} bytes PSS each")
    start = time.perf_counter()
    relay.command("queue", "delete", "all")
    print(f"{count} messages: smtprelay queue delete all takes {time.perf_counter() - start:.2f} s")
    relay.stop()


def stop(program, scratch, count=2000):
    """The move to safe_spool at the order to stop; procd kills after 15 s."""
    relay = Relay(program, scratch, "deferred")
    rate(relay, 10, count)
    start = time.perf_counter()
    relay.stop()
    took = time.perf_counter() - start
    files = [os.path.getsize(os.path.join(relay.dir, "flash", "queue", name)) for name in os.listdir(os.path.join(relay.dir, "flash", "queue"))]
    print(f"{count} messages waiting, deferred: the stop takes {took:.2f} s and moves {len(files)} of them, {sum(files) >> 10} KB")


def crowd(program, scratch, idle=2000, deaf=100):
    """What one device may cost the others: idle connections of two, and EHLO without end whose replies are never read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    relay = Relay(program, scratch, "memory")
    held = []
    for number in range(idle):
        try:
            held.append(socket.create_connection(("127.0.0.1", relay.port), 2, source_address=(f"127.0.1.{number % 2 + 1}", 0)))
        except OSError:
            break
    start = time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", relay.port), 20, source_address=("127.0.1.3", 0)) as third:
            greeted = f"after {(time.perf_counter() - start) * 1000:.1f} ms" if third.recv(3) == b"220" else "never"
    except OSError:
        greeted = "not within 20 s"
    print(f"{len(held)} idle connections of two devices: a third one is greeted {greeted}")
    for connection in held:
        connection.close()
    relay.stop()
    relay = Relay(program, scratch, "memory")
    before, flood = relay.memory(), [relay.connect() for _ in range(deaf)]
    for connection in flood:
        connection.setblocking(False)
    end = time.perf_counter() + 5
    while time.perf_counter() < end:
        for connection in flood:
            try:
                connection.send(b"EHLO b\r\n" * 8192)
            except BlockingIOError:
                pass
    print(f"EHLO without end on {deaf} connections that never read: {(relay.memory() - before) / deaf:.1f} kB PSS a connection")
    relay.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main():
    program, stand_in, scratch = sys.argv[1:4]
    if sys.argv[4:] == ["queue"]:
        queued(program, scratch)
        stop(program, scratch)
        return
    if sys.argv[4:] == ["crowd"]:
        crowd(program, scratch)
        return
    relay = Relay(program, scratch, "memory")
    print(f"memory idle, kB PSS: {relay.memory()}")
    # A message in the queue keeps the program asking the name server all the while.
    send(relay, 1)
    greeting(relay)
    relay.stop()
    for durability in ("memory", "always"):
        relay = Relay(program, scratch, durability)
        rates = ", ".join(f"{parallel} at once {rate(relay, parallel, 1000):.0f}" for parallel in (1, 10, 50))
        print(f"accepted a second, {durability}, a connection a mail of 1 kB: {rates}")
        print(f"memory with 3000 messages waiting, kB PSS: {relay.memory()}")
        relay.stop()
    queued(program, scratch)
    stop(program, scratch)
    crowd(program, scratch)
    provider = Provider(stand_in, scratch)
    delivery(program, provider, scratch)
    provider.process.terminate()
    provider.process.wait()


main()
