# SPDX-License-Identifier: Apache-2.0
"""The router that is tested, reached by a command; and the account of what was found."""

import os
import shlex
import subprocess
import time
import traceback

# Seconds that anything on the router may take: it may be a slow one.
PATIENCE = 60


class Skip(Exception):
    """Why a check can't be made here."""


class Router:
    """A shell on the router, as root: OPENWRT_SH is the command that takes a line for it as its last argument."""

    def __init__(self, command, record=None):
        self.command = shlex.split(command)
        self.record = record
        self.name = ''

    def run(self, line, data=None, quiet=False):
        """Runs a line: exit code, and what it said on both ways out. Quiet ones are looked at, not recorded."""
        done = subprocess.run(self.command + [line], input=data, stdin=None if data is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=5 * PATIENCE, check=False)
        said = done.stdout.decode(errors='replace')
        if self.record and not quiet:
            self.note(f'# {line}\n{said}' + (f'(exit code {done.returncode})\n' if done.returncode else ''))
        return done.returncode, said

    def sh(self, line, data=None, quiet=False):
        """Runs a line that must succeed: what it said."""
        code, said = self.run(line, data, quiet)
        assert code == 0, f'"{line}" ended with {code}: {said.strip()}'
        return said

    def put(self, path, data, mode='0644'):
        """Makes a file, whole or not at all."""
        where = shlex.quote(path)
        self.sh(f'cat >{where}.new && chmod {mode} {where}.new && mv {where}.new {where}', data, quiet=True)

    def hear(self, line):
        """Starts a command that tells news; see Ear."""
        return Ear(self, line)

    def note(self, text):
        """Keeps a piece of the conversation, if anybody wants it."""
        if self.record:
            with open(os.path.join(self.record, f'{self.name or "setup"}.txt'), 'a', encoding='utf-8') as file:
                file.write(text)


class Ear:
    """A command on the router that goes on, and what it has said."""

    def __init__(self, router, line):
        self.router, self.line = router, line
        said = router.sh(f'({line}) >/tmp/smtprelay-ear.$$ 2>&1 & echo $! /tmp/smtprelay-ear.$$')
        self.pid, self.file = said.split()

    def said(self):
        """All that it has said up to now."""
        return self.router.sh(f'cat {self.file}', quiet=True)

    def close(self):
        """Ends it: what it has said."""
        said = self.router.sh(f'kill {self.pid}; cat {self.file}; rm {self.file}', quiet=True)
        self.router.note(f'# {self.line}   (heard in the meantime)\n{said}')
        return said


def until(what, look, limit=PATIENCE):
    """Waits until look() is true: its value."""
    end = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f'not within {limit} s: {what}'
        time.sleep(0.2)


class Account:
    """Runs checks in their order and counts."""

    def __init__(self, router):
        self.router = router
        self.count = {'ok': 0, 'FAIL': 0, 'skipped': 0}

    def say(self, verdict, what, why=''):
        """One line."""
        self.count[verdict] += 1
        print(f'{verdict:8}{what}' + (f': {why}' if why else ''), flush=True)

    def check(self, function, *arguments):
        """Makes one check: whether it did not fail. Its name and first line of documentation say which."""
        what = function.__doc__.split('\n')[0].rstrip('.')
        self.router.name = function.__name__
        try:
            function(*arguments)
            self.say('ok', what)
            return True
        except Skip as why:
            self.say('skipped', what, why)
            return True
        except Exception as error:  # pylint: disable=broad-exception-caught # the next check has to have its turn
            where = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(where) if frame.filename.endswith('checks.py')), 0)
            self.say('FAIL', what, f'checks.py:{line}: {error or type(error).__name__}')
        return False

    def close(self):
        """The sum: the exit code."""
        print(', '.join(f'{number} {verdict}' for verdict, number in self.count.items()))
        return 1 if self.count['FAIL'] else 0
