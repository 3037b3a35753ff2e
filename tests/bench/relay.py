# SPDX-License-Identifier: Apache-2.0
"""A relay in general: a scratch folder, a free port, its start and its end; and where the unpacked packages are."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import time

import processes
from tools import free_port

START_LIMIT = 20


class Missing(Exception):
    """Why a relay cannot be measured."""


class Peer:
    """A relay with a folder of its own. Subclasses say how it is set up and started."""

    name = ""
    # Whether messages wait on disk, and what is synced before the 250.
    queues = True
    synced = "yes"
    # Seconds for an orderly end; only that of smtprelay is of interest here.
    stop_patience = 0

    def __init__(self, context, account_port, ca):
        self.context, self.account_port, self.ca = context, account_port, ca
        self.dir = context.folder(self.name.split()[0].lower())
        self.port = free_port()
        self.log = open(os.path.join(self.dir, "output"), "w", encoding="utf-8")
        self.set_up()
        self.relay = None

    def set_up(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def environment(self):
        return None

    def start(self):
        """Starts it; the seconds until it has greeted the first client."""
        begin = time.monotonic()
        self.relay = processes.Relay(self.command(), self.log, cwd="/", env=self.environment())
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                    if connection.recv(3) == b"220":
                        took = time.monotonic() - begin
                        connection.sendall(b"QUIT\r\n")
                        return took
            except OSError:
                pass
            if not self.relay.alive() or time.monotonic() - begin > START_LIMIT:
                self.relay.stop()
                with open(self.log.name, encoding="utf-8", errors="replace") as log:
                    raise RuntimeError(f"{self.name} does not start: {log.read()[-2000:]}")
            time.sleep(0.001)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.relay:
            self.relay.stop(self.stop_patience)
        self.log.close()
        # BENCH_DEBUG names a folder for what relays have logged.
        if debug := os.environ.get("BENCH_DEBUG"):
            for name in ("output", "postfix.log", "log/mainlog", "log/paniclog"):
                if os.path.exists(path := os.path.join(self.dir, name)):
                    shutil.copy(path, os.path.join(debug, f"{self.name}-{os.path.basename(name)}"))
        # The folder stays until the end of the run: deleting a long queue would disturb the next relay.

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def folder_of(self, user, *names):
        """Folders that belong to the user of a relay."""
        for name in names:
            path = os.path.join(self.dir, name)
            os.makedirs(path, exist_ok=True)
            owner = pwd.getpwnam(user)
            os.chown(path, owner.pw_uid, owner.pw_gid)


def unpacked(context, program, *users):
    """The program among the unpacked packages, or why it is not there."""
    path = os.path.join(context.servers, "root", program)
    if not os.path.isfile(path):
        raise Missing(f"{program} is not in {context.servers}; scripts/servers.sh fetches it")
    for user in users:
        try:
            pwd.getpwnam(user)
        except KeyError as error:
            raise Missing(f"there is no user {user}; scripts/servers.sh adds it when root runs it") from error
    return path


def libraries(context):
    root = os.path.join(context.servers, "root")
    found = [os.path.join(root, "usr/lib/postfix")]
    for parent in ("usr/lib", "lib"):
        folder = os.path.join(root, parent)
        if os.path.isdir(folder):
            found += [os.path.join(folder, name) for name in os.listdir(folder) if "-linux-" in name]
    return ":".join(found)


def first_line(command, pattern, **more):
    """What a program says about its version, as far as the pattern matches it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[0] if found else "version unknown"
