# SPDX-License-Identifier: Apache-2.0
"""The tables: on the terminal after a run, and in docs/performance.md between its markers.

	tests/bench/report.py PAGE FILE...	puts the tables in these files into a page, each at the marker of its name

A marker is a pair of comments, `<!-- bench: NAME -->` and `<!-- /bench -->`. Only tables that the run measured are
replaced, so a run with a few loads leaves the others as they are.
"""

import os
import re
import statistics
import sys


def number(value):
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 0.1 or value == 0:
        return f"{value:.2f}"
    return f"{value:.2g}"


def cell(values, scale=1.0):
    """Median, and the least and the most of all rounds."""
    values = [value * scale for value in values if value is not None]
    if not values:
        return "–"
    middle = number(statistics.median(values))
    low, high = number(min(values)), number(max(values))
    return middle if low == high else f"{middle} ({low}–{high})"


def ratio(ours, theirs):
    """Of the medians."""
    ours = [value for value in ours if value is not None]
    theirs = [value for value in theirs if value is not None]
    if not ours or not theirs or not statistics.median(theirs):
        return "–"
    return f"{number(statistics.median(ours) / statistics.median(theirs))} ×"


def table(load, rows):
    """A table with a column a relay. `rows`: label, figure, factor."""
    names = list(load)
    ours = load.get("smtprelay", {})
    base = load.get("postfix", {})
    head = [""] + names + (["smtprelay : postfix"] if ours and base else [])
    lines = [head, ["---"] * len(head)]
    for label, figure, scale in rows:
        if not any(figure in load[name] for name in names):
            continue
        line = [label] + [cell(load[name].get(figure, []), scale) for name in names]
        if ours and base:
            # What is in brackets explains other lines.
            line.append("" if label.startswith("(") else ratio(ours.get(figure, []), base.get(figure, [])))
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(load, label):
    """A table of one relay: figure and value."""
    lines = [["", label], ["---", "---"]]
    lines += [[figure, cell(values)] for figure, values in load.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def same(load, scale=1.0, only=""):
    """Rows with the names of the figures as labels, in the order in which they were measured."""
    names = []
    for figures in load.values():
        names += [name for name in figures if name not in names]
    return [(name, name, scale) for name in names if only in name]


MEMORY = [
    ("idle", "idle", 1 / 1024),
    ("50 devices in the middle of a message", "50 sessions", 1 / 1024),
    ("each of 50 further ones, KB", "further session", 1),
    ("peak: 50 devices send ten messages of 10 KB each", "peak", 1 / 1024),
    ("quiet again, 15 seconds later", "after", 1 / 1024),
    ("with a queue of 10,000", "queued", 1 / 1024),
    ("(messages in that queue)", "queue length", 1),
    ("(processes after the load)", "processes", 1),
]
DELIVERY = [
    ("delivered a second", "delivered", 1),
    ("CPU time a message, ms", "CPU ms", 1),
    ("connections to the provider a message", "connections", 1),
    ("(CPU time of the provider a message, ms)", "provider's CPU ms", 1),
]
LATENCY = [("reply to the dot, ms", "reply ms", 1), ("provider has it, ms", "provider ms", 1)]
STARTUP = [
    ("start to the first greeting, ms", "start ms", 1),
    ("greeting of a client without a name, name server dead, ms", "greeting ms", 1),
]
ROUNDTRIPS = [
    ("first message, device slower than a handshake", "cold, slow device", 1),
    ("first message, quick device", "cold, quick device", 1),
    ("first message, quick device, CHUNKING offered", "cold, quick device, CHUNKING", 1),
    ("next message", "next", 1),
    ("next message, CHUNKING offered", "next, CHUNKING", 1),
]


def tables(results):
    """Name of a marker → text."""
    loads, found = results["loads"], {}
    if load := loads.get("accept"):
        rows = [row for row in same(load) if not row[0].startswith("CPU")]
        found["accept"] = table(load, rows)
        rows = [(name.removeprefix("CPU ms, "), name, scale) for name, _, scale in same(load, only="CPU ms, ")]
        found["accept-cpu"] = table(load, rows)
    for name, rows in [
        ("memory", MEMORY), ("delivery", DELIVERY), ("latency", LATENCY), ("startup", STARTUP), ("roundtrips", ROUNDTRIPS),
    ]:
        if load := loads.get(name):
            found[name] = table(load, rows)
    if load := loads.get("size"):
        rows = [(name.replace("kB", "MB"), name, 1 / 1024 if name.endswith("kB") else 1) for name, *_ in same(load)]
        found["size"] = table(load, rows)
    for name, label in [
        ("growth", "smtprelay"), ("instructions", "instructions"), ("gateway", "smtprelay"), ("harness", "a second"),
    ]:
        for load in loads.get(name, {}).values():
            found[name] = plain(load, label)
    lines = [f"- {name}: {text}" for name, text in results["versions"].items()]
    lines += [f"- left out: {name}: {why}" for name, why in results["left_out"].items()]
    if results["busy"]:
        lines.append(f"- load average of the machine, this run included: {cell(results['busy'])}")
    lines.append(
        f"- smtprelay and postfix: {results['rounds']} rounds, each figure is the median, with the least and the most in "
        f"brackets; the others: {results['other_rounds']} round(s)"
    )
    found["versions"] = "\n".join(lines)
    if results["notes"]:
        found["notes"] = "\n".join(f"- {note}" for note in results["notes"])
    return found


def write(path, results):
    """Puts the tables into the page."""
    put(path, tables(results))


def put(path, contents):
    """Puts texts into the page, by the names of their markers."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, content in contents.items():
        pattern = rf"(<!-- bench: {re.escape(name)} -->\n).*?(<!-- /bench -->)"
        text = re.sub(pattern, lambda match: match[1] + "\n" + content + "\n\n" + match[2], text, flags=re.S)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    found = {}
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8") as file:
            found[os.path.basename(path)] = file.read().rstrip("\n")
    put(sys.argv[1], found)
