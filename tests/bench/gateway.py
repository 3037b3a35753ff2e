# SPDX-License-Identifier: Apache-2.0
"""Figures of smtprelay alone: greeting with a dead name server, a long queue, a crowd of clients, the stop."""

import json
import os
import re
import resource
import socket
import statistics
import time

import peers
import processes
from tools import free_port, send


class Volatile(peers.Smtprelay):
    """Without syncs, so that the program is measured and not the disk."""

    durability = "memory"

    def set_up(self):
        super().set_up()
        # A name that has to be asked for, and nobody answers.
        with open(self.config, encoding="utf-8") as file:
            text = file.read()
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(re.sub(r"option host '.*'", "option host 'provider.example'", text))


class Deferred(Volatile):
    durability = "deferred"


def _relay(context, kind=Volatile):
    return kind(context, free_port(), context.provider.ca)


def greeting(context):
    times = []
    context.resolver(dead=True)
    with _relay(context) as relay:
        # A message in the queue keeps the program asking the name server all the while.
        send(context, relay.port, count=1)
        for _ in range(context.count(1000)):
            start = time.perf_counter()
            with socket.create_connection(("127.0.0.1", relay.port)) as connection:
                connection.recv(1)
                times.append((time.perf_counter() - start) * 1000)
    context.resolver(dead=False)
    times.sort()
    return {"median ms": statistics.median(times), "99 % ms": times[len(times) * 99 // 100], "most ms": times[-1]}


def queue(context, count=10_000):
    """Start, memory, listing and deletion with many messages in the queue."""
    figures = {}
    with _relay(context) as relay:
        # What the first messages bring with them is not theirs.
        send(context, relay.port, count=10, sessions=10)
        idle = processes.settled(relay.relay, 3, 0.5)
        count = context.count(count)
        send(context, relay.port, count=count - 10, sessions=10, kept=True, first=11)
        figures["messages"] = count
        figures["as accepted, bytes each"] = (processes.settled(relay.relay, 3, 0.5) - idle) * 1024 / count
        relay.relay.stop(30)
        start = time.monotonic()
        figures["start to the first 220, ms"] = relay.start() * 1000
        while json.loads(relay.order("status", "--json"))["queue"]["recovering"]:
            time.sleep(0.01)
        figures["start until all are read, ms"] = (time.monotonic() - start) * 1000
        figures["after a start, bytes each"] = (relay.relay.pss() - idle) * 1024 / count
        for words in (["queue"], ["queue", "--json"]):
            start = time.monotonic()
            relay.order(*words)
            figures[f"smtprelay {' '.join(words)}, ms"] = (time.monotonic() - start) * 1000
        figures["after listing, bytes each"] = (relay.relay.pss() - idle) * 1024 / count
        start = time.monotonic()
        relay.order("queue", "delete", "all")
        figures["smtprelay queue delete all, ms"] = (time.monotonic() - start) * 1000
    return figures


def stop(context, count=2000):
    """The move to safe_spool at the order to stop; procd kills after 15 s."""
    with _relay(context, Deferred) as relay:
        send(context, relay.port, count=context.count(count), sessions=10, kept=True)
        start = time.monotonic()
        relay.relay.stop(60)
        took = time.monotonic() - start
        folder = os.path.join(relay.dir, "flash", "queue")
        sizes = [os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)]
        return {"messages": len(sizes), "KB": sum(sizes) / 1024, "ms": took * 1000}


def crowd(context, idle=2000, deaf=100):
    """Idle connections of two devices, and EHLO without end on connections whose replies are never read."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures, held = {}, []
    with _relay(context) as relay:
        for number in range(context.count(idle)):
            try:
                source = (f"127.0.1.{number % 2 + 1}", 0)
                held.append(socket.create_connection(("127.0.0.1", relay.port), 2, source_address=source))
            except OSError:
                break
        figures["idle connections of two devices"] = len(held)
        start = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", relay.port), 20, source_address=("127.0.1.3", 0)) as third:
                if third.recv(3) == b"220":
                    figures["a third one is greeted, ms"] = (time.monotonic() - start) * 1000
        except OSError as error:
            context.note(f"a third device is not greeted: {error}")
        for connection in held:
            connection.close()
    with _relay(context) as relay:
        before = processes.settled(relay.relay, 3, 0.5)
        flood = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(deaf)]
        for connection in flood:
            connection.setblocking(False)
        end = time.monotonic() + context.seconds(5)
        while time.monotonic() < end:
            for connection in flood:
                try:
                    connection.send(b"EHLO b\r\n" * 8192)
                except (BlockingIOError, ConnectionError):
                    pass
        figures["a connection that never reads, kB"] = (relay.relay.pss() - before) / deaf
        for connection in flood:
            connection.close()
    return figures

