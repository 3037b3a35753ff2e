# SPDX-License-Identifier: Apache-2.0
"""How each relay is set up and started: in a scratch folder, on the loopback interface, with mail going to one provider.

The settings are those of the packages as far as possible. What differs: places, ports, the provider with its login, and
limits that would refuse fifty clients or a large message. Debian's packages are unpacked, not installed
(scripts/servers.sh). A relay that is not there says why.
"""

import os
import shutil
import subprocess

import processes
from postfix import Postfix, PostfixReuse
from relay import Missing, Peer, first_line, libraries, unpacked
from tools import PASSWORD, USER


class Smtprelay(Peer):
    """The static program, as it is installed on a router."""

    name = "smtprelay"
    durability = "always"
    stop_patience = 30

    @classmethod
    def find(cls, context):
        return context.program

    @classmethod
    def version(cls, context):
        return subprocess.run([context.program, "--version"], check=True, capture_output=True, text=True).stdout.strip()

    def set_up(self):
        self.config = self.write(
            "config",
            f"""
config relay 'main'
	option hostname 'gw.example'
	option user 'root'
	option spool '{self.dir}/ram'
	option safe_spool '{self.dir}/flash'
	option durability '{self.durability}'
	option spool_limit '4G'
	option message_limit '150M'
	option hook 'none'

config listener 'lan'
	list address '127.0.0.1'
	option port '{self.port}'
	list allow '127.0.0.0/8'
	list allow '192.0.2.0/24'

config account 'provider'
	option provider 'custom'
	option host 'localhost'
	option port '{self.account_port}'
	option tls 'implicit'
	option ca_file '{self.ca}'
	option username '{USER}'
	option password '{PASSWORD}'
	option from 'me@example.com'
	option from_policy 'keep'
""",
        )

    def command(self):
        return [self.context.program, "run", "--foreground", "--config", self.config]

    def order(self, *words):
        command = [self.context.program, *words, "--config", self.config]
        process = processes.tool(command, stdout=subprocess.PIPE)
        text, _ = process.communicate()
        processes.tools.discard(process.pid)
        return text


class Exim(Peer):
    """Debian's Exim, which delivers each message at once."""

    name = "exim"

    @classmethod
    def find(cls, context):
        return unpacked(context, "usr/sbin/exim4", "Debian-exim")

    @classmethod
    def version(cls, context):
        return first_line([cls.find(context), "-bV"], r"Exim version \S+").lower()

    def set_up(self):
        self.folder_of("Debian-exim", "spool", "log")
        self.config = self.write(
            "exim.conf",
            f"""exim_path = {self.find(self.context)}
spool_directory = {self.dir}/spool
log_file_path = {self.dir}/log/%slog
pid_file_path = {self.dir}/spool/exim.pid
keep_environment = LD_LIBRARY_PATH
primary_hostname = gw.example
qualify_domain = gw.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
disable_ipv6 = true
host_lookup = *
tls_advertise_hosts =
acl_smtp_rcpt = accept
acl_smtp_data = accept
message_size_limit = 150M
# Its defaults would refuse the twenty-first client.
smtp_accept_max = 200
smtp_connect_backlog = 100
deliver_drop_privilege = true

begin routers
smarthost:
  driver = manualroute
  domains = *
  route_list = * localhost::{self.account_port} byname
  self = send
  transport = smarthost

begin transports
smarthost:
  driver = smtp
  protocol = smtps
  allow_localhost
  hosts_require_auth = *
  tls_verify_certificates = {self.ca}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *

begin retry
* * F,2h,15m

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{USER}^{PASSWORD}
""",
        )

    def command(self):
        # A queue runner every 30 minutes is Debian's.
        return [self.find(self.context), "-C", self.config, "-bdf", "-q30m"]

    def environment(self):
        return {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries(self.context)}


