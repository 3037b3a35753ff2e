#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# dma 0.13 (DragonFly Mail Agent; Debian 12, dma 0.13-1+b1): a login that is refused temporarily, or a 421 to EHLO, ends in a bounce
# at once, and the bounce no longer has the text of the mail.
#
# dma is the "sendmail" of DragonFly and FreeBSD 14 and a small one for other systems. It keeps what a relay host defers and tries
# for five days, if the temporary refusal is the greeting or the reply to MAIL, RCPT or the message. When the login gets a 4xx
# (providers reply "454 4.7.0 too many login attempts, please try again later", and so does a mail server whose database
# restarts), dma logs "deferred" and then "SMTP login not available. Trying without.": it sends the mail without a login in the
# same session, and the 530 that follows is permanent. It does the same, without a word in the log, with a server that
# offers AUTH PLAIN and not LOGIN. A temporary refusal of EHLO is permanent as well, with the reason "unknown bounce reason".
# The bounce goes to the sender, for a mail of cron or a script to the mailbox of root on the machine itself, and contains the
# header only: the queue is empty, sendmail has long ended with 0, and the text of the alarm does not exist anywhere.
#
# Seen, what the server, which takes mail after a login only, does the first time -> what becomes of the mail, and how often dma
# tried to log in:
#	takes it -> received, logins 1
#	421 as the greeting -> queued, logins 0
#	421 to EHLO -> bounced without its text, reason "unknown bounce reason", logins 0
#	454 to the login -> bounced without its text, reason "530 5.7.0 authentication required", logins 1
#	offers AUTH PLAIN only -> bounced without its text, reason "530 5.7.0 authentication required", logins 0
#	451 to RCPT -> queued, logins 1
#
# Needs Debian 12 on amd64 (apt-get download), root (dma runs in a folder of its own with chroot), python3, and the libraries of
# dma (package dma installs them). The server is a small one within this file. Loopback only. Ends with 0 when the behaviour is
# as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download dma=0.13-1+b1
dpkg -x ./*.deb root
cat >play.py <<'END'
"""Plays the provider, gives dma one message, and prints what becomes of it."""
import os, re, shutil, signal, socket, subprocess, sys, tempfile, threading, time

ROOT = sys.argv[1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a timeout ends dma as well
LATER = b"421 4.3.2 try again later"
BUSY = b"454 4.7.0 too many login attempts, try again later"


class Provider:
    """Takes mail after a login only; gives the reply that it has for a step the first time."""

    def __init__(self, mechanism="LOGIN", **replies):
        self.mechanism, self.replies = mechanism, replies
        self.received, self.logins = 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

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
        known = False
        for line in lines:
            verb, reply = line[:4].upper(), b"250 ok"
            if verb == b"EHLO":
                reply = self.replies.pop("ehlo", b"250-mx\r\n250 AUTH " + self.mechanism.encode())
            elif verb == b"AUTH":
                for prompt in (b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"):
                    connection.sendall(prompt + b"\r\n")
                    lines.readline()
                self.logins += 1
                reply = self.replies.pop("login", b"235 2.7.0 welcome")
                known = reply.startswith(b"2")
            elif verb == b"MAIL" and not known:
                reply = b"530 5.7.0 authentication required"
            elif verb == b"RCPT":
                reply = self.replies.pop("recipient", reply)
            elif verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                while lines.readline() not in (b".\r\n", b""):
                    pass
                self.received += 1
                reply = b"250 taken"
            elif verb == b"QUIT":
                reply = b"221 bye"
            connection.sendall(reply + b"\r\n")
            if verb == b"QUIT" or reply.startswith(b"421"):
                return


def furnish(folder, port):
    """Furnishes a folder in which dma finds all that it needs, since the places of its files are compiled into it."""
    for name in ("bin", "dev", "etc/dma", "tmp", "var/mail", "var/spool/dma"):
        os.makedirs(f"{folder}/{name}")
    needed = subprocess.run(["ldd", f"{ROOT}/usr/sbin/dma"], stdout=subprocess.PIPE, check=True, text=True).stdout
    for library in re.findall(r"(?:=> |^\s+)(/\S+)", needed, re.M):
        os.makedirs(folder + os.path.dirname(library), exist_ok=True)
        shutil.copy(library, folder + library)
    shutil.copy(f"{ROOT}/usr/sbin/dma", f"{folder}/bin/dma")
    for name, content in {
        "etc/passwd": "root:x:0:0::/:/bin/sh\nmail:x:8:8::/:/bin/sh\n",
        "etc/group": "root:x:0:\nmail:x:8:\n",
        "etc/dma/dma.conf": f"SMARTHOST 127.0.0.1\nPORT {port}\nAUTHPATH /etc/dma/auth.conf\nINSECURE\nMAILNAME plc.example.com\n",
        "etc/dma/auth.conf": "plc|127.0.0.1:secret\n",
        "dev/null": "",
        "var/mail/root": "",
    }.items():
        with open(f"{folder}/{name}", "w") as file:
            file.write(content)
    for name in (".", "dev"):
        os.chmod(f"{folder}/{name}", 0o755)
    for name in ("var/mail", "var/mail/root", "var/spool/dma"):
        os.chown(f"{folder}/{name}", 8, 8)  # dma continues as user mail
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(f"{folder}/dev/log")
    os.chmod(f"{folder}/dev/log", 0o666)
    return log


def read(log, lines):
    while True:
        lines.append(log.recv(4096).decode())


def case(title, **settings):
    provider = Provider(**settings)
    with tempfile.TemporaryDirectory() as folder:
        log, lines = furnish(folder, provider.listener.getsockname()[1]), []
        threading.Thread(target=read, args=(log, lines), daemon=True).start()
        dma = subprocess.Popen(["chroot", folder, "/bin/dma", "-D", "ops@example.com"], stdin=subprocess.PIPE)
        try:
            dma.stdin.write(b"Subject: tank\n\nTank 3 is full.\n")
            dma.stdin.close()
            end = time.monotonic() + 20
            while dma.poll() is None and time.monotonic() < end:
                if any("remote delivery deferred: 127" in line for line in lines):
                    break  # dma would try again in five minutes
                time.sleep(0.05)
        finally:
            dma.kill()
            dma.wait()
        provider.listener.close()
        with open(f"{folder}/var/mail/root") as file:
            bounce = file.read()
        queued = [name for name in os.listdir(f"{folder}/var/spool/dma") if name.startswith("M")]
        log.close()
    fate = ["received"] * provider.received + ["queued"] * len(queued)
    if bounce:
        reason = bounce.partition("your mail to <ops@example.com>.\n\n")[2].partition("\n\n")[0].splitlines()[-1]
        fate.append(f'bounced {"with" if "Tank 3 is full." in bounce else "without"} its text, reason "{reason}"')
    print(f"{title} -> {', '.join(fate)}, logins {provider.logins}", flush=True)


case("takes it")
case("421 as the greeting", greeting=LATER)
case("421 to EHLO", ehlo=LATER)
case("454 to the login", login=BUSY)
case("offers AUTH PLAIN only", mechanism="PLAIN")
case("451 to RCPT", recipient=b"451 4.7.1 try again later")
END
cat >expected <<'END'
takes it -> received, logins 1
421 as the greeting -> queued, logins 0
421 to EHLO -> bounced without its text, reason "unknown bounce reason", logins 0
454 to the login -> bounced without its text, reason "530 5.7.0 authentication required", logins 1
offers AUTH PLAIN only -> bounced without its text, reason "530 5.7.0 authentication required", logins 0
451 to RCPT -> queued, logins 1
END
timeout 150 python3 play.py "$folder/root" >seen
cat seen
if ! diff expected seen; then
	echo 'changed: dma no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
