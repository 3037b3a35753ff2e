# SPDX-License-Identifier: Apache-2.0
"""Memory, as the proportional set size of all processes of a relay: idle, with clients, under load, after it, with a queue."""

import socket
import time

import processes
from tools import free_port, send

SESSIONS = 50
QUEUED = 10_000


def hold(port, count=SESSIONS):
    """Clients in the middle of a message of 10 KB, all at the same time."""
    held = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 5)
        replies = connection.makefile("rb")
        for command in (b"", b"EHLO plc.example\r\n", b"MAIL FROM:<plc@example.com>\r\n", b"RCPT TO:<ops@example.com>\r\n", b"DATA\r\n"):
            connection.sendall(command)
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            if line[:1] not in (b"2", b"3"):
                raise RuntimeError(f"client {len(held) + 1}: {line!r}")
        connection.sendall(b"From: plc@example.com\r\nSubject: bench 0\r\n\r\n" + (b"0123456789abcdef" * 4 + b"\r\n") * 80)
        held.append((connection, replies))
    return held


def measure(context, peer):
    """One relay through a day: idle, 50 clients at once, 50 devices that send as quickly as they can, quiet again."""
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
            result = send(context, relay.port, seconds=context.seconds(2), sessions=SESSIONS, size=10240)
            provider.wait(result["accepted"], 20)
        figures["peak"] = peak.kb
        figures["processes"] = len(relay.relay.pids())
        # Relays end their idle processes after a while: postfix after 100 s. That is not waited for.
        time.sleep(context.seconds(5))
        figures["after"] = processes.settled(relay.relay, 4, 1)
        figures["after, data"] = relay.relay.data()
    if peer.queues:
        with peer(context, free_port(), provider.ca) as relay:
            result = send(context, relay.port, count=context.count(QUEUED), seconds=20, sessions=10, kept=True)
            figures["queue length"] = result["accepted"]
            if result["accepted"] < context.count(QUEUED):
                context.note(f"{peer.name}: memory: only {result['accepted']} messages were accepted within 20 s")
            figures["queued"] = processes.settled(relay.relay, 5, 1)
    return figures
