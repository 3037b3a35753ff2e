#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# homeassistant 2025.4.4 (PyPI), notify by smtp: a mail that the server refuses ends the action without an error, and if the
# server is not ready while Home Assistant starts, there is no action at all.
#
# The action tries a refused mail twice within a moment and then ends like one that succeeded: the automation goes on, and a
# fallback that waits for an error never runs. The log has two warnings that the connection is retried, without the reply of
# the server. A refused recipient among several is not even logged.
# While it starts, Home Assistant connects to the mail server to see whether the settings are right. A closed port does
# not matter. But if the server does not answer within the timeout, greets with 421, or answers 454 to the login (both mean
# "later"), as it may after a power cut when everything starts at once, there is no action notify.NAME. It is not set up
# again by itself, although the server is ready a moment later, and each automation that calls it fails.
#
# Seen, what the server does while Home Assistant starts, before it takes everything -> how the action ends, who gets the mail:
#	takes everything -> succeeds, received by ops night
#	closed port -> succeeds, received by ops night
#	no greeting -> not found, received by nobody
#	421 as greeting -> not found, received by nobody
#	454 to the login -> not found, received by nobody
# and what it does to the mail -> how the action ends, who gets it, how often RCPT for ops came, whether the reply is logged:
#	550 to RCPT for night -> succeeds, received by ops, tried 1, not logged
#	452 to the final dot -> succeeds, received by nobody, tried 2, not logged
#	550 to the final dot -> succeeds, received by nobody, tried 2, not logged
#	closes at the final dot -> fails, received by nobody, tried 1
#
# Needs PyPI, Python 3.13 (also one of pyenv) and a C++ compiler; takes two to ten minutes. The servers are small ones within
# this file. Loopback only. Ends with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

python=
for found in python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python; do
	# A shim of pyenv may be there without the version.
	if [ -z "$python" ] && "$found" -c '' 2>/dev/null; then
		python=$found
	fi
done
if [ -z "$python" ]; then
	echo 'Python 3.13 is missing' >&2
	exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
"$python" -m venv env
timeout 1500 env/bin/pip install --quiet --prefer-binary homeassistant==2025.4.4
cat >play.py <<'END'
"""Plays a mail server for each case, runs Home Assistant with an automation that mails to each, and prints how they end."""
import os, re, signal, socket, subprocess, sys, threading, time

FOLDER = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends Home Assistant as well
SETTINGS = """  - platform: smtp
    name: {name}
    server: 127.0.0.1
    port: {port}
    encryption: none
    timeout: 2
    username: {user}
    password: {user}
    sender: plc@example.com
    recipient: [ops@example.com, night@example.com]
"""
AUTOMATION = """  - alias: {name}
    triggers:
      - trigger: homeassistant
        event: start
    actions:
      - delay: 3
      - action: notify.{name}
        data:
          message: tank 3 is full
      - action: system_log.write
        data:
          message: {name} went on
"""


class Server:
    """Gives the reply that it has for a verb, for night, or for the message; those of early only to the first connection."""

    def __init__(self, title, name, early=None, late=None, **replies):
        self.title, self.name, self.early, self.late, self.replies = title, name, early, late, replies
        self.received, self.tried = [], 0
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        if not late:
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
            replies, self.early = {**self.replies, **(self.early or {})}, None
            threading.Thread(target=self.serve, args=(connection, replies), daemon=True).start()

    def serve(self, connection, replies):
        try:
            with connection:
                self.talk(connection, replies)
        except OSError:
            pass

    def talk(self, connection, replies):
        connection.settimeout(30)
        lines = connection.makefile("rb")
        greeting = replies.get("greeting", b"220 mx ESMTP")
        if greeting:
            connection.sendall(greeting + b"\r\n")
        accepted = []
        for line in lines:
            verb = line[:4].upper().strip().decode()
            reply = {"EHLO": b"250-mx\r\n250 AUTH PLAIN", "AUTH": b"235 welcome", "DATA": b"354 go on",
                     "QUIT": b"221 bye"}.get(verb, b"250 ok")
            reply = replies.get(verb, reply)
            if verb == "RCPT":
                name = re.search(rb"<(\w+)@", line).group(1).decode()
                self.tried += name == "ops"
                reply = replies.get(name, reply)
                if reply.startswith(b"2"):
                    accepted.append(name)
            elif verb == "DATA":
                connection.sendall(reply + b"\r\n")
                while lines.readline() not in (b".\r\n", b""):
                    pass
                reply = replies.get("dot", b"250 taken")
                if not reply:
                    return
                if reply.startswith(b"2"):
                    self.received += accepted
            elif verb == "RSET":
                accepted = []
            connection.sendall(reply + b"\r\n")
            if verb == "QUIT":
                return


