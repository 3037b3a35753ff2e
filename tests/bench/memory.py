# SPDX-License-Identifier: Apache-2.0
"""Memory of a relay, as the proportional set size of all its processes: idle, with clients, after them, with a queue."""

import socket
import time

import peers
import processes
from tools import free_port, send

SESSIONS = 50
# Messages of 10 KB from all of them together: what does not leave at once is queued, but it is not a long queue.
BURST = 500
QUEUED = 10_000


# Those that accept so many in a reasonable time.
QUICK = (peers.Smtprelay, peers.Postfix)


def hold(port, count=SESSIONS, address="127.0.0.1"):
    """Clients in the middle of a message of 10 KB, all at the same time."""
    held = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 5, source_address=(address, 0))
        replies = connection.makefile("rb")
        for command in ("", "EHLO plc.example", "MAIL FROM:<plc@example.com>", "RCPT TO:<ops@example.com>", "DATA"):
            connection.sendall(f"{command}\r\n".encode() if command else b"")
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            if line[:1] not in (b"2", b"3"):
                raise RuntimeError(f"client {len(held) + 1}: {line!r}")
        line = b"0123456789abcdef" * 4 + b"\r\n"
        connection.sendall(b"From: plc@example.com\r\nSubject: bench 0\r\n\r\n" + line * 80)
        held.append((connection, replies))
    return held


def measure(context, peer):
    """One relay through a day: idle, 50 clients at once, 50 devices that send ten messages each, quiet again."""
    provider, figures = context.provider, {}
    with peer(context, provider.port, provider.ca) as relay:
        provider.reset()
        figures["idle"] = processes.settled(relay.relay)
        figures["idle, data"] = relay.relay.data()
        try:
            held = hold(relay.port)
            figures["50 sessions"] = processes.settled(relay.relay, 4, 0.5)
            for connection, replies in held:
                replies.close()
                connection.close()
        except (OSError, RuntimeError) as error:
            context.note(f"{peer.name}: memory: 50 sessions: {error}")
        time.sleep(0.5)
        provider.reset()
        with processes.Peak(relay.relay) as peak:
            result = send(context, relay.port, count=BURST, seconds=15, sessions=SESSIONS, size=10240)
            provider.wait(result["accepted"], 8)
        figures["peak"] = peak.kb
        figures["processes"] = len(relay.relay.pids())
        # smtprelay gives memory back every ten seconds. Others end their idle processes after a while: postfix after
        # 100 s. That is not waited for.
        time.sleep(context.seconds(15))
        figures["after"] = processes.settled(relay.relay, 4, 1)
        figures["after, data"] = relay.relay.data()
    with peer(context, provider.port, provider.ca) as relay:
        # What they have in common, above all the code that runs for one, is in memory for the first ones.
        try:
            held = hold(relay.port)
            few = processes.settled(relay.relay, 4, 0.5)
            held += hold(relay.port, address="127.0.0.2")
            figures["further session"] = (processes.settled(relay.relay, 4, 0.5) - few) / SESSIONS
        except (OSError, RuntimeError) as error:
            context.note(f"{peer.name}: memory: {2 * SESSIONS} sessions: {error}")
    if peer.queues:
        with peer(context, free_port(), provider.ca) as relay:
            result = send(context, relay.port, count=context.count(QUEUED), seconds=20 if peer in QUICK else 10, sessions=10, kept=True)
            figures["queue length"] = result["accepted"]
            if result["accepted"] < context.count(QUEUED):
                context.note(f"{peer.name}: memory: only {result['accepted']} messages were accepted in the time for them")
            figures["queued"] = processes.settled(relay.relay, 5, 1)
    return figures
