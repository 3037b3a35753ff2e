#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# GNU Mailutils 3.15 (Debian 12, mailutils 1:3.15-4): when the server refuses some of the recipients, "mail" prints nothing
# and exits with 0. S-nail 14.9.24 (s-nail 14.9.24-2), another program for the same command line, then sends to nobody.
#
# Both can send by SMTP without a local mail server (a URL smtp:// in the variable sendmail or mta), which is how scripts on
# a small machine use a relay. Mailutils skips each recipient whose RCPT is refused, temporarily or permanently, and sends
# to the rest. It reports an error, and writes the message to dead.letter, only if no recipient is left. The mail to a
# mistyped address, one that the relay does not allow, or one that is greylisted is lost without a trace: there is no
# output, no error code, no copy, and no bounce either, because the server never accepted responsibility for that
# recipient. S-nail stops at the first refusal: nobody gets the message, not even those who were accepted before, and it
# exits with 4. A script that was written for one of the two does the opposite with the other.
#
# Seen, what the server says to RCPT of the second of three recipients (or of all) -> exit code, who receives the message,
# whether there is a dead.letter, and the first line that the program prints:
#	mailutils, 550 to the second -> 0, received by ops chief, no dead.letter, prints nothing
#	mailutils, 451 to the second -> 0, received by ops chief, no dead.letter, prints nothing
#	mailutils, 550 to all -> 1, received by nobody, dead.letter, prints "cannot send message: Operation rejected by remote party"
#	mailutils, 250 to all -> 0, received by ops night chief, no dead.letter, prints nothing
#	s-nail, 550 to the second -> 4, received by nobody, dead.letter, prints "SMTP server: 550 5.1.1 no such mailbox"
#	s-nail, 451 to the second -> 4, received by nobody, dead.letter, prints "SMTP server: 451 4.7.1 try again later"
#	s-nail, 550 to all -> 4, received by nobody, dead.letter, prints "SMTP server: 550 5.1.1 no such mailbox"
#	s-nail, 250 to all -> 0, received by ops night chief, no dead.letter, prints nothing
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of both programs other than the two that are
# downloaded (packages mailutils and s-nail install them). Loopback only. Ends with 0 when the behaviour is as described,
# with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download mailutils=1:3.15-4 libmailutils9=1:3.15-4 \
	libmariadb3=1:10.11.19-0+deb12u1 s-nail=14.9.24-2
for package in ./*.deb; do
	dpkg -x "$package" root
done
cat >play.py <<'END'
"""Plays the mail server, runs both programs, and prints what their caller learns and who receives the message."""
import os, re, socket, subprocess, sys, tempfile, threading

ROOT = sys.argv[1]
RECIPIENTS = ["ops", "night", "chief"]
NEVER, LATER = b"550 5.1.1 no such mailbox", b"451 4.7.1 try again later"


def serve(listener, replies, received):
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
            verb, reply = line[:4].upper(), b"250 ok"
            if verb == b"EHLO":
                reply = b"250-mx\r\n250 8BITMIME"
            elif verb == b"RCPT":
                name = re.search(rb"<(\w+)@", line).group(1).decode()
                reply = replies.get(name, reply)
                if reply.startswith(b"250"):
                    accepted.append(name)
            elif verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                while lines.readline() not in (b".\r\n", b""):
                    pass
                received += accepted
            elif verb == b"QUIT":
                reply = b"221 bye"
            connection.sendall(reply + b"\r\n")
            if verb == b"QUIT":
                return


def mailutils(port):
    return [f"{ROOT}/usr/bin/mail.mailutils", "-n", "-N", "-E", f"set sendmail=smtp://127.0.0.1:{port}",
            "-r", "plc@example.com"]


def s_nail(port):
    return [f"{ROOT}/usr/bin/s-nail", "-:/", "-Sv15-compat", "-Ssendwait", f"-Smta=smtp://127.0.0.1:{port}", "-Ssmtp-auth=none",
            "-Shostname=plc.example.com", "-Sfrom=plc@example.com", "-SDEAD=dead.letter"]


def case(program, command, title, replies):
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory() as home:
        server = threading.Thread(target=serve, args=(listener, replies, received), daemon=True)
        server.start()
        ended = subprocess.run(
            command(listener.getsockname()[1]) + ["-s", "tank full"] + [f"{name}@example.com" for name in RECIPIENTS],
            input=b"Tank 3 is full.\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, cwd=home,
            env={"HOME": home, "PATH": os.environ["PATH"], "LC_ALL": "C",
                 "LD_LIBRARY_PATH": f"{ROOT}/usr/lib/x86_64-linux-gnu"})
        server.join(20)
        dead = os.path.exists(os.path.join(home, "dead.letter"))
    first = ended.stdout.decode().partition("\n")[0].partition(": ")[2]
    print(f"{program}, {title} -> {ended.returncode}, received by {' '.join(received) or 'nobody'},",
          "dead.letter," if dead else "no dead.letter,",
          f'prints "{first}"' if ended.stdout else "prints nothing", flush=True)


for program, command in (("mailutils", mailutils), ("s-nail", s_nail)):
    case(program, command, "550 to the second", {"night": NEVER})
    case(program, command, "451 to the second", {"night": LATER})
    case(program, command, "550 to all", dict.fromkeys(RECIPIENTS, NEVER))
    case(program, command, "250 to all", {})
END
cat >expected <<'END'
mailutils, 550 to the second -> 0, received by ops chief, no dead.letter, prints nothing
mailutils, 451 to the second -> 0, received by ops chief, no dead.letter, prints nothing
mailutils, 550 to all -> 1, received by nobody, dead.letter, prints "cannot send message: Operation rejected by remote party"
mailutils, 250 to all -> 0, received by ops night chief, no dead.letter, prints nothing
s-nail, 550 to the second -> 4, received by nobody, dead.letter, prints "SMTP server: 550 5.1.1 no such mailbox"
s-nail, 451 to the second -> 4, received by nobody, dead.letter, prints "SMTP server: 451 4.7.1 try again later"
s-nail, 550 to all -> 4, received by nobody, dead.letter, prints "SMTP server: 550 5.1.1 no such mailbox"
s-nail, 250 to all -> 0, received by ops night chief, no dead.letter, prints nothing
END
timeout 150 python3 play.py "$folder/root" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: mail or s-nail no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
