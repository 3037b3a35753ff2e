#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# curl 7.88.1 (Debian 12, curl 7.88.1-10+deb12u15): when it repeats a mail that it reads from a pipe or from "< file", it sends
# an empty message and exits with 0.
#
# "echo ... | curl smtp://... -T - --retry 3" is how scripts on routers and other small systems send mail without a mail
# program. By the time the server refuses the final dot (queue full, temporary error), closes the connection, or replies
# later than --max-time allows, curl has read standard input to its end. The next attempt goes through the whole dialogue
# again with nothing left to send: DATA, then only the final dot. Servers accept a message without a header and a body, so curl
# reports success, and the alarm is lost while its recipients get an empty mail, or none if a filter discards it. This also
# happens with "< file", which curl could read again from its start. A refusal before DATA, such as greylisting or a server that
# is not there, is repeated as one expects, because nothing has been read by then; so a test with an unplugged cable or a
# temporary refusal of the recipient succeeds. A timeout is enough for it with a plain --retry; replies of 4xx are repeated
# only with --retry-all-errors, since the "transient errors" of the manual are those of FTP and HTTP. The manual advises
# against redirected input for --retry-all-errors, not for --retry. With a file for -T, or with -F, the message stays whole.
#
# Seen, where curl gets the message, with which options, what the server does the first time (then it takes everything) -> exit
# code, what arrives:
#	pipe without --retry, 452 to the final dot -> 8, nothing
#	pipe --retry 3, 452 to the final dot -> 8, nothing
#	pipe --retry 3 --retry-all-errors, 421 as the greeting -> 0, whole
#	pipe --retry 3 --retry-all-errors, 451 to RCPT -> 0, whole
#	pipe --retry 3 --retry-all-errors, 452 to the final dot -> 0, empty
#	pipe --retry 3 --retry-all-errors, closes without a reply to the final dot -> 0, empty
#	pipe --retry 3 --max-time 3, takes it, but replies too late -> 0, whole, empty
#	pipe --retry 3 --max-time 3, does not take it, and replies too late -> 0, empty
#	< --retry 3 --retry-all-errors, 452 to the final dot -> 0, empty
#	< --retry 3 --max-time 3, does not take it, and replies too late -> 0, empty
#	-T FILE --retry 3 --retry-all-errors, 452 to the final dot -> 0, whole
#	-T FILE --retry 3 --max-time 3, does not take it, and replies too late -> 0, whole
#	-F --retry 3 --retry-all-errors, 452 to the final dot -> 0, whole
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of curl other than libcurl (package curl installs
# them). The server is a small one within this file. Loopback only. Ends with 0 when the behaviour is as described, with 1 when
# it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15
for package in ./*.deb; do
	dpkg -x "$package" root
done
cat >play.py <<'END'
"""Plays the mail server, sends one message with curl, and prints the exit code and what arrives."""
import os, signal, socket, subprocess, sys, tempfile, threading

ROOT = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends curl as well
MESSAGE = b"Subject: tank\r\n\r\nTank 3 is full.\r\n"
FULL = b"452 4.3.1 the queue is full"
LATE = TAKEN_LATE, LOST_LATE = b"250 taken, but late", b"451 4.3.0 not taken, and late"
RETRY = "--retry 3"
TIME = "--retry 3 --max-time 3"
ALL = "--retry 3 --retry-all-errors"


class Server:
    """Gives the reply that it has for a step once, and then takes everything."""

    def __init__(self, replies):
        self.replies, self.received, self.connections = replies, [], []
        self.ended = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            self.connections.append(threading.Thread(target=self.serve, args=(connection,), daemon=True))
            self.connections[-1].start()

    def serve(self, connection):
        try:
            with connection:
                self.talk(connection)
        except OSError:
            pass

    def talk(self, connection):
        lines = connection.makefile("rb")
        greeting = self.replies.pop("greeting", b"220 mx ESMTP")
        connection.sendall(greeting + b"\r\n")
        if greeting.startswith(b"4"):
            return
        for line in lines:
            verb = line[:4].upper()
            reply = b"221 bye" if verb == b"QUIT" else b"250 ok"
            if verb == b"RCPT":
                reply = self.replies.pop("recipient", reply)
            elif verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                message = b""
                while True:
                    line = lines.readline()
                    if line in (b".\r\n", b""):
                        break
                    message += line
                reply = self.replies.pop("dot", b"250 taken")
                if reply.startswith(b"250"):
                    self.received.append("whole" if b"Tank 3 is full.\r\n" in message else "other" if message else "empty")
                if reply in LATE:
                    lines.read()  # until curl no longer waits
                if reply in LATE or not reply:
                    return
            connection.sendall(reply + b"\r\n")
            if verb == b"QUIT":
                return


def case(source, options, title, **replies):
    server = Server(replies)
    with tempfile.TemporaryDirectory() as home:
        with open(f"{home}/message", "wb") as file:
            file.write(MESSAGE)
        upload = {"-T FILE": ["-T", "message"], "-F": ["-F", "=Tank 3 is full.;type=text/plain", "-H", "Subject: tank"]}
        with open(f"{home}/message", "rb") as file:
            given = {"stdin": file} if source == "<" else {"input": MESSAGE}
            ended = subprocess.run(
                [f"{ROOT}/usr/bin/curl", "-sS", "--mail-from", "plc@example.com", "--mail-rcpt", "ops@example.com",
                 f"smtp://127.0.0.1:{server.listener.getsockname()[1]}/plc.example.com"]
                + upload.get(source, ["-T", "-"]) + ["--retry-delay", "1"] + options.split(),
                **given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home, timeout=30,
                env={"HOME": home, "LD_LIBRARY_PATH": f"{ROOT}/usr/lib/x86_64-linux-gnu"})
        for thread in server.connections:
            thread.join(20)
        server.listener.close()
    print(f"{source} {options or 'without --retry'}, {title} -> {ended.returncode}, {', '.join(server.received) or 'nothing'}",
          flush=True)


case("pipe", "", "452 to the final dot", dot=FULL)
case("pipe", RETRY, "452 to the final dot", dot=FULL)
case("pipe", ALL, "421 as the greeting", greeting=b"421 4.3.2 try again later")
case("pipe", ALL, "451 to RCPT", recipient=b"451 4.7.1 try again later")
case("pipe", ALL, "452 to the final dot", dot=FULL)
case("pipe", ALL, "closes without a reply to the final dot", dot=b"")
case("pipe", TIME, "takes it, but replies too late", dot=TAKEN_LATE)
case("pipe", TIME, "does not take it, and replies too late", dot=LOST_LATE)
case("<", ALL, "452 to the final dot", dot=FULL)
case("<", TIME, "does not take it, and replies too late", dot=LOST_LATE)
case("-T FILE", ALL, "452 to the final dot", dot=FULL)
case("-T FILE", TIME, "does not take it, and replies too late", dot=LOST_LATE)
case("-F", ALL, "452 to the final dot", dot=FULL)
END
cat >expected <<'END'
pipe without --retry, 452 to the final dot -> 8, nothing
pipe --retry 3, 452 to the final dot -> 8, nothing
pipe --retry 3 --retry-all-errors, 421 as the greeting -> 0, whole
pipe --retry 3 --retry-all-errors, 451 to RCPT -> 0, whole
pipe --retry 3 --retry-all-errors, 452 to the final dot -> 0, empty
pipe --retry 3 --retry-all-errors, closes without a reply to the final dot -> 0, empty
pipe --retry 3 --max-time 3, takes it, but replies too late -> 0, whole, empty
pipe --retry 3 --max-time 3, does not take it, and replies too late -> 0, empty
< --retry 3 --retry-all-errors, 452 to the final dot -> 0, empty
< --retry 3 --max-time 3, does not take it, and replies too late -> 0, empty
-T FILE --retry 3 --retry-all-errors, 452 to the final dot -> 0, whole
-T FILE --retry 3 --max-time 3, does not take it, and replies too late -> 0, whole
-F --retry 3 --retry-all-errors, 452 to the final dot -> 0, whole
END
timeout 250 python3 play.py "$folder/root" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: curl no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
