#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# collectd 5.12.0 (Debian 12, collectd-core 5.12.0-14) with libesmtp 1.1.0: the plugin notify_email logs "notify sent" with
# the reply 250 for each recipient of a mail that the server refused.
#
# After a session the plugin logs the reply to the RCPT of each recipient, whatever it is, behind the words "notify sent to".
# It never looks at what the server says to DATA and to the message itself. So a mail that is refused for lack of space, for
# its size or for its content, and one for which no reply came, look in the log exactly like one that was delivered. The mail
# is not repeated. A search of the log for errors finds nothing; one for "notify sent" also finds refused recipients.
#
# Seen with the recipients ops, night and chief: what the server does -> who receives the mail, replies behind the words "notify
# sent to" in the log, other lines of the plugin:
#	takes it -> ops night chief, ops 250 night 250 chief 250, none
#	550 to RCPT for night -> ops chief, ops 250 night 550 chief 250, none
#	451 to DATA -> nobody, ops 250 night 250 chief 250, none
#	452 to the final dot -> nobody, ops 250 night 250 chief 250, none
#	552 to the final dot -> nobody, ops 250 night 250 chief 250, none
#	closes without a reply to the final dot -> nobody, ops 250 night 250 chief 250, none
#
# Needs Debian 12 on amd64 (apt-get download), python3, and the libraries of collectd other than libesmtp (package
# collectd-core installs them). The server is a small one within this file. Loopback only. Ends with 0 when the behaviour is as
# described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download collectd-core=5.12.0-14 libesmtp6=1.1.0-3.1~deb12u1
for package in ./*.deb; do
	dpkg -x "$package" root
done
cat >play.py <<'END'
"""Plays the mail server, gives collectd one notification, and prints who receives it and what the log says."""
import os, re, signal, socket, subprocess, sys, tempfile, threading, time

ROOT = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends collectd as well
RECIPIENTS = ["ops", "night", "chief"]
SETTINGS = """Hostname "plc"
FQDNLookup false
BaseDir "{folder}"
PIDFile "{folder}/pid"
PluginDir "{root}/usr/lib/collectd"
TypesDB "{root}/usr/share/collectd/types.db"
LoadPlugin logfile
<Plugin logfile>
    LogLevel info
    File "{folder}/log"
</Plugin>
LoadPlugin unixsock
<Plugin unixsock>
    SocketFile "{folder}/socket"
</Plugin>
LoadPlugin notify_email
<Plugin notify_email>
    SMTPServer "127.0.0.1"
    SMTPPort {port}
    From "plc@example.com"
{recipients}
</Plugin>
"""


def serve(listener, replies, received):
    """Gives the reply that it has for a verb, for night, or for the message, and otherwise takes everything."""
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
            reply = b"250-mx\r\n250 8BITMIME" if verb == b"EHLO" else b"221 bye" if verb == b"QUIT" else b"250 ok"
            if verb == b"RCPT":
                name = re.search(rb"<(\w+)@", line).group(1).decode()
                reply = replies.get(name, reply)
                if reply.startswith(b"2"):
                    accepted.append(name)
            elif verb == b"DATA":
                reply = replies.get("data", b"354 go on")
                if reply.startswith(b"3"):
                    connection.sendall(reply + b"\r\n")
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
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory() as folder:
        listener.settimeout(30)
        server = threading.Thread(target=serve, args=(listener, replies, received), daemon=True)
        server.start()
        with open(f"{folder}/settings", "w") as file:
            file.write(SETTINGS.format(folder=folder, root=ROOT, port=listener.getsockname()[1],
                                       recipients="\n".join(f'    Recipient "{name}@example.com"' for name in RECIPIENTS)))
        with open(f"{folder}/out", "w") as out:
            collectd = subprocess.Popen([f"{ROOT}/usr/sbin/collectd", "-f", "-C", f"{folder}/settings"], stdout=out, stderr=out,
                                        env=dict(os.environ, LD_LIBRARY_PATH=f"{ROOT}/usr/lib/x86_64-linux-gnu"))
        try:
            end = time.monotonic() + 30
            with socket.socket(socket.AF_UNIX) as control:
                while control.connect_ex(f"{folder}/socket"):
                    if time.monotonic() > end:
                        sys.exit("collectd does not start: " + open(f"{folder}/out").read())
                    time.sleep(0.05)
                control.sendall(b'PUTNOTIF severity=failure time=%d host=plc message="tank 3 is full"\n' % time.time())
                control.settimeout(30)
                control.recv(1000)
            server.join(30)
        finally:
            collectd.terminate()  # it ends when the notification is done with
            try:
                collectd.wait(20)
            except subprocess.TimeoutExpired:
                collectd.kill()
                collectd.wait()
        with open(f"{folder}/log") as file:
            lines = [line for line in file if "notify_email" in line and "successfully loaded" not in line]
    sent = [re.search(r"notify sent to (\w+)@example\.com: (\d+)", line) for line in lines]
    print(f"{title} -> {' '.join(received) or 'nobody'},",
          " ".join(f"{found.group(1)} {found.group(2)}" for found in sent if found) + ",",
          sum(not found for found in sent) or "none", flush=True)


case("takes it")
case("550 to RCPT for night", night=b"550 5.1.1 no such mailbox")
case("451 to DATA", data=b"451 4.3.0 try again later")
case("452 to the final dot", dot=b"452 4.3.1 the queue is full")
case("552 to the final dot", dot=b"552 5.3.4 message too large")
case("closes without a reply to the final dot", dot=b"")
END
cat >expected <<'END'
takes it -> ops night chief, ops 250 night 250 chief 250, none
550 to RCPT for night -> ops chief, ops 250 night 550 chief 250, none
451 to DATA -> nobody, ops 250 night 250 chief 250, none
452 to the final dot -> nobody, ops 250 night 250 chief 250, none
552 to the final dot -> nobody, ops 250 night 250 chief 250, none
closes without a reply to the final dot -> nobody, ops 250 night 250 chief 250, none
END
timeout 200 python3 play.py "$folder/root" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: collectd no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
