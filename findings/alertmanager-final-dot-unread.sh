#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Alertmanager 0.25.0 (Debian 12, prometheus-alertmanager 0.25.0-1+b4): a mail that the server refuses after the final dot
# counts as sent.
#
# Alertmanager repeats a notification until it succeeds, so a refusal of RCPT or DATA costs only time. But it ignores what
# the server says to the message itself: a temporary refusal (no space left), a permanent one (too large, content), even a
# connection that ends without a reply. The log says "Notify success", the counter of failed notifications stays at 0, and
# the alert is not mailed again before repeat_interval (4 hours unless it is set). An alarm on that counter does not
# help. Later versions read the reply; Debian 12 stays with this one.
#
# Seen, what the server does once before it takes everything -> messages offered, messages taken, failed requests as counted by
# Alertmanager, what it logs at first:
#	nothing else -> offered 1, taken 1, failed 0, "Notify success"
#	451 to RCPT -> offered 1, taken 1, failed 1, "Notify attempt failed, will retry later"
#	451 to DATA -> offered 1, taken 1, failed 1, "Notify attempt failed, will retry later"
#	452 to the final dot -> offered 1, taken 0, failed 0, "Notify success"
#	552 to the final dot -> offered 1, taken 0, failed 0, "Notify success"
#	closes without a reply to the final dot -> offered 1, taken 0, failed 0, "Notify success"
#
# Needs Debian 12 on amd64 (apt-get download), python3, and root for a mount in a namespace of its own: the template of the
# mails must be below /usr/share. The server is a small one within this file. Loopback only. Ends with 0 when the behaviour is
# as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download prometheus-alertmanager=0.25.0-1+b4
dpkg -x ./*.deb root
cat >play.py <<'END'
"""Plays the mail server, gives Alertmanager one alert to report, and prints what becomes of the mail."""
import json, re, signal, socket, subprocess, sys, tempfile, threading, time, urllib.request

ROOT = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends Alertmanager as well
SETTINGS = """route: {{receiver: mail, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
- name: mail
  email_configs:
  - {{to: ops@example.com, from: plc@example.com, hello: plc.example.com, smarthost: "127.0.0.1:{port}", require_tls: false}}
"""


class Server:
    """Gives the reply that it has for a verb or for the message once, and then takes everything."""

    def __init__(self, replies):
        self.replies = replies
        self.offered = self.taken = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            connection.settimeout(30)
            lines = connection.makefile("rb")
            connection.sendall(b"220 mx ESMTP\r\n")
            for line in lines:
                verb = line[:4].upper().decode()
                reply = self.replies.pop(verb, b"354 go on" if verb == "DATA" else b"221 bye" if verb == "QUIT" else b"250 ok")
                if reply.startswith(b"354"):
                    connection.sendall(reply + b"\r\n")
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                    self.offered += 1
                    reply = self.replies.pop("dot", b"250 taken")
                    if not reply:
                        return
                    self.taken += reply.startswith(b"2")
                connection.sendall(reply + b"\r\n")
                if verb == "QUIT":
                    return


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def case(title, **replies):
    server = Server(replies)
    with tempfile.TemporaryDirectory(dir=".") as folder, open(f"{folder}/log", "w+") as log:
        with open(f"{folder}/settings", "w") as file:
            file.write(SETTINGS.format(port=server.listener.getsockname()[1]))
        site = f"http://127.0.0.1:{free_port()}"
        alertmanager = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /usr/share && exec "$@"', f"{ROOT}/usr/share",
             f"{ROOT}/usr/bin/prometheus-alertmanager", f"--config.file={folder}/settings", f"--storage.path={folder}/data",
             f"--web.listen-address={site[7:]}", "--cluster.listen-address=", "--log.level=debug"], stdout=log, stderr=log)
        try:
            alert = urllib.request.Request(f"{site}/api/v2/alerts", json.dumps([{"labels": {"alertname": "TankFull"}}]).encode(),
                                           {"Content-Type": "application/json"})
            end = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen(alert, timeout=10).close()
                    break
                except OSError:
                    if time.monotonic() > end:
                        log.seek(0)
                        sys.exit(log.read())
                    time.sleep(0.1)
            while not server.offered and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(4)  # four times group_interval, in which nothing else may be offered
            with urllib.request.urlopen(f"{site}/metrics", timeout=10) as answer:
                failed = re.search(r'_requests_failed_total\{integration="email"\} (\d+)', answer.read().decode()).group(1)
        finally:
            alertmanager.terminate()
            try:
                alertmanager.wait(20)
            except subprocess.TimeoutExpired:
                alertmanager.kill()
                alertmanager.wait()
            server.listener.shutdown(socket.SHUT_RDWR)
            server.listener.close()
        log.seek(0)
        logged = re.search(r'msg=("Notify [^"]*")', log.read())
    print(f"{title} -> offered {server.offered}, taken {server.taken}, failed {failed},",
          logged.group(1) if logged else "nothing", flush=True)


case("nothing else")
case("451 to RCPT", RCPT=b"451 4.7.1 try again later")
case("451 to DATA", DATA=b"451 4.3.0 try again later")
case("452 to the final dot", dot=b"452 4.3.1 the queue is full")
case("552 to the final dot", dot=b"552 5.3.4 message too large")
case("closes without a reply to the final dot", dot=b"")
END
cat >expected <<'END'
nothing else -> offered 1, taken 1, failed 0, "Notify success"
451 to RCPT -> offered 1, taken 1, failed 1, "Notify attempt failed, will retry later"
451 to DATA -> offered 1, taken 1, failed 1, "Notify attempt failed, will retry later"
452 to the final dot -> offered 1, taken 0, failed 0, "Notify success"
552 to the final dot -> offered 1, taken 0, failed 0, "Notify success"
closes without a reply to the final dot -> offered 1, taken 0, failed 0, "Notify success"
END
timeout 250 python3 play.py "$folder/root" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: Alertmanager no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
