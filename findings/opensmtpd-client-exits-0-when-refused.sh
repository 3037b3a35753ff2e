#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# OpenSMTPD 6.8.0p2 (Debian 12, opensmtpd 6.8.0p2-4+b4): its client smtp(1) exits with 0 whatever the server replies to the mail,
# and one refused recipient keeps the mail from all of them.
#
# smtp sends one message from standard input to a server without a queue of its own, so the caller is the only one who can repeat
# it or keep it. The exit code is 1 if no session comes about or if it breaks, but 0 if MAIL, RCPT, or the message is refused, for
# good or for now; the manual does not mention exit codes. The outcome is only in what smtp writes to standard error: a line for
# each recipient, also when all is well, so the output being empty is no sign of success either. If a recipient is refused, smtp
# gives up the transaction and prints that recipient only: nothing says that the accepted ones get no mail.
#
# Seen with the recipients ops, night and chief: what the server does -> exit code, who receives the mail, what smtp prints (the
# domain of the recipients is left out here):
#	takes it -> 0, received by ops night chief, prints "ops: EOM: 250 taken | night: EOM: 250 taken | chief: EOM: 250 taken"
#	550 to MAIL -> 0, received by nobody, prints "ops: MAIL: 550 5.7.1 no | night: MAIL: 550 5.7.1 no | chief: MAIL: 550 5.7.1 no"
#	550 to RCPT for night -> 0, received by nobody, prints "night: RCPT: 550 5.1.1 no such mailbox"
#	451 to RCPT for chief -> 0, received by nobody, prints "chief: RCPT: 451 4.7.1 later"
#	550 to each RCPT -> 0, received by nobody, prints "ops: RCPT: 550 5.1.1 no such mailbox"
#	452 to the final dot -> 0, received by nobody, prints "ops: EOM: 452 4.3.1 full | night: EOM: 452 4.3.1 full | chief: EOM: 452 4.3.1 full"
#	552 to the final dot -> 0, received by nobody, prints "ops: EOM: 552 5.3.4 too large | night: EOM: 552 5.3.4 too large | chief: EOM: 552 5.3.4 too large"
#	closes without a reply to the final dot -> 1, received by nobody, prints "connection error: (null) | smtp: no more host"
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of OpenSMTPD other than libevent (package opensmtpd
# installs them). The server is a small one within this file. Loopback only. Ends with 0 when the behaviour is as described, with
# 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download opensmtpd=6.8.0p2-4+b4 libevent-2.1-7=2.1.12-stable-8+deb12u1
for package in ./*.deb; do
	dpkg -x "$package" root
done
cat >play.py <<'END'
"""Plays the mail server, sends one message to three recipients with smtp, and prints what its caller learns and who gets it."""
import os, re, signal, socket, subprocess, sys, threading

PROGRAM = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends smtp as well
RECIPIENTS = ["ops", "night", "chief"]
MESSAGE = b"From: plc@example.com\nTo: ops@example.com\nSubject: tank\n\nTank 3 is full.\n"


def serve(listener, replies, received):
    """Gives the reply that it has for a verb, for a recipient, or for the message, and otherwise takes everything."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return
    with connection:
        connection.settimeout(20)
        lines = connection.makefile("rb")
        connection.sendall(b"220 mx ESMTP\r\n")
        accepted = []
        for line in lines:
            verb = line[:4].upper()
            reply = {b"EHLO": b"250-mx\r\n250 8BITMIME", b"QUIT": b"221 bye"}.get(verb, b"250 ok")
            if verb == b"MAIL":
                reply = replies.get("mail", reply)
            elif verb == b"RCPT":
                name = re.search(rb"<(\w+)@", line).group(1).decode()
                reply = replies.get(name, reply)
                if reply.startswith(b"2"):
                    accepted.append(name)
            elif verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                while lines.readline() not in (b".\r\n", b""):
                    pass
                reply = replies.get("dot", b"250 taken")
                if not reply:
                    return
                if reply.startswith(b"2"):
                    received += accepted
            connection.sendall(reply + b"\r\n")
            if verb == b"QUIT":
                return


def case(title, **replies):
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        server = threading.Thread(target=serve, args=(listener, replies, received), daemon=True)
        server.start()
        ended = subprocess.run(
            [PROGRAM, "-s", f"smtp+notls://127.0.0.1:{listener.getsockname()[1]}", "-H", "plc.example.com",
             "-F", "plc@example.com"] + [f"{name}@example.com" for name in RECIPIENTS],
            input=MESSAGE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        server.join(20)
    output = " | ".join(ended.stdout.decode().replace("@example.com", "").splitlines())
    print(f'{title} -> {ended.returncode}, received by {" ".join(received) or "nobody"}, prints "{output}"', flush=True)


NEVER = b"550 5.1.1 no such mailbox"
case("takes it")
case("550 to MAIL", mail=b"550 5.7.1 no")
case("550 to RCPT for night", night=NEVER)
case("451 to RCPT for chief", chief=b"451 4.7.1 later")
case("550 to each RCPT", ops=NEVER, night=NEVER, chief=NEVER)
case("452 to the final dot", dot=b"452 4.3.1 full")
case("552 to the final dot", dot=b"552 5.3.4 too large")
case("closes without a reply to the final dot", dot=b"")
END
cat >expected <<'END'
takes it -> 0, received by ops night chief, prints "ops: EOM: 250 taken | night: EOM: 250 taken | chief: EOM: 250 taken"
550 to MAIL -> 0, received by nobody, prints "ops: MAIL: 550 5.7.1 no | night: MAIL: 550 5.7.1 no | chief: MAIL: 550 5.7.1 no"
550 to RCPT for night -> 0, received by nobody, prints "night: RCPT: 550 5.1.1 no such mailbox"
451 to RCPT for chief -> 0, received by nobody, prints "chief: RCPT: 451 4.7.1 later"
550 to each RCPT -> 0, received by nobody, prints "ops: RCPT: 550 5.1.1 no such mailbox"
452 to the final dot -> 0, received by nobody, prints "ops: EOM: 452 4.3.1 full | night: EOM: 452 4.3.1 full | chief: EOM: 452 4.3.1 full"
552 to the final dot -> 0, received by nobody, prints "ops: EOM: 552 5.3.4 too large | night: EOM: 552 5.3.4 too large | chief: EOM: 552 5.3.4 too large"
closes without a reply to the final dot -> 1, received by nobody, prints "connection error: (null) | smtp: no more host"
END
LD_LIBRARY_PATH="$folder/root/usr/lib/x86_64-linux-gnu" timeout 150 python3 play.py "$folder/root/usr/bin/smtp" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: smtp no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