STARTS = [
    Server("takes everything", "ready"),
    Server("closed port", "closed", late=True),
    Server("no greeting", "silent", early={"greeting": b""}),
    Server("421 as greeting", "busy", early={"greeting": b"421 4.3.2 try again later"}),
    Server("454 to the login", "login", early={"AUTH": b"454 4.7.0 try again later"}),
]
MAILS = [
    Server("550 to RCPT for night", "recipient", night=b"550 5.1.1 there is no such mailbox"),
    Server("452 to the final dot", "space", dot=b"452 4.3.1 the queue is full"),
    Server("550 to the final dot", "content", dot=b"550 5.7.1 the content is refused"),
    Server("closes at the final dot", "gone", dot=b""),
]
servers = STARTS + MAILS
home, path = f"{FOLDER}/home", f"{FOLDER}/log"
os.mkdir(home)
with open(f"{home}/configuration.yaml", "w") as file:
    file.write("logger:\n  default: info\nsystem_log:\nnotify:\n")
    file.writelines(SETTINGS.format(name=server.name, port=server.port, user="plc") for server in servers)
    file.write("automation:\n")
    file.writelines(AUTOMATION.format(name=server.name) for server in servers)
with open(path, "w") as log:
    hass = subprocess.Popen([f"{FOLDER}/env/bin/hass", "-c", home], stdout=log, stderr=log,
                            env=dict(os.environ, PATH=f"{FOLDER}/env/bin:" + os.environ["PATH"]))


def logged():
    with open(path) as file:
        return file.read()


def ended(server, log):
    if f"{server.name} went on" in log:
        return "succeeds"
    if f"Action notify.{server.name} not found" in log:
        return "not found"
    return "fails" if f"{server.name}: Error executing script" in log else None


def until(done, limit):
    end = time.monotonic() + limit
    while not done():
        if time.monotonic() > end or hass.poll() is not None:
            sys.exit("Home Assistant does not do it:\n" + logged()[-3000:])
        time.sleep(0.1)


try:
    until(lambda: "SMTP server not found or refused connection" in logged(), 400)
    for server in servers:
        if server.late:
            server.listen()  # the automations start when all is set up, and wait for three more seconds
    until(lambda: all(ended(server, logged()) for server in servers), 120)
finally:
    hass.terminate()
    try:
        hass.wait(60)
    except subprocess.TimeoutExpired:
        hass.kill()
        hass.wait()
log = logged()
for server in servers:
    line = f"{server.title} -> {ended(server, log)}, received by {' '.join(server.received) or 'nobody'}"
    if server in MAILS:
        line += f", tried {server.tried}"
        reply = (server.replies.get("night") or server.replies.get("dot"))[4:].decode()
        if reply:
            line += ", logged" if reply in log else ", not logged"
    print(line)
END
cat >expected <<'END'
takes everything -> succeeds, received by ops night
closed port -> succeeds, received by ops night
no greeting -> not found, received by nobody
421 as greeting -> not found, received by nobody
454 to the login -> not found, received by nobody
550 to RCPT for night -> succeeds, received by ops, tried 1, not logged
452 to the final dot -> succeeds, received by nobody, tried 2, not logged
550 to the final dot -> succeeds, received by nobody, tried 2, not logged
closes at the final dot -> fails, received by nobody, tried 1
END
timeout 600 env/bin/python play.py "$folder" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: homeassistant 2025.4.4 no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
