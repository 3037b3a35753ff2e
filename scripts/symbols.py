#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Names and addresses of the functions of a program that has its symbols.

	scripts/symbols.py list PROGRAM           a line for each function: its address from the start of the program, its name
	scripts/symbols.py order PROGRAM LIST     the symbols of those functions of LIST that the program has, for the option
	                                          --symbol-ordering-file of ld.lld
	scripts/symbols.py find FILE ADDRESS      the functions at that address, by what `list` has written

LIST has names of functions as people read them, in groups that begin with a comment; scripts/hot.py writes it. A group's
functions keep the order that they have in the program: there the linker has put together what compresses well. Names that
the program does not have are skipped, since another compiler inlines other functions. Needs readelf and c++filt
(binutils).
"""

import re
import subprocess
import sys

# The program header of a program that is not position-independent says where it begins; so does this symbol.
START = "__ehdr_start"
# Behind the name of a crate.
HASH = re.compile(r"\[[0-9a-f]{8,16}\]")


def run(command, text=None):
    try:
        return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout
    except FileNotFoundError:
        sys.exit(f"symbols.py: {command[0]} is missing (Debian: binutils)")


def readable(symbols):
    """The names that people read, without the hash that changes with each compiler."""
    return HASH.sub("", run(["c++filt"], "\n".join(symbols))).split("\n")


def addresses(program):
    """Where the program begins, and address and symbol of each function, by address."""
    start, found = 0, []
    # MIPS puts a remark in brackets before some symbols.
    for line in re.sub(r"\[[^\]\n]*PIC\]", "", run(["readelf", "-sW", program])).splitlines():
        # Number, value, size, type, binding, visibility, section, symbol.
        words = line.split()
        if len(words) < 8 or not words[0].rstrip(":").isdigit():
            continue
        if words[3] == "FUNC" and words[6] != "UND":
            found.append((int(words[1], 16), words[7]))
        if words[7] == START:
            start = int(words[1], 16)
    return start, sorted(set(found))


def functions(program):
    """Address, symbol and name of each function, by address; addresses count from the start of the program."""
    start, found = addresses(program)
    names = readable([symbol for _, symbol in found])
    return [(address - start, symbol, name) for (address, symbol), name in zip(found, names)]


def groups(path):
    """The groups of names in a list."""
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("#"):
                found.append(set())
            elif line.strip() and found:
                found[-1].add(line.rstrip("\n"))
    return found


def order(program, path):
    known, done = functions(program), set()
    for group in groups(path):
        for _, symbol, name in known:
            if name in group and symbol not in done:
                done.add(symbol)
                print(symbol)


def at(path, wanted):
    """The functions at an address, by what `list` has written. Those with the same code are there once."""
    here, names = None, []
    with open(path, encoding="utf-8") as file:
        for line in file:
            place, name = line.rstrip("\n").split(" ", 1)
            if int(place, 16) > wanted:
                break
            names = names + [name] if place == here else [name]
            here = place
    return names


def main():
    match sys.argv[1:]:
        case ["list", program]:
            for address, _, name in functions(program):
                print(f"{address:08x} {name}")
        case ["order", program, path]:
            order(program, path)
        case ["find", path, address]:
            print("\n".join(at(path, int(address, 16))) or f"no function is at {address}")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
