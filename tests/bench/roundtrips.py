# SPDX-License-Identifier: Apache-2.0
"""Round trips between the device's dot and the provider's acceptance, with a line of 50 ms in each direction.

A round trip is 100 ms here, far more than what the programs need, so the time divided by it is their number, and the
digits behind the point are processing. Counted until the provider's 250 is back at the relay.
"""

import time

from tools import Proxy, send

DELAY_MS = 50
# Between the steps of a slow device; with all of its steps a session takes longer than the handshake with the provider.
PAUSE_MS = 200


def _trips(arrivals, message):
    number, dot, _ = message
    return (arrivals[number] - dot) / 1e6 / (2 * DELAY_MS) + 0.5


def _pair(context, peer, chunking, pause):
    """A first message of a relay that has just started, and one half a second later."""
    provider = context.provider
    provider.order(f"chunking {'yes' if chunking else 'no'}")
    provider.reset()
    proxy = Proxy(context, provider.port, DELAY_MS)
    try:
        with peer(context, proxy.port, provider.ca) as relay:
            found = []
            for number in (1, 2):
                # A session of the first message is over before the next one comes.
                time.sleep(0.5 if found else 0)
                # With a single device at work nothing else pays for the connection.
                result = send(context, relay.port, count=1, seconds=8, first=number, pause=pause, list=True)
                arrivals, _ = provider.wait(number, 10)
                if not result["messages"] or number not in arrivals:
                    context.note(f"{peer.name}: round trips: message {number} did not arrive {result['errors']}")
                    return [None, None]
                found.append(_trips(arrivals, result["messages"][0]))
            return found
    finally:
        proxy.end()
        provider.order("chunking no")


def measure(context, peer):
    slow, _ = _pair(context, peer, False, PAUSE_MS)
    quick, following = _pair(context, peer, False, 0)
    quick_chunking, following_chunking = _pair(context, peer, True, 0)
    return {
        "cold, slow device": slow,
        "cold, quick device": quick,
        "cold, quick device, CHUNKING": quick_chunking,
        "next": following,
        "next, CHUNKING": following_chunking,
    }