class Opensmtpd(Peer):
    """Debian's OpenSMTPD. Its places are fixed in the program: the run's own mounts put folders there."""

    name = "opensmtpd"
    synced = "no"

    @classmethod
    def find(cls, context):
        return unpacked(context, "usr/sbin/smtpd", "opensmtpd", "opensmtpq")

    @classmethod
    def version(cls, context):
        return first_line([cls.find(context), "-h"], r"OpenSMTPD \S+").lower()

    def set_up(self):
        # scripts/bench.sh has put an empty folder there; a queue of this machine is left alone.
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            if " /var/spool " not in mounts.read():
                raise RuntimeError("/var/spool is the machine's own")
        shutil.rmtree("/var/spool/smtpd", ignore_errors=True)
        os.makedirs("/var/spool/smtpd", mode=0o711, exist_ok=True)
        os.makedirs("/var/lib/opensmtpd/empty", exist_ok=True)
        self.config = self.write(
            "smtpd.conf",
            f"""table creds {{ provider = "{USER}:{PASSWORD}" }}
smtp max-message-size 150M
listen on 127.0.0.1 port {self.port} hostname gw.example
action "out" relay host "smtps://provider@127.0.0.1:{self.account_port}" auth <creds> tls no-verify
match from any for any action "out"
""",
            0o600,
        )

    def command(self):
        return [self.find(self.context), "-F", "-f", self.config]

    def environment(self):
        return {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries(self.context)}


class Msmtpd(Peer):
    """msmtpd starts msmtp for each message and waits for it: no queue, and no reply before the provider's."""

    name = "msmtpd"
    queues = False
    synced = "no queue"

    @classmethod
    def find(cls, context):
        if not shutil.which("msmtp"):
            raise Missing("msmtp is not installed")
        return unpacked(context, "usr/bin/msmtpd")

    @classmethod
    def version(cls, context):
        return first_line([cls.find(context), "--version"], r"msmtpd version \S+")

    def set_up(self):
        self.config = self.write(
            "msmtprc",
            f"""account default
host localhost
port {self.account_port}
tls on
tls_starttls off
tls_trust_file {self.ca}
auth plain
user {USER}
password {PASSWORD}
""",
            0o600,
        )

    def command(self):
        command = f"{shutil.which('msmtp')} -C {self.config} -f %F --"
        return [self.find(self.context), "--interface=127.0.0.1", f"--port={self.port}", f"--command={command}"]


class Emailrelay(Peer):
    """E-MailRelay, which is not in Debian: EMAILRELAY names the program."""

    name = "e-mailrelay"
    synced = "no"

    @classmethod
    def find(cls, context):
        if not os.access(os.environ.get("EMAILRELAY", ""), os.X_OK):
            raise Missing("EMAILRELAY names no program")
        return os.environ["EMAILRELAY"]

    @classmethod
    def version(cls, context):
        return first_line([cls.find(context), "--version"], r"E-MailRelay \S+").lower()

    def set_up(self):
        os.makedirs(os.path.join(self.dir, "spool"))
        self.secrets = self.write("secrets", f"client plain {USER} {PASSWORD}\n", 0o600)

    def command(self):
        # Forwards as soon as the client has disconnected, and looks after the queue once a minute. It verifies the
        # certificate, but not the name in it, which it looks for in the subject only (2.6b).
        return [self.find(self.context), "--no-daemon", "--no-syslog", "--interface=127.0.0.1", f"--port={self.port}",
                f"--spool-dir={self.dir}/spool", "--user=root", f"--forward-to=localhost:{self.account_port}",
                "--forward-on-disconnect", "--poll=60", "--client-tls-connection", f"--client-tls-verify={self.ca}",
                f"--client-auth={self.secrets}"]


ALL = [Smtprelay, Postfix, PostfixReuse, Exim, Opensmtpd, Msmtpd, Emailrelay]


def at_hand(context, wanted=None):
    """The relays that can be measured, and why the others cannot."""
    found, left_out = [], {}
    for peer in ALL:
        if wanted and peer.name.replace(", ", "-") not in wanted:
            left_out[peer.name] = "not asked for"
            continue
        try:
            peer.find(context)
            found.append(peer)
        except Missing as why:
            left_out[peer.name] = str(why)
    return found, left_out
