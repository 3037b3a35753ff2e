#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of a catalogue of translations (.po) what LuCI reads on the router (.lmo).

	scripts/lmo.py CATALOGUE.po RESULT.lmo

In OpenWrt's build system LuCI's own po2lmo does it; this is for packages that are built without. An .lmo file is

- the translations, each filled up with zeros to a multiple of 4 bytes;
- an entry of four 32-bit numbers, most significant byte first, for each: hash of the original, number of its forms,
  offset and length of the translation. Entries are in the order of their hashes;
- the offset of the first entry.

What is hashed is the original; behind it, for words that have plural forms, the byte 2 and the number of the form; and
in front of it, where there is one, the context and the byte 1. The entry with the hash 0 is the rule for plural forms.
A translation that is the same as its original is left out. The hash is Paul Hsieh's SuperFastHash, begun with the length.
"""

import re
import struct
import sys

FIELD = re.compile(r'(?:(msgctxt|msgid|msgid_plural|msgstr)(?:\[(\d+)\])?\s+)?"(.*)"\s*$')
MASK = 0xFFFFFFFF


def signed(byte):
    return byte - 256 if byte > 127 else byte


def superfasthash(data):
    """The hash of some bytes, 32 bits."""
    value = len(data)
    if not data:
        return 0
    whole = len(data) & ~3
    for low, high in struct.iter_unpack('<HH', data[:whole]):
        value = (value + low) & MASK
        value = ((value << 16) ^ (high << 11) ^ value) & MASK
        value = (value + (value >> 11)) & MASK
    rest = data[whole:]
    if len(rest) >= 2:
        value = (value + rest[0] + (rest[1] << 8)) & MASK
    if len(rest) == 3:
        value ^= (value << 16) & MASK
        value ^= (signed(rest[2]) << 18) & MASK
        value = (value + (value >> 11)) & MASK
    elif len(rest) == 2:
        value ^= (value << 11) & MASK
        value = (value + (value >> 17)) & MASK
    elif len(rest) == 1:
        value = (value + signed(rest[0])) & MASK
        value ^= (value << 10) & MASK
        value = (value + (value >> 1)) & MASK
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value ^= (value << left) & MASK
        value = (value + (value >> right)) & MASK
    return value


def unescaped(text):
    """Quotes and backslashes lose the backslash before them. Other escapes stay as they are: LuCI looks for them so."""
    return re.sub(r'\\(["\\])', r'\1', text)


def messages(lines):
    """The messages of a catalogue: a dictionary of fields for each, with the forms of msgstr by their number."""
    message, field = {}, None
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        match = FIELD.match(line)
        if not match:
            raise ValueError(f'line {number}: neither a comment nor a field: {line}')
        name, form, text = match.groups()
        if name:
            field = (name, int(form or 0))
            if name in ('msgctxt', 'msgid') and any(key[0] == 'msgstr' for key in message):
                yield message
                message = {}
            message[field] = ''
        elif not field:
            raise ValueError(f'line {number}: text without a field')
        message[field] += unescaped(text)
    if message:
        yield message


def compiled(lines):
    """The bytes of an .lmo file for the lines of a catalogue."""
    data, entries = b'', []

    def add(key, forms, text):
        nonlocal data
        text = text.encode()
        entries.append((key, forms, len(data), len(text)))
        data += text + bytes(-len(text) % 4)

    for message in messages(lines):
        original = message.get(('msgid', 0), '')
        forms = {number: text for (name, number), text in message.items() if name == 'msgstr'}
        if not original:
            rule = re.search(r'^Plural-Forms: (.*)$', forms.get(0, '').replace('\\n', '\n'), re.MULTILINE)
            if rule:
                add(0, 0, rule.group(1))
            continue
        context = message.get(('msgctxt', 0))
        for number, text in sorted(forms.items()):
            key = original if context is None else f'{context}\1{original}'
            if ('msgid_plural', 0) in message:
                key += f'\2{number}'
            hashed = superfasthash(key.encode())
            if text and hashed != superfasthash(text.encode()):
                add(hashed, max(forms) + 1, text)
    index = b''.join(struct.pack('>4I', *entry) for entry in sorted(entries))
    return data + index + struct.pack('>I', len(data))


def main():
    if len(sys.argv) != 3:
        sys.exit('usage: scripts/lmo.py CATALOGUE.po RESULT.lmo')
    with open(sys.argv[1], encoding='utf-8') as catalogue:
        try:
            result = compiled(catalogue)
        except ValueError as error:
            sys.exit(f'lmo.py: {sys.argv[1]}: {error}')
    with open(sys.argv[2], 'wb') as file:
        file.write(result)


if __name__ == '__main__':
    main()
