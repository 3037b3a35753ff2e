# SPDX-License-Identifier: Apache-2.0
"""Measures smtprelay and the relays that it replaces. Called by scripts/bench.sh with programs and places.

LOADS      names of loads, with commas; all of them if it is empty
PEERS      names of relays, with commas; all that are there if it is empty
ROUNDS     how often smtprelay and postfix are measured, 3 if it is not set
OTHERS     how often the other relays are, once if it is not set: they are slow, and the whole run has fifteen minutes
QUICK=1    short loads, which show that everything works
WRITE=1    puts the tables into docs/performance.md as well
EMAILRELAY the program of E-MailRelay
"""

import argparse
import json
import os
import sys
import time

import gateway
import growth
import instructions
import loads
import memory
import peers
import processes
import report
import roundtrips
from tools import Context, Provider

# Of every relay: name, function.
SHARED = {
    "memory": memory.measure,
    "roundtrips": roundtrips.measure,
    "accept": loads.accept,
    "delivery": loads.delivery,
    "latency": loads.latency,
    "startup": loads.startup,
    "size": growth.size,
}
# Of smtprelay and its own.
OWN = {
    "growth": lambda context: growth.queue(context, peers.Smtprelay),
    "instructions": lambda context: instructions.measure(context, peers.Smtprelay),
    "greeting": gateway.greeting,
    "queue": gateway.queue,
    "stop": gateway.stop,
    "crowd": gateway.crowd,
    "harness": loads.harness,
}
# Measured once: it takes long, or hardly differs from round to round.
ONCE = {"size", "growth", "harness", "queue", "stop", "crowd", "greeting"}


def words(name):
    return [word.strip() for word in os.environ.get(name, "").replace(" ", ",").split(",") if word.strip()]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "bench", "servers", "scratch", "out"):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def add(results, load, relay, figures):
    place = results["loads"].setdefault(load, {}).setdefault(relay, {})
    for name, value in figures.items():
        place.setdefault(name, []).append(value)


def keep(results, out):
    """After each measurement, so that a run that is ended early has its figures."""
    with open(os.path.join(out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


def attempt(context, what, function, *more):
    """Figures of one measurement; one that fails is noted and does not end the run."""
    begin = time.monotonic()
    try:
        figures = function(context, *more)
    except (OSError, RuntimeError, KeyError) as error:
        context.note(f"{what}: {error!r}")
        figures = {}
    print(f"{what}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    return figures


def run(context, chosen, found, rounds, others, results, out):
    for turn in range(1, rounds + 1):
        for load in chosen:
            # What else the machine does belongs to the figures.
            results["busy"].append(os.getloadavg()[0])
            keep(results, out)
            if load in ONCE and turn > 1:
                continue
            if load in OWN:
                # Those of the old benchmark have one table together.
                place = "gateway" if load in ("greeting", "queue", "stop", "crowd") else load
                figures = attempt(context, f"round {turn}, {load}", OWN[load])
                if place == "gateway":
                    figures = {f"{load}: {name}": value for name, value in figures.items()}
                add(results, place, "smtprelay", figures)
                continue
            for peer in found:
                if turn > others and peer not in (peers.Smtprelay, peers.Postfix):
                    continue
                if peer is peers.PostfixReuse and load not in ("delivery", "latency", "roundtrips"):
                    # Connections to the provider make no difference there.
                    continue
                figures = attempt(context, f"round {turn}, {load}, {peer.name}", SHARED[load], peer)
                add(results, load, peer.name, figures)


def main():
    options = arguments()
    known = [*SHARED, *OWN]
    chosen = words("LOADS") or known
    if unknown := [load for load in chosen if load not in known]:
        sys.exit(f"bench: no load is called {', '.join(unknown)}; there are {', '.join(known)}")
    rounds, others = int(os.environ.get("ROUNDS") or 3), int(os.environ.get("OTHERS") or 1)
    processes.become_subreaper()
    quick = bool(os.environ.get("QUICK"))
    context = Context(options.program, options.bench, options.servers, options.scratch, quick)
    context.notes = []

    def note(text):
        if text not in context.notes:
            context.notes.append(text)
            print(f"note: {text}", file=sys.stderr, flush=True)

    context.note = note
    found, left_out = peers.at_hand(context, words("PEERS"))
    for name, why in left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    results = {"loads": {}, "left_out": left_out, "notes": context.notes, "busy": []}
    results |= {"rounds": rounds, "other_rounds": others}
    results["versions"] = loads.versions()
    for peer in found:
        results["versions"][peer.name] = peer.version(context) + f"; synced before the 250: {peer.synced}"
    results["versions"]["callgrind"] = instructions.version()
    context.resolver(dead=False)
    context.provider, context.plain = Provider(context), Provider(context, tls="none")
    begin = time.monotonic()
    try:
        run(context, chosen, found, rounds, others, results, options.out)
    finally:
        context.provider.end()
        context.plain.end()
    keep(results, options.out)
    for name, text in report.tables(results).items():
        print(f"\n{name}\n\n{text}")
    if os.environ.get("WRITE"):
        report.write(os.path.join(os.path.dirname(__file__), "../../docs/performance.md"), results)
    minutes = (time.monotonic() - begin) / 60
    print(f"\nThe run took {minutes:.1f} minutes; all values are in {options.out}/results.json", file=sys.stderr)


if __name__ == "__main__":
    main()
