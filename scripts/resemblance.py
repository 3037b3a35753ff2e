#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The order of the functions of a program in which the package's compression finds the most repetitions.

	scripts/resemblance.py PROGRAM            their symbols, for the option --symbol-ordering-file of ld.lld

For processors whose instructions are words of four bytes. Deflate looks back 32 KB. So the next function is always the one
that has most of its instructions, pairs and triples of instructions in common with those of the last 30,000 bytes, in
proportion to the root of its size: without the size large functions would come first, with all of it small ones, and both
would be missing later. The linker's own --bp-compression-sort divides the functions into halves again and again, and does
not look across the middle; that costs 17 KB of the package for mipsel_24kc.

Needs readelf (binutils). The same program gives the same order.
"""

import array
import operator
import re
import sys
from collections import deque

import symbols

# As far as deflate looks back, less what stands within the function itself.
WINDOW = 30000
# Whatever more functions have is in every window, and says nothing.
MOST = 300
# What a call costs to look at: no function is so small that one common instruction puts it first.
LEAST = 40


def text(program):
    """Address and bytes of the code."""
    for line in symbols.run(["readelf", "-SW", program]).splitlines():
        found = re.search(r"\] \.text +PROGBITS +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) ", line)
        if found:
            address, offset, size = (int(number, 16) for number in found.groups())
            with open(program, "rb") as file:
                file.seek(offset)
                return address, file.read(size)
    sys.exit(f"resemblance.py: {program} has no section .text")


def pieces(program):
    """Symbol and code of each function."""
    start, code = text(program)
    # Functions with the same code are there once, under several names.
    places = {}
    for address, symbol in symbols.addresses(program)[1]:
        if 0 <= address - start < len(code):
            places.setdefault(address - start, symbol)
    ends = sorted(places)[1:] + [len(code)]
    return [(places[place], code[place:end]) for place, end in zip(sorted(places), ends)]


def parts(functions):
    """Of each function the instructions, pairs and triples that it has in common with others, by number."""
    having = {}
    for index, (_, code) in enumerate(functions):
        words = array.array("I", code[: len(code) // 4 * 4]).tolist()
        pairs = [a << 32 | b for a, b in zip(words, words[1:])]
        own = {word << 2 for word in words}
        own.update(pair << 2 | 1 for pair in pairs)
        own.update((pair << 32 | c) << 2 | 2 for pair, c in zip(pairs, words[2:]))
        for part in own:
            having.setdefault(part, []).append(index)
    having = [indices for indices in having.values() if 1 < len(indices) <= MOST]
    found = [[] for _ in functions]
    for part, indices in enumerate(having):
        for index in indices:
            found[index].append(part)
    return found, having


def order(functions):
    """The symbols of the functions, each next to those that it resembles."""
    sizes = [len(code) for _, code in functions]
    found, having = parts(functions)
    # How many parts of each function are within the window, and what that is worth.
    common = [1] * len(functions)
    worth = [1 / (LEAST + size) ** 0.5 for size in sizes]
    present = [0] * len(having)
    window, length = deque(), 0
    following = sizes.index(max(sizes)) if sizes else 0
    for _ in functions:
        yield functions[following][0]
        worth[following] = 0
        window.append(following)
        length += sizes[following]
        for part in found[following]:
            present[part] += 1
            if present[part] == 1:
                for index in having[part]:
                    common[index] += 1
        while length > WINDOW and len(window) > 1:
            last = window.popleft()
            length -= sizes[last]
            for part in found[last]:
                present[part] -= 1
                if present[part] == 0:
                    for index in having[part]:
                        common[index] -= 1
        values = list(map(operator.mul, common, worth))
        following = values.index(max(values))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("\n".join(order(pieces(sys.argv[1]))))


if __name__ == "__main__":
    main()
