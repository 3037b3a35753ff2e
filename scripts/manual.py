#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the manual page smtprelay(8) and the completion for bash.

	scripts/manual.py PROGRAM FOLDER	writes FOLDER/smtprelay.8 and FOLDER/smtprelay.bash

The commands come from the program's own help, the settings from the tables of docs/reference/settings.md, which tests
compare with the program. Nothing is written by hand twice.
"""
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def commands(text):
    """The commands of the help with their usage and what they do; then its last lines."""
    found, rest = [], []
    for line in text.splitlines()[2:]:
        if rest or not line.startswith('  '):
            rest.append(line)
        elif line.startswith('   '):
            found[-1][1].append(line[23:] if line[:23].isspace() else line.strip())
        else:
            usage, _, what = line.strip().partition('  ')
            found.append((usage, [what.strip()] if what else []))
    if len(found) < 15 or not rest or not all(what for _, what in found):
        sys.exit('manual.py: the help does not look as expected')
    return found, rest


def sections(text):
    """Each section of the settings with its options: (name, default, meaning)."""
    found, table = [], False
    for line in text.splitlines():
        heading = re.match(r'## `config (\w+)', line)
        if heading:
            found.append((heading[1], []))
        cells = [cell.replace('\0', '|').strip() for cell in line.replace('\\|', '\0').strip('|').split('|')]
        if not line.startswith('|'):
            table = False
        elif cells[0] == 'option' and cells[-1] == 'meaning':
            table = True
        elif table and found and not set(cells[0]) <= set('-'):
            found[-1][1].append((cells[0], cells[1] if len(cells) == 3 else '', cells[-1]))
    if len(found) < 6 or any(len(options) < 2 for _, options in found):
        sys.exit(f'manual.py: docs/reference/settings.md does not look as expected: {[(n, len(o)) for n, o in found]}')
    return found


def roff(text):
    """A text for troff: links become their words, code becomes bold."""
    text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', text).replace('\\', '\\e').replace('-', '\\-')
    text = re.sub(r'`([^`]*)`', r'\\fB\1\\fR', text)
    text = ''.join(c if ord(c) < 128 else f'\\[u{ord(c):04X}]' for c in text)
    return '\\&' + text if text[:1] in ".'" else text


def page(version, found, rest, settings):
    """The manual page."""
    out = [f'.TH SMTPRELAY 8 "" "smtprelay {version}" "System Administration"',
           '.SH NAME', 'smtprelay \\- mail gateway for devices that do not support modern mail providers',
           '.SH SYNOPSIS', '.B smtprelay', '\\fICOMMAND\\fR [\\fB\\-\\-config\\fR \\fIFILE\\fR]',
           '.SH DESCRIPTION',
           'Accepts plain SMTP from devices on a LAN, queues and repairs each message, and delivers it through a mail',
           'provider over verified TLS with a login.',
           '.SH COMMANDS AND OPTIONS']
    for usage, what in found:
        out += ['.TP', f'.B {roff(usage)}']
        # Options of a command stand on lines of their own.
        for line in what:
            out += ['.br', roff(line.strip())] if re.match(r'\s+-', line) else [roff(line)]
    for line in rest:
        name, _, text = line.partition(': ')
        out += [f'.SH {name.upper()}', roff(text)] if name in ('Signals', 'Exit codes') else ['.SH OTHER NAMES', roff(line)]
    out += ['.SH SETTINGS', 'The file is in the UCI format. Each section may have these options; the default is in parentheses.']
    for name, options in settings:
        out.append(f'.SS config {name}')
        for option, default, meaning in options:
            default = f' ({roff(default)})' if default else ''
            out += ['.TP', f'{roff(option)}{default}', roff(meaning) or '\\&']
    out += ['.SH FILES', '.TP', '.I /etc/config/smtprelay', 'Settings.', '.TP', '.I /var/spool/smtprelay',
            'Queue, unless option spool names another directory.', '.TP', '.I /etc/smtprelay',
            'Stored passwords and tokens, encrypted.', '.SH SEE ALSO', 'docs/ in the source tree, RFC 5321.']
    return '\n'.join(out) + '\n'


def completion(found):
    """The completion for bash."""
    tree, options = {}, {}
    for usage, _ in found:
        words = usage.split()
        if words[0].startswith('-'):
            continue
        path = [words[0]] + [word for word in words[1:2] if re.fullmatch(r'[a-z]+', word)]
        tree.setdefault(path[0], set()).update(path[1:])
        options.setdefault(path[0], set()).update(re.findall(r'--[a-z-]+', usage))
    cases = []
    for command in sorted(tree):
        words = ' '.join(sorted(tree[command]) + sorted(options[command]) + ['--config'])
        cases.append(f'\t{command}) words=\'{words}\' ;;')
    return '\n'.join([
        '# Completion of smtprelay for bash. Made by scripts/manual.py.',
        '_smtprelay() {',
        '\tlocal words=',
        '\tif [ "${COMP_WORDS[COMP_CWORD-1]}" = --config ]; then',
        '\t\tmapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")',
        '\t\treturn',
        '\tfi',
        '\tif [ "$COMP_CWORD" -eq 1 ]; then',
        f'\t\twords=\'{" ".join(sorted(tree))} --help --version\'',
        '\telse',
        '\t\tcase "${COMP_WORDS[1]}" in',
        *('\t' + case for case in cases),
        '\t\tesac',
        '\tfi',
        '\tmapfile -t COMPREPLY < <(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}")',
        '}',
        'complete -F _smtprelay smtprelay',
    ]) + '\n'


def main():
    """Writes both."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    run = lambda word: subprocess.run([os.path.abspath(program), word], check=True, stdout=subprocess.PIPE, text=True).stdout
    found, rest = commands(run('--help'))
    version = run('--version').split()[1]
    settings = sections((ROOT / 'docs/reference/settings.md').read_text())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'smtprelay.8').write_text(page(version, found, rest, settings))
    (folder / 'smtprelay.bash').write_text(completion(found))
    print(f'{folder}/smtprelay.8, {folder}/smtprelay.bash')


main()
