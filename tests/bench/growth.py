# SPDX-License-Identifier: Apache-2.0
"""How the cost of a message grows: with the length of the queue, and with its own size."""

import time

import processes
from tools import free_port, send

# The queue takes 20,000, and 17,500 of one client.
LENGTHS = [10, 1000, 5000, 10_000, 16_000]
# Messages that are sent to see what one costs.
SAMPLE = 500
SIZES = [1, 10, 100]


def queue(context, peer):
    """Processor time for accepting a message when so many wait already."""
    figures, waiting = {}, 0
    with peer(context, free_port(), context.provider.ca) as relay:
        # The first messages start what later ones find there.
        waiting += send(context, relay.port, count=LENGTHS[0], kept=True)["accepted"]
        for length in LENGTHS:
            length = context.count(length)
            if length > waiting:
                waiting += send(context, relay.port, count=length - waiting, sessions=10, kept=True)["accepted"]
            time.sleep(0.5)
            before = relay.relay.cpu()
            result = send(context, relay.port, count=SAMPLE, sessions=1, kept=True)
            time.sleep(0.2)
            figures[f"{length} waiting, CPU ms"] = (relay.relay.cpu() - before) * 1000 / SAMPLE
            figures[f"{length} waiting, reply ms"] = result["reply_ms"]["median"]
            if result["failed"]:
                context.note(f"growth: {length} waiting: {result['errors'][0]}")
            waiting += result["accepted"]
            figures[f"{length} waiting, PSS, kB"] = relay.relay.pss()
    return figures


def size(context, peer):
    """One large message from the device to the provider: time, processor time and memory."""
    provider, figures = context.provider, {}
    with peer(context, provider.port, provider.ca) as relay:
        provider.reset()
        send(context, relay.port, count=1)
        provider.wait(1, 10)
        for megabytes in SIZES:
            provider.reset()
            before = relay.relay.cpu()
            with processes.Peak(relay.relay) as peak:
                result = send(context, relay.port, count=1, size=megabytes << 20, list=True)
                arrivals, _ = provider.wait(1, 60)
            if not arrivals:
                context.note(f"{peer.name}: a message of {megabytes} MB did not arrive: {result['errors']}")
                break
            figures[f"{megabytes} MB, seconds"] = (max(arrivals.values()) - result["messages"][0][1]) / 1e9
            figures[f"{megabytes} MB, CPU ms"] = (relay.relay.cpu() - before) * 1000
            figures[f"{megabytes} MB, peak kB"] = peak.kb
    return figures
