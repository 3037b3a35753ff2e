#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# msmtp 1.8.23-1 (Debian 12): recipients with a quoted local part leave as other addresses, and msmtp ends with 0.
#
# RFC 5321 section 4.1.2 and RFC 5322 section 3.4.1 allow a quoted string as local part. In a recipient without angle brackets (argument
# or field To with -t) msmtp takes it for a display name and drops it, what is left is an address without local part. In angle
# brackets the blank within the quotes becomes an underscore: another mailbox. Blanks around the dots of a domain (RFC
# 5322 section 4.4) leave its last label alone. The sender of --from is not touched. When the server takes such a RCPT, msmtp's exit code is 0.
#
# Seen, the recipient as it is given -> exit code, command on the wire:
#	argument "two words"@example.com -> 0 RCPT TO:<@example.com>
#	argument "ops"@example.com -> 0 RCPT TO:<@example.com>
#	To: "two words"@example.com -> 0 RCPT TO:<@example.com>
#	To: <"two words"@example.com> -> 0 RCPT TO:<"two_words"@example.com>
#	To: ops @ example . com -> 0 RCPT TO:<com>
#	argument ops@example.com -> 0 RCPT TO:<ops@example.com>
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of msmtp (package msmtp installs them). Loopback
# only. Ends with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download msmtp=1.8.23-1
dpkg -x ./*.deb root
cat >play.py <<'END'
"""Plays the server, and prints which recipient msmtp names."""
import socket, subprocess, sys, threading

MSMTP = sys.argv[1]


def serve(listener, seen):
    connection, _ = listener.accept()
    with connection:
        lines = connection.makefile("rb")
        connection.sendall(b"220 mx\r\n")
        for line in lines:
            verb = line.strip().upper()[:4]
            if verb == b"RCPT":
                seen.append(line.strip().decode())
            if verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                while lines.readline() not in (b".\r\n", b""):
                    pass
            connection.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


def case(name, recipient, header=b""):
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener, seen), daemon=True)
        server.start()
        command = [MSMTP, "--file=/dev/null", "--host=127.0.0.1", f"--port={listener.getsockname()[1]}", "--tls=off",
                   "--auth=off", "--from=plc@example.com", recipient]
        ended = subprocess.run(command, input=header + b"Subject: x\r\n\r\nx\r\n", timeout=30)
        server.join(10)
    print(name, "->", ended.returncode, *seen, flush=True)


for address in ('"two words"@example.com', '"ops"@example.com'):
    case(f"argument {address}", address)
for text in ('"two words"@example.com', '<"two words"@example.com>', "ops @ example . com"):
    case(f"To: {text}", "-t", f"To: {text}\r\n".encode())
case("argument ops@example.com", "ops@example.com")
END
cat >expected <<'END'
argument "two words"@example.com -> 0 RCPT TO:<@example.com>
argument "ops"@example.com -> 0 RCPT TO:<@example.com>
To: "two words"@example.com -> 0 RCPT TO:<@example.com>
To: <"two words"@example.com> -> 0 RCPT TO:<"two_words"@example.com>
To: ops @ example . com -> 0 RCPT TO:<com>
argument ops@example.com -> 0 RCPT TO:<ops@example.com>
END
timeout 120 python3 play.py "$folder/root/usr/bin/msmtp" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: msmtp no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
