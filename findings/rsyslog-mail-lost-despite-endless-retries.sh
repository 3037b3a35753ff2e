#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# rsyslog 8.2302.0 (Debian 12, rsyslog 8.2302.0-1+deb12u2): ommail, which mails log messages, loses a mail that the server
# defers, even with action.resumeRetryCount="-1". With a queue of its own it never gets past one refused recipient.
#
# According to the manual, -1 means endless retries. Without queue.type in the action (the queue is then "direct", which is the
# preset) ommail does not send the message again after a temporary refusal, a dropped connection, or a server that is not
# there: it only connects once more to see that the server answers, and goes on with the next message. An alarm, often a
# single line, is lost to a greylisting server, a full queue, or a router that restarts. The log has "suspended" and
# "resumed", but neither the reply of the server nor that a message is lost. Only an action with its own queue repeats it;
# there a permanent refusal is repeated as well, and since one refused RCPT ends the transaction, one closed mailbox among
# the recipients keeps this message and all later ones from everybody.
#
# Seen with two messages to the recipients ops, night and chief, logged one after the other: how the action is set, what the
# server does -> messages that were received, and how often the transaction began (for the last case: whether more than twice):
#	-1, takes all -> received 1 2, transactions 2
#	-1, 452 to the first final dot -> received 2, transactions 2
#	-1, 451 to the first RCPT for night -> received 2, transactions 2
#	-1, 421 as the first greeting -> received 2, transactions 1
#	-1, not there for the first -> received 2, transactions 1
#	-1 and a queue, 452 to the first final dot -> received 1 2, transactions 3
#	-1 and a queue, not there for the first -> received 1 2, transactions 2
#	-1 and a queue, 550 to each RCPT for night -> received nothing, transactions more than 2
#	the log has the reply 452: no, the reply 550: no
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of rsyslog other than the two that are downloaded
# (package rsyslog installs them). The server is a small one within this file. Loopback only. Ends with 0 when the behaviour is
# as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download rsyslog=8.2302.0-1+deb12u2 libestr0=0.1.11-1 libfastjson4=1.2304.0-1
for package in ./*.deb; do
	dpkg -x "$package" root
done
cat >play.py <<'END'
"""Plays the mail server, runs rsyslog with two messages to mail, and prints which of them arrive."""
import os, re, signal, socket, subprocess, sys, tempfile, threading, time

ROOT = sys.argv[1]
LIBRARIES = f"{ROOT}/usr/lib/x86_64-linux-gnu"
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends rsyslog as well
SETTINGS = """global(workDirectory="{folder}" processInternalMessages="on")
module(load="imudp")
module(load="ommail")
action(type="omfile" file="{folder}/log")
ruleset(name="alarms") {{
    action(type="ommail" server="127.0.0.1" port="{server}" mailfrom="plc@example.com"
        mailto=["ops@example.com", "night@example.com", "chief@example.com"] subject.text="tank"
        action.resumeRetryCount="-1" action.resumeInterval="1" {queue})
}}
input(type="imudp" address="127.0.0.1" port="{input}" ruleset="alarms")
"""


class Server:
    """Gives the replies that it has for a step, one each time, and then the usual one."""

    def __init__(self, greeting=(), night=(), dot=(), listens=True):
        self.greeting, self.night, self.dot = list(greeting), list(night), list(dot)
        self.received, self.connections, self.transactions = [], 0, 0
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        if listens:
            self.listen()

    def listen(self):
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection:
                self.talk(connection)
        except OSError:
            pass

    def talk(self, connection):
        connection.settimeout(30)
        lines = connection.makefile("rb")
        greeting = self.greeting.pop(0) if self.greeting else b"220 mx ESMTP"
        connection.sendall(greeting + b"\r\n")
        if greeting.startswith(b"4"):
            return
        for line in lines:
            verb, reply = line[:4].upper(), b"250 ok"
            if verb == b"MAIL":
                self.transactions += 1
            elif verb == b"RCPT" and b"<night@" in line and self.night:
                reply = self.night.pop(0)
            elif verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                message = b""
                while not message.endswith(b"\r\n.\r\n"):
                    message += lines.readline()
                if self.dot:
                    reply = self.dot.pop(0)
                else:
                    self.received.append(re.search(rb"tank (\d) is full", message).group(1).decode())
            elif verb == b"QUIT":
                reply = b"221 bye"
            connection.sendall(reply + b"\r\n")
            if verb == b"QUIT":
                return


def until(done, limit=20.0):
    end = time.monotonic() + limit
    while not done() and time.monotonic() < end:
        time.sleep(0.05)
    return done()


logs = ""


def case(title, queue=False, count=None, late=False, **replies):
    global logs
    server = Server(listens=not late, **replies)
    with tempfile.TemporaryDirectory(dir=".") as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        folder = os.path.abspath(folder)
        log = os.path.join(folder, "log")
        probe.bind(("127.0.0.1", 0))
        source = probe.getsockname()
        probe.close()
        with open(os.path.join(folder, "settings"), "w") as file:
            file.write(SETTINGS.format(folder=folder, input=source[1], server=server.port,
                                       queue='queue.type="LinkedList"' if queue else ""))
        with open(os.path.join(folder, "out"), "w") as out:
            rsyslog = subprocess.Popen(
                [f"{ROOT}/usr/sbin/rsyslogd", "-n", "-f", os.path.join(folder, "settings"), "-i", os.path.join(folder, "pid"),
                 "-M", f"{LIBRARIES}/rsyslog"], stdout=out, stderr=out, env=dict(os.environ, LD_LIBRARY_PATH=LIBRARIES))
        logged = lambda: open(log).read() if os.path.exists(log) else ""
        try:
            if not until(lambda: "] start" in logged()):
                sys.exit("rsyslog does not start: " + open(os.path.join(folder, "out")).read())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"<11>Dec  1 06:00:00 plc plc: tank 1 is full", source)
                if late:
                    until(lambda: "suspended" in logged())
                    server.listen()
                else:  # the first message has had its chance when it arrives or when rsyslog has noticed that it does not
                    until(lambda: server.received or "suspended" in logged())
                sender.sendto(b"<11>Dec  1 06:00:00 plc plc: tank 2 is full", source)
            if count:
                until(lambda: server.transactions > count)
            else:
                until(lambda: "2" in server.received)
                time.sleep(4)  # four intervals, in which nothing else may arrive
        finally:
            rsyslog.terminate()
            try:
                rsyslog.wait(20)
            except subprocess.TimeoutExpired:
                rsyslog.kill()
                rsyslog.wait()
            if server.listener.fileno() >= 0 and server.connections:
                server.listener.shutdown(socket.SHUT_RDWR)
            server.listener.close()
        logs += logged()
    transactions = f"more than {count}" if count and server.transactions > count else server.transactions
    print(f"{'-1 and a queue' if queue else '-1'}, {title} -> received {' '.join(server.received) or 'nothing'},",
          f"transactions {transactions}", flush=True)


case("takes all")
case("452 to the first final dot", dot=[b"452 4.3.1 the queue is full"])
case("451 to the first RCPT for night", night=[b"451 4.7.1 try again later"])
case("421 as the first greeting", greeting=[b"421 4.3.2 try again later"])
case("not there for the first", late=True)
case("452 to the first final dot", queue=True, dot=[b"452 4.3.1 the queue is full"])
case("not there for the first", queue=True, late=True)
case("550 to each RCPT for night", queue=True, count=2, night=[b"550 5.1.1 no such mailbox"] * 1000)
print(f"the log has the reply 452: {'yes' if 'queue is full' in logs else 'no'},",
      f"the reply 550: {'yes' if 'no such mailbox' in logs else 'no'}")
END
cat >expected <<'END'
-1, takes all -> received 1 2, transactions 2
-1, 452 to the first final dot -> received 2, transactions 2
-1, 451 to the first RCPT for night -> received 2, transactions 2
-1, 421 as the first greeting -> received 2, transactions 1
-1, not there for the first -> received 2, transactions 1
-1 and a queue, 452 to the first final dot -> received 1 2, transactions 3
-1 and a queue, not there for the first -> received 1 2, transactions 2
-1 and a queue, 550 to each RCPT for night -> received nothing, transactions more than 2
the log has the reply 452: no, the reply 550: no
END
timeout 200 python3 play.py "$folder/root" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: rsyslog no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
