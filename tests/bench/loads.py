# SPDX-License-Identifier: Apache-2.0
"""How many messages, how quickly, for how much processor time: accept, delivery, latency, start-up and greeting.

Each function takes the context and a relay's class, measures once and returns figures by name. The rounds, and the order
of the relays within a round, are the caller's.
"""

import os
import socket
import statistics
import time

import processes
from tools import free_port, send

# Size of a message, sessions, whether a session is kept for all messages.
ACCEPT = [
    (1024, 1, False), (1024, 1, True), (1024, 10, False), (1024, 10, True), (1024, 50, False), (1024, 50, True),
    (10240, 10, True), (1048576, 10, True),
]


def accept_name(size, sessions, kept):
    unit = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
    return f"{unit}, {sessions} {'kept' if kept else 'a mail'}"


# A relay with so many messages is replaced by a new one: smtprelay keeps at most 17,500 of one client.
LONG = 4000


def accept(context, peer):
    """Accepted a second while the provider cannot be reached: all goes into the queue, synced before the 250."""
    figures, left = {}, list(ACCEPT)
    while left:
        port = free_port() if peer.queues else context.provider.port
        with peer(context, port, context.provider.ca) as relay:
            waiting = 0
            while left and waiting < LONG:
                waiting += _accept(context, peer, relay, left.pop(0), figures)
    return figures


def _accept(context, peer, relay, load, figures):
    """One load of the list; how many messages it has left in the queue."""
    name = accept_name(*load)
    load = dict(zip(("size", "sessions", "kept"), load))
    # The first messages start processes; that is not the rate.
    first = send(context, relay.port, seconds=0.2, **load)
    before = relay.relay.cpu()
    result = send(context, relay.port, seconds=context.seconds(1), **load)
    cpu = relay.relay.cpu() - before
    if result["accepted"]:
        figures[name] = result["accepted"] / result["seconds"]
        figures[f"CPU ms, {name}"] = cpu * 1000 / result["accepted"]
    if result["failed"]:
        all_of_them = result["failed"] + result["accepted"]
        context.note(f"{peer.name}: {name}: {result['failed']} of {all_of_them} failed: {result['errors'][0]}")
    # What the load has left in the relay's own queues is not the next load's.
    time.sleep(0.3)
    return first["accepted"] + result["accepted"]


def _ticks(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / processes.TICK


def delivery(context, peer):
    """Accepted and delivered a second: ten devices, a connection a mail, provider on port 465 with a login."""
    provider = context.provider
    with peer(context, provider.port, provider.ca) as relay:
        provider.reset()
        send(context, relay.port, count=20, seconds=5, sessions=10)
        provider.wait(20, 5)
        provider.reset()
        before, busy = relay.relay.cpu(), _ticks(provider.process)
        result = send(context, relay.port, seconds=context.seconds(2), sessions=10)
        arrivals, answer = provider.wait(result["accepted"], 12)
        if not arrivals:
            context.note(f"{peer.name}: delivery: nothing arrived: {result['errors']}")
            return {}
        # Some bookkeeping comes after the provider's reply.
        time.sleep(0.3)
        cpu = relay.relay.cpu() - before
        busy = _ticks(provider.process) - busy
    seconds = (max(arrivals.values()) - result["start_ns"]) / 1e9
    if len(arrivals) < result["accepted"]:
        context.note(f"{peer.name}: delivery: {len(arrivals)} of {result['accepted']} accepted arrived within 12 s")
    return {
        "delivered": len(arrivals) / seconds,
        "CPU ms": cpu * 1000 / len(arrivals),
        "provider's CPU ms": busy * 1000 / len(arrivals),
        "connections": answer["connections"] / len(arrivals),
    }


def latency(context, peer):
    """One message at a time: from the dot to its reply, and until the provider has it."""
    provider = context.provider
    with peer(context, provider.port, provider.ca) as relay:
        provider.reset()
        send(context, relay.port, count=2, seconds=5, gap=100)
        provider.wait(2, 5)
        result = send(context, relay.port, count=context.count(25), seconds=8, gap=50, first=1000, list=True)
        arrivals, _ = provider.wait(result["accepted"] + 2, 20)
    replies = [reply - dot for _, dot, reply in result["messages"]]
    through = [arrivals[number] - dot for number, dot, _ in result["messages"] if number in arrivals]
    if not through:
        context.note(f"{peer.name}: latency: nothing arrived")
        return {}
    return {"reply ms": statistics.median(replies) / 1e6, "provider ms": statistics.median(through) / 1e6}


def startup(context, peer):
    """From the start of the program to its greeting; and the greeting of a client whose name cannot be looked up."""
    times = []
    for _ in range(context.count(5)):
        with peer(context, free_port(), context.provider.ca) as relay:
            relay.relay.stop()
            times.append(relay.start())
    context.resolver(dead=True)
    limit = 15
    try:
        with peer(context, free_port(), context.provider.ca) as relay:
            begin = time.monotonic()
            with socket.create_connection(("127.0.0.1", relay.port), limit, source_address=("192.0.2.2", 0)) as client:
                client.recv(3)
                greeted = time.monotonic() - begin
    except (OSError, RuntimeError):
        # Also if it greets not even a client on this machine.
        greeted = limit
    finally:
        context.resolver(dead=False)
    return {"start ms": statistics.median(times) * 1000, "greeting ms": greeted * 1000}


def harness(context):
    """What the load generator can do: against a server that accepts everything, without TLS, on the same machine."""
    figures = {}
    for size, sessions, kept in ACCEPT:
        load = {"size": size, "sessions": sessions, "kept": kept}
        result = send(context, context.plain.port, seconds=context.seconds(0.5), **load)
        figures[accept_name(size, sessions, kept)] = result["accepted"] / result["seconds"]
        context.plain.reset()
    return figures


def versions():
    """The machine."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    uname = os.uname()
    return {"kernel": f"{uname.sysname} {uname.release} {uname.machine}", "processor": f"{os.cpu_count()} × {model}"}
