#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether a crash of a package's program is logged with an address in which its file of symbols finds the function.

	tests/crash_address.py PROGRAM SYMBOLS [RUNNER]

In a copy of the program, the first instruction of a function that every start calls is replaced by what a panic is in the
packages. RUNNER runs programs of other architectures here (qemu-user).
"""

import os
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
sys.dont_write_bytecode = True

import symbols

# By the machine in the ELF header: the instruction, its length, and the signal that the kernel sends.
PANICS = {8: (0x0000000D, 4, 5), 40: (0xE7FFDEFE, 4, 4), 62: (0x0B0F, 2, 4), 183: (0xD4200020, 4, 5)}
FUNCTION = "smtprelay::cli::print"


def segments(program, order):
    """What is loaded: address in memory, offset in the file, bytes in the file."""
    wide = program[4] == 2
    word = order + ("Q" if wide else "I")
    (table,) = struct.unpack_from(word, program, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", program, 54 if wide else 42)
    found = []
    for at in range(table, table + size * count, size):
        places = (16, 8, 32) if wide else (8, 4, 16)
        if struct.unpack_from(order + "I", program, at) == (1,):
            found.append(tuple(struct.unpack_from(word, program, at + place)[0] for place in places))
    return found


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    path, names, runner = sys.argv[1], sys.argv[2], sys.argv[3:]
    with open(path, "rb") as file:
        program = bytearray(file.read())
    order = "<" if program[5] == 1 else ">"
    machine = struct.unpack_from(order + "H", program, 18)[0]
    instruction, length, signal = PANICS[machine]
    with open(names, encoding="utf-8") as file:
        known = [line.rstrip("\n").split(" ", 1) for line in file]
    address = next((int(address, 16) for address, name in known if name == FUNCTION), None)
    if address is None:
        sys.exit(f"{names} has no function {FUNCTION}")
    loads = segments(program, order)
    # Addresses in the file of symbols count from the start of the program.
    wanted = min(memory for memory, _, _ in loads) + address
    place = next(file + wanted - memory for memory, file, size in loads if memory <= wanted < memory + size)
    program[place : place + length] = instruction.to_bytes(length, "little" if order == "<" else "big")
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "smtprelay")
        with open(copy, "wb") as file:
            file.write(program)
        os.chmod(copy, 0o755)
        ended = subprocess.run([*runner, copy, "--version"], capture_output=True, text=True, check=False)
    expected = f"smtprelay: error: event=crashed signal={signal} address={address:#x} "
    if expected not in ended.stderr:
        sys.exit(f"expected: {expected}\nwas: {ended.stderr}")
    if ended.returncode not in (-signal, 128 + signal):
        sys.exit(f"it ended with {ended.returncode} in place of signal {signal}")
    found = symbols.at(names, address)
    if FUNCTION not in found:
        sys.exit(f"at {address:#x} was found: {found}")


if __name__ == "__main__":
    main()
