#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mail provider of `make demo`: SMTP with TLS from the first byte and a login; takes one message and prints it.

    demo_provider.py DIRECTORY

DIRECTORY holds cert.pem and key.pem. The port that was chosen is written to DIRECTORY/port. Nobody can connect until
SIGUSR1 comes: until then this provider is down. Tests have a provider of their own (tests/support/provider).
"""

import base64
import os
import re
import signal
import socket
import ssl
import sys

LOGIN = "\0u\0p"


def lines_of(stream):
    """Each line without its end; ends with the connection."""
    for line in stream:
        yield line.rstrip(b"\r\n").decode("utf-8", "replace")


def serve(connection):
    """One session. Returns whether a message was taken."""
    stream = connection.makefile("rwb", buffering=0)
    lines = lines_of(stream)

    def say(text):
        stream.write((text + "\r\n").encode())

    say("220 provider.example ESMTP")
    logged_in, envelope = False, []
    for line in lines:
        word = line.split(" ")[0].upper()
        if word == "EHLO":
            say("250-provider.example\r\n250-SIZE 10000000\r\n250 AUTH PLAIN")
        elif match := re.match(r"AUTH PLAIN (\S+)", line, re.IGNORECASE):
            logged_in = base64.b64decode(match[1]).decode() == LOGIN
            say("235 2.7.0 Authentication successful" if logged_in else "535 5.7.8 Wrong user name or password")
        elif word in ("MAIL", "RCPT") and logged_in:
            envelope.append(line)
            say("250 2.1.0 OK")
        elif word == "DATA" and logged_in:
            say("354 End data with <CR><LF>.<CR><LF>")
            text = []
            for line in lines:
                if line == ".":
                    break
                text.append(line.removeprefix("."))
            version, cipher = connection.version(), connection.cipher()[0]
            print(f"{version}, {cipher}, logged in as u", *envelope, "", *text, sep="\n", flush=True)
            say("250 2.0.0 Taken")
            return True
        elif word == "QUIT":
            say("221 2.0.0 Bye")
            break
        else:
            say("530 5.7.0 Authentication required")
    return False


def main():
    directory = sys.argv[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        # Whoever reads the file finds it complete.
        name = os.path.join(directory, "port")
        with open(name + ".new", "w", encoding="ascii") as file:
            file.write(f"{listener.getsockname()[1]}\n")
        os.rename(name + ".new", name)
        signal.sigwait({signal.SIGUSR1})
        listener.listen()
        while True:
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    if serve(connection):
                        return
            except OSError as error:
                print(f"a connection failed: {error}", file=sys.stderr)


main()
