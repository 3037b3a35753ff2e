#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# msmtpd 1.8.23-1 (Debian 12, package msmtp-mta) with msmtp 1.8.23-1 behind it: at three moments a temporary failure
# becomes a permanent one, or the other way round.
#
# msmtpd takes a message by SMTP and hands it to a command, msmtp by default; the command's exit code decides what the
# client is told. For replies to MAIL and RCPT the class stays. But a provider that answers with 421 at the start, or
# drops the connection before its last reply (both mean "later", RFC 5321 section 3.8), becomes 554: no client tries
# again. And a message that the provider refuses for good after the final dot becomes 451: the client comes back with it for days.
#
# Seen, what the provider does -> what the client of msmtpd is told after its final dot:
#	421 as greeting -> 554
#	421 to MAIL -> 451
#	451 to MAIL -> 451
#	550 to MAIL -> 554
#	451 to RCPT -> 451
#	550 to RCPT -> 554
#	451 to the final dot -> 451
#	550 to the final dot -> 451
#	closes without a reply to the final dot -> 554
#	takes it -> 250
#
# Needs Debian 12 on amd64 (apt-get download), python3. Loopback only. Ends with 0 when the behaviour is as described, with 1
# when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download msmtp=1.8.23-1 msmtp-mta=1.8.23-1
for package in ./*.deb; do
	dpkg -x "$package" root
done
cat >play.py <<'END'
"""Plays provider and client; prints what the client is told for each thing that the provider does."""
import socket, subprocess, sys, threading, time

MSMTP, MSMTPD = sys.argv[1:]


def provider(listener, greeting, mail, rcpt, dot):
    connection, _ = listener.accept()
    with connection:
        lines = connection.makefile("rb")
        say = lambda text: connection.sendall(text + b"\r\n")
        say(greeting)
        if greeting.startswith(b"4"):
            return
        for line in lines:
            verb = line.strip().upper()[:4]
            if verb == b"MAIL":
                say(mail)
            elif verb == b"RCPT":
                say(rcpt)
            elif verb == b"DATA":
                say(b"354 go on")
                while lines.readline() not in (b".\r\n", b""):
                    pass
                if not dot:
                    return
                say(dot)
            elif verb == b"QUIT":
                say(b"221 bye")
                return
            else:
                say(b"250 ok")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def case(name, greeting=b"220 mx", mail=b"250 ok", rcpt=b"250 ok", dot=b"250 taken"):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=provider, args=(listener, greeting, mail, rcpt, dot), daemon=True).start()
        port = free_port()
        command = f"{MSMTP} --file=/dev/null --host=127.0.0.1 --port={listener.getsockname()[1]} --tls=off --auth=off -f %F --"
        server = subprocess.Popen([MSMTPD, f"--port={port}", "--interface=127.0.0.1", f"--command={command}"],
                                  stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    client = socket.create_connection(("127.0.0.1", port), timeout=30)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            with client:
                replies = client.makefile("rb")
                reply = replies.readline()
                for words in (b"EHLO plc.example", b"MAIL FROM:<plc@example.com>", b"RCPT TO:<ops@example.com>", b"DATA",
                              b"From: plc@example.com\r\nSubject: alarm\r\n\r\ntank full\r\n."):
                    client.sendall(words + b"\r\n")
                    while (reply := replies.readline())[3:4] == b"-":
                        pass
            print(name, "->", reply[:3].decode() or "closed", flush=True)
        finally:
            server.terminate()
            server.wait()


case("421 as greeting", greeting=b"421 later")
case("421 to MAIL", mail=b"421 later")
case("451 to MAIL", mail=b"451 later")
case("550 to MAIL", mail=b"550 never")
case("451 to RCPT", rcpt=b"451 later")
case("550 to RCPT", rcpt=b"550 never")
case("451 to the final dot", dot=b"451 later")
case("550 to the final dot", dot=b"550 never")
case("closes without a reply to the final dot", dot=b"")
case("takes it")
END
cat >expected <<'END'
421 as greeting -> 554
421 to MAIL -> 451
451 to MAIL -> 451
550 to MAIL -> 554
451 to RCPT -> 451
550 to RCPT -> 554
451 to the final dot -> 451
550 to the final dot -> 451
closes without a reply to the final dot -> 554
takes it -> 250
END
timeout 120 python3 play.py "$folder/root/usr/bin/msmtp" "$folder/root/usr/bin/msmtpd" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: msmtpd no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
