#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether run.py leaves a router as it found it, without a router: the router is a folder with busybox in it (chroot, as root).

Nothing of the gateway runs there, so every check fails; what counts is what is left. Skipped without root or busybox.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = 'etc/smtprelay-test-kept'
SETTINGS = "config relay 'main'\n\toption hostname 'the owner'\n"
NETWORK = "config interface 'lan'\n"
# Enough of an init script for keep.py; that it is enabled or runs is a file.
INIT = '''#!/bin/sh
case "$1" in
enabled) [ -e /state/enabled ] ;;
enable) touch /state/enabled ;;
disable) rm -f /state/enabled ;;
running) [ -e /state/running ] ;;
start|restart|boot) touch /state/running ;;
stop) rm -f /state/running ;;
*) exit 1 ;;
esac
'''


def runs(process):
    """Whether there is a process with this number; one that has ended and was not waited for does not count."""
    try:
        with open(f'/proc/{process}/stat', encoding='utf-8') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@unittest.skipIf(os.geteuid() != 0 or not shutil.which('busybox'), 'needs root and busybox')
class Kept(unittest.TestCase):
    """A router that is a folder."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = holder.name
        for folder in ('bin', 'etc/config', 'etc/init.d', 'tmp', 'state', 'usr/sbin', 'dev'):
            os.makedirs(os.path.join(self.root, folder))
        busybox = shutil.which('busybox')
        shutil.copy(busybox, self.path('bin/busybox'))
        for line in subprocess.run(['ldd', busybox], capture_output=True, text=True, check=False).stdout.splitlines():
            for word in line.split():
                if word.startswith('/'):
                    os.makedirs(os.path.dirname(self.path(word[1:])), exist_ok=True)
                    shutil.copy(word, self.path(word[1:]))
        self.run_there('/bin/busybox --install -s /bin')
        self.write('etc/init.d/smtprelay', INIT, 0o755)
        self.write('etc/config/smtprelay', SETTINGS, 0o600)
        self.write('etc/config/network', NETWORK)
        self.write('bin/ubus', '#!/bin/sh\n', 0o755)
        self.write('dev/null', '')
        self.write('state/enabled', '')
        self.write('state/running', '')
        self.before = self.state()

    def path(self, name):
        """A file of the router, seen from here."""
        return os.path.join(self.root, name)

    def write(self, name, text, mode=0o644):
        """Makes a file there."""
        with open(self.path(name), 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def run_there(self, line):
        """Runs a line there."""
        return subprocess.run(['chroot', self.root, '/bin/busybox', 'sh', '-c', line], check=False)

    def state(self):
        """Everything below /etc and /state: names, modes, contents."""
        found = {}
        for top in ('etc', 'state'):
            for folder, _, names in os.walk(self.path(top)):
                for name in names:
                    path = os.path.join(folder, name)
                    with open(path, encoding='utf-8') as file:
                        found[os.path.relpath(path, self.root)] = (os.stat(path).st_mode, file.read())
        return found

    def command(self):
        """The shell of the router for run.py."""
        return f'chroot {self.root} /bin/busybox sh -c'

    def start(self, **more):
        """Begins a run. Nothing is installed, so the first check fails."""
        env = dict(os.environ, OPENWRT_SH=self.command(), OPENWRT_ADDRESS='127.0.0.1', **more)
        return subprocess.Popen([sys.executable, os.path.join(HERE, 'run.py')], env=env, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def test_after_a_run_that_failed(self):
        """A check that fails, settings that are overwritten."""
        said, _ = self.start().communicate(timeout=120)
        self.assertIn('FAIL', said)
        self.assertEqual(self.state(), self.before, said)

    def test_without_settings_and_without_a_service(self):
        """What was not there is not there afterwards."""
        os.remove(self.path('etc/config/smtprelay'))
        os.remove(self.path('state/enabled'))
        os.remove(self.path('state/running'))
        before = self.state()
        said, _ = self.start().communicate(timeout=120)
        self.assertEqual(self.state(), before, said)

    def interrupted(self, number):
        """A run that is ended by a signal amid a check, with the settings overwritten."""
        # It ends with its own file: without the folder there would be no sleep either, and it would go round and round.
        slow = 'while [ -e "$0" ]; do sleep 1; done'
        self.write('usr/sbin/smtprelay', f'#!/bin/sh\necho $$ >/dev/pid; echo "config relay" >/etc/config/smtprelay; {slow}\n', 0o755)
        run = self.start()
        end = time.monotonic() + 60
        while self.state()['etc/config/smtprelay'][1] == SETTINGS and time.monotonic() < end:
            time.sleep(0.1)
        run.send_signal(number)
        # What it waits for on the router ends as well, as with a connection that breaks.
        os.remove(self.path('usr/sbin/smtprelay'))
        said, _ = run.communicate(timeout=120)
        with open(self.path('dev/pid'), encoding='utf-8') as file:
            process = file.read().strip()
        end = time.monotonic() + 60
        while runs(process) and time.monotonic() < end:
            time.sleep(0.1)
        self.assertFalse(runs(process), 'what ran on the router has not ended')
        return said

    def test_after_a_run_that_was_ended(self):
        """By a terminal that is closed, or by whoever ran it."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            said = self.interrupted(number)
            self.assertEqual(self.state(), self.before, f'{number}: {said}')

    def test_a_run_that_was_killed_is_made_good_by_the_next(self):
        """Nothing could be put back: what is on the flash is."""
        self.interrupted(signal.SIGKILL)
        self.assertNotEqual(self.state(), self.before)
        # The router's restart takes what is in RAM.
        shutil.rmtree(self.path('tmp'))
        os.mkdir(self.path('tmp'))
        said, _ = self.start().communicate(timeout=120)
        self.assertIn('an earlier run was interrupted', said)
        self.assertEqual(self.state(), self.before, said)

    def test_a_copy_that_is_not_whole_changes_nothing(self):
        """It was interrupted before anything had changed."""
        os.mkdir(self.path(KEPT))
        self.write(f'{KEPT}/network', 'half')
        said, _ = self.start().communicate(timeout=120)
        self.assertEqual(self.state(), self.before, said)


if __name__ == '__main__':
    unittest.main()
