#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Monit 5.33.0 (Debian 12, monit 1:5.33.0-1): one refused recipient withholds every alert from some of the other recipients
# and, with an event queue, sends the same alert to the rest of them in each cycle.
#
# Monit sends an alert to each address of "set alert" in a transaction of its own, the last address of the file first, and
# ends the session at the first RCPT that is refused. The manual describes the event queue as a store for the time in which
# no mail server is available, but any refusal puts the event into it, even a permanent one. The queue keeps the event, not
# the recipients who have yet to receive it, so each retry starts again with the last address, and a permanent refusal never
# ends the retries. One mailbox that was closed, or that a relay does not allow, fills the mailboxes of the addresses after
# it, while the addresses before it receive nothing, and Monit logs only the refusal. Each copy has a new Message-ID, so a
# server that discards duplicates cannot recognize them. A temporary refusal (greylisting, a rate limit) has the same
# effect until it ends. Without a queue the alert is dropped for the addresses before the refused one.
#
# Seen with the addresses ops, night and chief in this order, of which the server refuses night; the number of copies of
# one alert that each received, and of different Message-IDs among them (the first case is stopped at five):
#	550 5.1.1 each time, event queue: ops 0, night 0, chief 5, Message-IDs 5
#	451 4.7.1 three times, event queue: ops 1, night 1, chief 4, Message-IDs 6
#	550 5.1.1 each time, no queue: ops 0, night 0, chief 1, Message-IDs 1
#	no refusal, event queue: ops 1, night 1, chief 1, Message-IDs 3
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of Monit (package monit installs them). Loopback
# only. Ends with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download monit=1:5.33.0-1
dpkg -x ./*.deb root
cat >play.py <<'END'
"""Plays the mail server, runs Monit with one alert to report, and counts who receives it how often."""
import os, re, signal, socket, subprocess, sys, tempfile, threading, time

MONIT = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends Monit as well
RECIPIENTS = ["ops", "night", "chief"]
CONFIGURATION = """set daemon 1
set idfile {folder}/id
set statefile {folder}/state
set pidfile {folder}/pid
set log {folder}/log
{queue}
set mailserver 127.0.0.1 port {port}
set mail-format {{ from: plc@example.com }}
{alerts}
check file sensor with path {folder}/missing
    if does not exist then alert
"""


class Server:
    """Refuses night as often as it has replies for it, and keeps recipient and Message-ID of what it accepts."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.accepted = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            connection.settimeout(30)
            lines = connection.makefile("rb")
            connection.sendall(b"220 mx ESMTP\r\n")
            recipient = None
            for line in lines:
                verb, reply = line[:4].upper(), b"250 ok"
                if verb == b"RCPT":
                    recipient = re.search(rb"<(\w+)@", line).group(1).decode()
                    if recipient == "night" and self.refusals:
                        reply = self.refusals.pop(0)
                elif verb == b"DATA":
                    connection.sendall(b"354 go on\r\n")
                    message = b""
                    while not message.endswith(b"\r\n.\r\n"):
                        message += lines.readline()
                    self.accepted.append((recipient, re.search(rb"(?im)^Message-Id: *(\S+)", message).group(1)))
                elif verb == b"QUIT":
                    reply = b"221 bye"
                connection.sendall(reply + b"\r\n")
                if verb == b"QUIT":
                    return

    def copies(self, recipient):
        return sum(name == recipient for name, _ in self.accepted)


def case(title, refusals, queue, done):
    server = Server(refusals)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        folder = os.path.abspath(folder)
        configuration = os.path.join(folder, "monitrc")
        with open(os.open(configuration, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(CONFIGURATION.format(
                folder=folder, port=server.listener.getsockname()[1],
                queue=f"set eventqueue basedir {folder}/queue slots 100" if queue else "",
                alerts="\n".join(f"set alert {name}@example.com only on {{ nonexist }}" for name in RECIPIENTS)))
        monit = subprocess.Popen([MONIT, "-I", "-c", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 30
            while not done(server) and time.monotonic() < end:
                time.sleep(0.05)
            if server.copies("chief") < 5:
                time.sleep(4)  # four more cycles, in which nothing else may arrive
            accepted = list(server.accepted)
        finally:
            monit.terminate()
            try:
                monit.wait(20)
            except subprocess.TimeoutExpired:
                monit.kill()
                monit.wait()
            server.listener.close()
    counts = ", ".join(f"{name} {sum(to == name for to, _ in accepted)}" for name in RECIPIENTS)
    print(f"{title}: {counts}, Message-IDs {len({number for _, number in accepted})}", flush=True)


def chief_has(number):
    return lambda server: server.copies("chief") >= number


def ops_has_one(server):
    return server.copies("ops") >= 1


case("550 5.1.1 each time, event queue", [b"550 5.1.1 no such mailbox"] * 100, True, chief_has(5))
case("451 4.7.1 three times, event queue", [b"451 4.7.1 try again later"] * 3, True, ops_has_one)
case("550 5.1.1 each time, no queue", [b"550 5.1.1 no such mailbox"] * 100, False, chief_has(1))
case("no refusal, event queue", [], True, ops_has_one)
END
cat >expected <<'END'
550 5.1.1 each time, event queue: ops 0, night 0, chief 5, Message-IDs 5
451 4.7.1 three times, event queue: ops 1, night 1, chief 4, Message-IDs 6
550 5.1.1 each time, no queue: ops 0, night 0, chief 1, Message-IDs 1
no refusal, event queue: ops 1, night 1, chief 1, Message-IDs 3
END
timeout 170 python3 play.py "$folder/root/usr/bin/monit" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: Monit no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
