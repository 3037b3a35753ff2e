#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what is there for computers without OpenWrt: the systemd unit and the container.

    tests/computers.py PROGRAM

PROGRAM is the static program for this machine. The unit is judged by systemd-analyze. The root file system of the
container is built as the last stage of scripts/container/Dockerfile says and started in a chroot, as its user; that needs
root. What can't be checked here is skipped, and said.
"""

import json
import os
import re
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SETTINGS = """config relay 'main'
	option hostname 'gw.example'
	option durability 'always'
	option hook 'none'
config listener 'lan'
	list address '127.0.0.1'
	option port '0'
	list allow '127.0.0.0/8'
config account 'provider'
	option provider 'custom'
	option host 'localhost'
	option port '9'
	option tls 'implicit'
	option from 'me@example.com'
"""


def check_unit(program):
    """The unit has no mistake that systemd knows of, once its program is where it says."""
    if not shutil.which("systemd-analyze"):
        print("skipped: no systemd-analyze here, so the unit was not checked")
        return
    text = (TOP / "scripts/systemd/smtprelay.service").read_text()
    named = set(re.findall(r"=(/\S+/smtprelay) ", text))
    assert named == {"/usr/local/sbin/smtprelay"}, named
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder, "smtprelay.service")
        unit.write_text(text.replace("/usr/local/sbin/smtprelay", str(program)))
        done = subprocess.run(["systemd-analyze", "--man=no", "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0 and "smtprelay.service" not in done.stderr, done.stderr
    print("unit: systemd-analyze verify finds nothing")


def last_stage():
    """Copies, user and command of the image."""
    stage = (TOP / "scripts/container/Dockerfile").read_text().split("\nFROM scratch\n")[1]
    copies = re.findall(r"^COPY --from=build (?:--chown=(\S+) )?(\S+) (\S+)$", stage, re.MULTILINE)
    assert len(copies) == stage.count("COPY"), "a COPY of another form"
    user = re.search(r"^USER (\d+):(\d+)$", stage, re.MULTILINE)
    command = [json.loads(re.search(rf"^{name} (.*)$", stage, re.MULTILINE)[1]) for name in ("ENTRYPOINT", "CMD")]
    return copies, (int(user[1]), int(user[2])), command[0] + command[1]


def fill(root, copies, program):
    """The root file system, with what the build stage has in these places."""
    built = {
        "/etc/ssl/certs/ca-certificates.crt": Path("/etc/ssl/certs/ca-certificates.crt"),
        "/source/target/release/smtprelay": program,
        "/made/spool": None,
        "/made/state": None,
    }
    for owner, source, target in copies:
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if built[source] is None:
            place.mkdir()
        else:
            shutil.copy(built[source], place)
        if owner:
            os.chown(place, *map(int, owner.split(":")))


def check_container(program):
    """The image's file system as it is started: takes a message, keeps it, ends when asked to."""
    if os.geteuid() != 0:
        print("skipped: the container needs root (chroot)")
        return
    copies, user, command = last_stage()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        fill(root, copies, program)
        settings = root / "etc/config/smtprelay"
        settings.parent.mkdir()
        settings.write_text(SETTINGS)
        os.chown(settings, *user)
        settings.chmod(0o600)
        gateway = subprocess.Popen(
            ["chroot", f"--userspec={user[0]}:{user[1]}", root, *command],
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        try:
            said = []
            for line in gateway.stderr:
                said.append(line)
                if "event=listening" in line:
                    break
            else:
                raise AssertionError("".join(said))
            with smtplib.SMTP("127.0.0.1", int(re.search(r"port=(\d+)", said[-1])[1])) as client:
                client.sendmail("plc@example.com", ["ops@example.com"], "Subject: alarm\r\n\r\nHot.\r\n")
        finally:
            gateway.send_signal(signal.SIGTERM)
            rest = gateway.stderr.read()
            code = gateway.wait(60)
        assert code == 0, (code, said, rest)
        kept = list((root / "var/spool/smtprelay/queue").glob("*.msg"))
        assert len(kept) == 1 and kept[0].stat().st_uid == user[0], (kept, said, rest)
    print("container: the gateway ran as its user, took a message, and kept it in its volume")


def main():
    program = Path(sys.argv[1]).resolve()
    check_unit(program)
    check_container(program)


main()
