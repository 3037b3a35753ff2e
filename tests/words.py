#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks for phrases that a native speaker would not write, in everything that people read.

Searched: docs and the pages of the root in whole, comments and string literals of src, the texts and comments of the
LuCI pages with their German translation's English half, files of the package and its makefiles. Names in the code are
not searched. A phrase comes with what to say instead. The check first looks at samples of its own: it must find each
phrase in them and nothing in what is fine.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Phrase (a regular expression, whatever the case), what to say, a sample with it, and one without that looks similar.
BANNED = [
    (r'\banew\b', 'again, restart, recreate', 'it is made anew', 'a new one'),
    (r'\bput(?:s|ting)? (?:it |them |mail )?off\b', 'defer, deferred', 'it was put off', 'put it in the queue'),
    (r'\bgo(?:es)? in circles\b', 'mail loop', 'the message goes in circles', 'a circle of imports'),
    (r'\bseen and steered\b', 'inspect, manage', 'the queue, seen and steered', 'as seen in the log'),
    (r"(?<!here\x20)\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|later\b|earlier\b|different\b|other\b)(?=[a-z])",
     '"is not a"', 'this is no file', 'there is no file, and it is no longer used'),
    (r'\bbeside\b', 'next to, in addition to', 'beside the queue', 'besides, it is'),
    (r"\b(?:its|his|their|your|whose) turn\b", 'next attempt', 'it was never its turn', 'in turn'),
    (r'\boutwards\b', 'upstream', 'safe outwards', 'outward appearance'),
    (r'\bhears? (?:of|no|how|who|what)\b', 'is notified, is reported', 'the owner hears of it', 'here of all places'),
    (r'\b(?:break|breaks|broke|broken) off\b', 'abort, aborted', 'it was broken off', 'a broken connection'),
    (r'\bpatience\b', 'timeout', 'their patience ends', 'patients'),
    (r'\bsmall letters\b', 'case-insensitive, lower case', 'may be written in small letters', 'small numbers'),
    (r'\b(?:is|are|was|were|be|been|being) told\b', 'notified, reported', 'the sender is told', 'it told the truth'),
    (r'\bin whatever\b', 'in any', 'in whatever order', 'whatever it is'),
    (r'\bcomes? to nothing\b', 'fails', 'the attempt comes to nothing', 'nothing comes'),
    (r"\bcan(?:'t|not| not) be had\b", 'is not available', "it can't be had", 'it cannot be read'),
    (r'\btill\b', 'until', 'till the end', 'until the end'),
    (r'\bsomebody\b', 'say who: the sender, the administrator', 'somebody reads it', 'the body'),
    (r'\bspeaks? of\b', 'mentions', 'the reply speaks of it', 'it speaks ESMTP'),
    (r'\bone (?:letter|line|mail) a (?:message|recipient|event)\b', 'per', 'one line a message', 'one line per message'),
    (r'\b(?:mails?|messages?|lines?) a day\b', 'per day', '17 mails a day', '17 messages per day'),
    (r'\bof as old\b|\bas of old\b', 'as before, older', 'as of old', 'as old as'),
    (r'\bgoodbye\b(?! \()', 'QUIT, closes', 'it says goodbye', 'it sends QUIT'),
    (r'\bin the house\b', 'internal', 'it stays in the house', 'in the housing'),
]


def rust_texts(text):
    """The string literals of Rust source, and its comments: lines that follow each other as one."""
    token = re.compile(r'//[^\n]*|r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', re.S)
    found = []
    for match in token.finditer(text):
        start, part = match.start(), match.group()
        if found and part.startswith('//') and found[-1][1].startswith('//'):
            gap = text[found[-1][0] + len(found[-1][1]):start]
            if gap.strip() == '' and gap.count('\n') == 1:
                found[-1] = (found[-1][0], found[-1][1] + gap + part)
                continue
        found.append((start, part))
    return found


def whole(text):
    return [(0, text)]


def po_texts(text):
    """The English of a catalogue; its German is not searched, and its references are paths."""
    return [(m.start(), m.group()) for m in re.finditer(r'^msgid "(?:.*\n)(?:"[^\n]*\n)*', text, re.M)]


def sources():
    for name in ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md']:
        yield ROOT / name, whole
    for path in sorted((ROOT / 'docs').rglob('*.md')):
        yield path, whole
    for path in sorted((ROOT / 'src').rglob('*.rs')):
        yield path, rust_texts
    yield ROOT / 'src/config/providers.json', whole
    for path in sorted((ROOT / 'openwrt').rglob('*')):
        if path.suffix == '.js' or path.name == 'Makefile' or path.suffix == '.json':
            yield path, whole
        elif path.suffix == '.pot':
            yield path, po_texts
    for path in sorted((ROOT / 'files').rglob('*')):
        if path.is_file():
            yield path, whole


def without_code(text):
    """Journal notes and other code between backticks are no words of ours; the length stays."""
    return re.sub(r'`[^`\n]*`', lambda match: ' ' * len(match.group()), text)


def findings(text, texts_of):
    for start, part in texts_of(text):
        part = without_code(part)
        # A phrase may go on in the next line of a comment or a text.
        joined = re.sub(r'\n[ \t]*(?://[/!]? ?|\* |#)?', lambda m: '\n' + ' ' * (len(m.group()) - 1), part)
        for phrase, instead, *_ in BANNED:
            for match in re.finditer(phrase.replace(' ', r'\s+'), joined, re.I):
                line = text.count('\n', 0, start + match.start()) + 1
                yield line, ' '.join(match.group().split()), instead


def check_itself():
    for phrase, _, bad, good in BANNED:
        if not re.search(phrase.replace(' ', r'\s+'), bad, re.I):
            sys.exit(f'words.py: {phrase} does not find "{bad}"')
        if re.search(phrase.replace(' ', r'\s+'), good, re.I):
            sys.exit(f'words.py: {phrase} finds "{good}"')
    samples = {
        'fn anew() {}': 0,
        '// made anew\nfn x() {}': 1,
        'let x = "made anew";': 1,
        '/// It was put\n/// off again.\n': 1,
    }
    for text, count in samples.items():
        if len(list(findings(text, rust_texts))) != count:
            sys.exit(f'words.py: {text!r} should have {count} findings')


def main():
    check_itself()
    count = 0
    for path, texts_of in sources():
        text = path.read_text()
        for line, phrase, instead in findings(text, texts_of):
            print(f'{path.relative_to(ROOT)}:{line}: "{phrase}": say {instead}')
            count += 1
    if count:
        sys.exit(f'words.py: {count} phrases to reword (see CONTRIBUTING.md)')
    print(f'words.py: none of {len(BANNED)} phrases.')


main()
