#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# NUT 2.8.0 (Network UPS Tools; Debian 12, nut-client 2.8.0-7): while the script of upssched sends a mail, no timer is started,
# cancelled or run. A shutdown that was cancelled in time is run all the same when the mail has been sent.
#
# upssched is the part of NUT that waits before it reports an outage or shuts down, and cancels that when the power returns.
# Its daemon runs CMDSCRIPT with system() and waits for it. An ONLINE that comes meanwhile remains in the socket. When the script
# returns, the daemon accepts the connection, but looks at the timers before it reads from it: the timer of the shutdown has
# ended by then, so the command is run, and the cancellation, which finds no timer, is answered with OK. If the power does not
# return, the shutdown comes as late as the mail server lets the script wait. Mail clients wait for minutes, and in an outage
# the server, the router or the switch in between is often without power too, so what was tried with a server that answers
# does not hold. With a script that sends the mail in the background, the timers are right.
#
# CANCEL-TIMER also removes only the oldest timer of the name. upsmon repeats NOCOMM every five minutes (NOCOMMWARNTIME), so
# with a longer timer several of them are pending; after COMMOK the others still report that the UPS is gone.
#
# Seen with timers of 1 s for the mail and 6 s for the shutdown, started by ONBATT and cancelled by ONLINE, and with one of 3 s,
# started by NOCOMM and cancelled by COMMOK: what the mail server and the UPS do -> what follows (late: after the mail; the
# power is always back before the 6 s have passed):
#	greets at once, power back after less than 5 s, ONLINE exits with 0 -> mail received, shutdown never
#	greets after 9 s, power back after less than 5 s, ONLINE exits with 0 -> mail received, shutdown late
#	greets after 9 s, script does not wait, power back after less than 5 s, ONLINE exits with 0 -> mail received, shutdown never
#	greets at once, power not back -> mail received, shutdown on time
#	greets after 9 s, power not back -> mail received, shutdown late
#	greets after 9 s, script does not wait, power not back -> mail received, shutdown on time
#	NOCOMM 1, COMMOK 1 -> command is run 0
#	NOCOMM 2, COMMOK 1 -> command is run 1
#	NOCOMM 3, COMMOK 1 -> command is run 2
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of nut-client (package nut-client installs them). The
# server is a small one within this file; the events are given to upssched as upsmon gives them. Loopback only. Ends with 0 when
# the behaviour is as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download nut-client=2.8.0-7
dpkg -x ./*.deb root
cat >play.py <<'END'
"""Gives upssched the events of a UPS as upsmon does, with a mail server that greets at once or late, and prints what it runs."""
import os, signal, socket, struct, subprocess, sys, tempfile, threading, time

ROOT = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends the daemon as well
SETTINGS = """CMDSCRIPT {folder}/command
PIPEFN {folder}/pipe
LOCKFN {folder}/lock
AT ONBATT * START-TIMER mail 1
AT ONBATT * START-TIMER shutdown 6
AT ONLINE * CANCEL-TIMER mail
AT ONLINE * CANCEL-TIMER shutdown
AT NOCOMM * START-TIMER gone 3
AT COMMOK * CANCEL-TIMER gone
"""
COMMAND = """#!/bin/sh
case "$1" in
mail) "{python}" -c 'import smtplib; smtplib.SMTP("127.0.0.1", {port}).sendmail("ups@example.com", ["ops@example.com"],
    "Subject: on battery")' {how} ;;
*) echo "$1" >>{folder}/log ;;
esac
"""


class Server:
    """Takes one message; greets when it is allowed to."""

    def __init__(self):
        self.connected, self.may_greet, self.received = threading.Event(), threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            connection, _ = self.listener.accept()
            self.connected.set()
            self.may_greet.wait(20)
            with connection:
                connection.settimeout(20)
                lines = connection.makefile("rb")
                connection.sendall(b"220 mx ESMTP\r\n")
                for line in lines:
                    connection.sendall(b"354 go on\r\n" if line[:4] == b"data" else b"250 ok\r\n")
                    if line[:4] == b"data":
                        while lines.readline() not in (b".\r\n", b""):
                            pass
                        connection.sendall(b"250 taken\r\n")
                        self.received.set()
        except OSError:
            pass


class Scheduler:
    def __init__(self, folder, port, how=""):
        self.folder = folder
        for name, content in (("upssched.conf", SETTINGS), ("command", COMMAND)):
            with open(f"{folder}/{name}", "w") as file:
                file.write(content.format(folder=folder, port=port, how=how, python=sys.executable))
        os.chmod(f"{folder}/command", 0o755)

    def event(self, kind):
        """Starts upssched for an event; the first one that starts a timer leaves the daemon behind."""
        return subprocess.Popen(
            [f"{ROOT}/sbin/upssched"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, NUT_CONFPATH=self.folder, UPSNAME="ups", NOTIFYTYPE=kind,
                     LD_LIBRARY_PATH=f"{ROOT}/usr/lib/x86_64-linux-gnu"))

    def ran(self):
        try:
            with open(f"{self.folder}/log") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def end(self):
        """Ends the daemon, which its socket names."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            if control.connect_ex(f"{self.folder}/pipe") == 0:
                process = struct.unpack("3i", control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                os.kill(process, signal.SIGKILL)


def until(moment):
    time.sleep(max(0, moment - time.monotonic()))


def outage(title, late, how="", returns=True):
    server = Server()
    if not late:
        server.may_greet.set()
    with tempfile.TemporaryDirectory() as folder:
        scheduler = Scheduler(folder, server.listener.getsockname()[1], how)
        try:
            start = time.monotonic()
            scheduler.event("ONBATT").wait(20)
            server.connected.wait(20)
            online = scheduler.event("ONLINE") if returns else None
            power = f"back after {'less' if time.monotonic() < start + 5 else 'more'} than 5 s" if returns else "not back"
            until(start + 9)  # the timer ends 6 s after its start
            fate = "on time" if scheduler.ran() else None
            server.may_greet.set()
            if online:
                power += f", ONLINE exits with {online.wait(20)}"
            server.received.wait(20)
            time.sleep(2)  # two rounds of the daemon
            fate = fate or ("late" if scheduler.ran() else "never")
        finally:
            scheduler.end()
        server.listener.close()
        print(f"{title}, power {power} ->", "mail received," if server.received.is_set() else "no mail,",
              f"shutdown {fate}", flush=True)


def repeated(times):
    with tempfile.TemporaryDirectory() as folder:
        scheduler = Scheduler(folder, 0)
        try:
            for _ in range(times):
                scheduler.event("NOCOMM").wait(20)
            scheduler.event("COMMOK").wait(20)
            time.sleep(6)  # twice the length of the timer
        finally:
            scheduler.end()
        print(f"NOCOMM {times}, COMMOK 1 -> command is run {len(scheduler.ran())}", flush=True)


outage("greets at once", late=False)
outage("greets after 9 s", late=True)
outage("greets after 9 s, script does not wait", late=True, how="&")
outage("greets at once", late=False, returns=False)
outage("greets after 9 s", late=True, returns=False)
outage("greets after 9 s, script does not wait", late=True, how="&", returns=False)
for times in (1, 2, 3):
    repeated(times)
END
cat >expected <<'END'
greets at once, power back after less than 5 s, ONLINE exits with 0 -> mail received, shutdown never
greets after 9 s, power back after less than 5 s, ONLINE exits with 0 -> mail received, shutdown late
greets after 9 s, script does not wait, power back after less than 5 s, ONLINE exits with 0 -> mail received, shutdown never
greets at once, power not back -> mail received, shutdown on time
greets after 9 s, power not back -> mail received, shutdown late
greets after 9 s, script does not wait, power not back -> mail received, shutdown on time
NOCOMM 1, COMMOK 1 -> command is run 0
NOCOMM 2, COMMOK 1 -> command is run 1
NOCOMM 3, COMMOK 1 -> command is run 2
END
timeout 300 python3 play.py "$folder/root" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: upssched no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
