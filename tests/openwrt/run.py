#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The gateway on an OpenWrt that runs: procd, ubusd, netifd, logd, uci. Run it on a machine in the router's LAN.

	OPENWRT_SH='ssh root@192.168.1.1' OPENWRT_PROGRAM=target/cross/x86_64/smtprelay tests/openwrt/run.py

OPENWRT_SH        a command that takes a line for the router's shell, run as root, as its last argument; nothing runs without
OPENWRT_ADDRESS   the router's address in the LAN (192.168.1.1)
OPENWRT_CLIENT    a command before this program that puts it into the LAN, such as `ip netns exec lan`
OPENWRT_PACKAGE   the .apk or .ipk to install first, or
OPENWRT_PROGRAM   a program for the router, to be installed with files/ by copying; without either, what is there is tested
OPENWRT_ONLY      names of checks, with commas: no others but the start
OPENWRT_JAIL      0: without a jail, where there could be one
OPENWRT_REBOOT    a command that restarts the router and ends when it is down; without, the shutdown is played
OPENWRT_RECORD    a folder that gets what was said to the router and its answers, a file a check

Needs Python 3 and openssl here. The router's settings are kept on its flash (/etc/smtprelay-test-kept) and come back at the
end, however the run ends; what could not come back is put back by the next run (keep.py; keep_test.py is its test). For the
time of the test there is a network `relaytest` on the LAN's device (192.168.254.1), and the queue is in /tmp.
Prints a line a check: ok, FAIL or skipped, and the sum. Exit code 1 if one failed.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile

from checks import CHECKS, Gateway
from provider import Provider
from router import Account, Router

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
FILES = os.path.join(ROOT, 'files')


def install(router):
    """The gateway is installed"""
    package, program = os.environ.get('OPENWRT_PACKAGE'), os.environ.get('OPENWRT_PROGRAM')
    if package:
        with open(package, 'rb') as file:
            router.put(f'/tmp/{os.path.basename(package)}', file.read())
        how = 'apk add --allow-untrusted' if package.endswith('.apk') else 'opkg install --force-reinstall'
        router.sh(f'{how} /tmp/{os.path.basename(package)}')
    elif program:
        with open(program, 'rb') as file:
            router.put('/usr/sbin/smtprelay', file.read(), '0755')
        for folder, _, names in os.walk(FILES):
            for name in names:
                source = os.path.join(folder, name)
                target = '/' + os.path.relpath(source, FILES)
                router.sh(f'mkdir -p {os.path.dirname(target)}')
                with open(source, 'rb') as file:
                    router.put(target, file.read(), '0755' if '/init.d/' in target else '0600' if '/config/' in target else '0644')
        router.sh('. /lib/functions.sh; group_exists smtprelay || group_add smtprelay 465; '
                  'user_exists smtprelay || user_add smtprelay 465 465 smtprelay /var/run/smtprelay; killall -HUP ubusd')
    router.sh('/usr/sbin/smtprelay --version && grep ^smtprelay: /etc/passwd /etc/group && ls -l /etc/init.d/smtprelay')


def ended(number, _):
    """A signal ends the run as an exception does, so that the router is put back."""
    sys.exit(128 + number)


def main():
    """Runs all checks: the exit code."""
    command = os.environ.get('OPENWRT_SH')
    if not command:
        print(f'skipped all {len(CHECKS)} checks on OpenWrt: OPENWRT_SH names no shell of a router')
        print(f'0 ok, 0 FAIL, {len(CHECKS)} skipped')
        return 0
    client = os.environ.pop('OPENWRT_CLIENT', None)
    if client:
        return subprocess.run(shlex.split(client) + [sys.executable] + sys.argv, check=False).returncode
    address = os.environ.get('OPENWRT_ADDRESS', '192.168.1.1')
    router = Router(command, os.environ.get('OPENWRT_RECORD'))
    account = Account(router)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        own = probe.getsockname()[0]
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(router, address, own, Provider(own, folder))
        restored = False
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, ended)
        try:
            gateway.keep_aside()
            # Without a gateway that starts nothing else is worth its wait.
            if account.check(install, router) and account.check(CHECKS[0], gateway):
                only = os.environ.get('OPENWRT_ONLY', '')
                for check in (one for one in CHECKS[1:] if not only or one.__name__ in only.split(',')):
                    if not account.check(check, gateway):
                        gateway.recover()
        finally:
            router.name = 'end'
            # One signal is enough: the second would leave the router as it is.
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            restored = gateway.put_back()
    return account.close() or (0 if restored else 1)


if __name__ == '__main__':
    sys.exit(main())
