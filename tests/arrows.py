#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether the rooms of src use each other as src/lib.rs draws it: in no other direction, and in no circle.

	tests/arrows.py			checks this tree, then itself
	tests/arrows.py FOLDER	checks the sources in another folder

The drawing is the table in the head of lib.rs, whose last column names the rooms that each room may use. What counts is
every path crate::ROOM outside of tests and comments.
"""

import os
import re
import shutil
import sys
import tempfile

ROW = re.compile(r'^//! \| \[`(\w+)`\] \|[^|]*\| ([\w, ]*)\|$', re.MULTILINE)
PATH = re.compile(r'\bcrate::(\w+|\{)')
TESTS = re.compile(r'#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{.*?^\}', re.DOTALL | re.MULTILINE)


def drawn(source):
    """The rooms of lib.rs and the rooms that each may use."""
    with open(os.path.join(source, 'lib.rs'), encoding='utf-8') as file:
        text = file.read()
    table = {room: set(filter(None, re.split(r'[, ]+', allowed))) for room, allowed in ROW.findall(text)}
    declared = set(re.findall(r'^pub mod (\w+);', text, re.MULTILINE))
    return table, declared


def members(text, start):
    """The first names of a braced list of paths that begins at `start`."""
    depth, name, names = 0, '', []
    for letter in text[start:]:
        if letter == '{':
            depth += 1
        elif letter == '}':
            depth -= 1
        if depth == 0:
            break
        if depth == 1 and letter in '{,':
            names.append(name)
            name = ''
        elif depth == 1:
            name += letter
    names.append(name)
    return {re.match(r'\s*(\w*)', name)[1] for name in names} - {''}


def used(text):
    """The rooms that a source file names."""
    text = TESTS.sub('', re.sub(r'//.*', '', text))
    found = set()
    for match in PATH.finditer(text):
        found |= members(text, match.start(1)) if match[1] == '{' else {match[1]}
    return found


def is_test(path):
    """Whether a file holds tests alone."""
    parts = path.split(os.sep)
    return 'tests' in parts or parts[-1] == 'tests.rs' or parts[-1].endswith('_tests.rs')


def circle(table):
    """A circle of rooms in the drawing, or none."""
    done = set()

    def walk(room, way):
        if room in way:
            return way[way.index(room):] + [room]
        if room in done:
            return None
        for after in sorted(table.get(room, ())):
            found = walk(after, way + [room])
            if found:
                return found
        done.add(room)
        return None

    return next(filter(None, (walk(room, []) for room in sorted(table))), None)


def check(source):
    """What is wrong, a sentence each."""
    table, declared = drawn(source)
    wrong = [f'lib.rs draws no room {room}' for room in sorted(declared - set(table))]
    wrong += [f'lib.rs draws {room}, which it does not have' for room in sorted(set(table) - declared)]
    seen = {room: set() for room in table}
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), source)
            room = path.split(os.sep)[0].removesuffix('.rs')
            if not name.endswith('.rs') or room not in table or is_test(path):
                continue
            with open(os.path.join(source, path), encoding='utf-8') as file:
                others = (used(file.read()) & set(table)) - {room}
            seen[room] |= others
            for other in sorted(others - table[room]):
                wrong.append(f'{path} uses {other}, but lib.rs draws no arrow from {room} to {other}')
    for room, allowed in table.items():
        wrong += [f'lib.rs draws an arrow from {room} to {other} that nothing uses' for other in sorted(allowed - seen[room])]
    found = circle(table)
    if found:
        wrong.append('a circle: ' + ' -> '.join(found))
    return wrong


def check_itself(source):
    """Breaks a copy of the tree in each way, and expects to be told of it."""
    def broken(room, line, table, expected):
        with tempfile.TemporaryDirectory() as copy:
            there = os.path.join(copy, 'src')
            shutil.copytree(source, there)
            path = os.path.join(there, room)
            with open(path, 'a', encoding='utf-8') as file:
                file.write(line)
            lib = os.path.join(there, 'lib.rs')
            with open(lib, encoding='utf-8') as file:
                text = file.read()
            with open(lib, 'w', encoding='utf-8') as file:
                file.write(table(text))
            wrong = check(there)
            assert any(expected in text for text in wrong), (expected, wrong)

    def draw(text):
        return re.sub(r'(?m)^(//! \| \[`system`\] \|.*\| )message \|$', r'\1message, report |', text)

    def same(text):
        return text

    broken('queue/entry.rs', '\nuse crate::outbound::Trace;\n', same, 'no arrow from queue to outbound')
    broken('queue/entry.rs', '\nfn f() { crate::outbound::send() }\n', same, 'no arrow from queue to outbound')
    broken('queue/entry.rs', '\nuse crate::{\n    dispatch::{self, Inputs},\n    outbound::Trace,\n};\n', same, 'no arrow from queue to outbound')
    broken('system/clock.rs', '\nuse crate::report::Event;\n', draw, 'a circle: ')
    broken('lib.rs', '\npub mod shed;\n', same, 'draws no room shed')
    broken('queue/entry.rs', '', lambda text: text.replace('| system |\n', '| queue, system |\n', 1), 'that nothing uses')


def main():
    """Says what is wrong, and ends with 1 then."""
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'src')
    wrong = check(source)
    for text in wrong:
        print(f'arrows.py: {text}', file=sys.stderr)
    if wrong:
        sys.exit(1)
    if len(sys.argv) == 1:
        check_itself(source)
    print(f'arrows.py: {len(drawn(source)[0])} rooms, no circle.')


if __name__ == '__main__':
    main()
