# SPDX-License-Identifier: Apache-2.0
"""How each relay is set up and started: in a scratch folder, on the loopback interface, with mail going to one provider.

The settings are those of the packages as far as possible. What differs: places, ports, the provider with its login, and
limits that would refuse fifty clients or a large message. Debian's packages are unpacked, not installed
(scripts/servers.sh). A relay that is not there says why.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import time

import processes
from tools import PASSWORD, USER, free_port

START_LIMIT = 20


class Missing(Exception):
    """Why a relay cannot be measured."""


class Peer:
    """A relay with a folder of its own. Subclasses say how it is set up and started."""

    name = ""
    # Whether messages wait on disk, and what is synced before the 250.
    queues = True
    synced = "yes"
    # Seconds for an orderly end; only that of smtprelay is of interest here.
    stop_patience = 0

    def __init__(self, context, account_port, ca):
        self.context, self.account_port, self.ca = context, account_port, ca
        self.dir = context.folder(self.name.split()[0].lower())
        self.port = free_port()
        self.log = open(os.path.join(self.dir, "output"), "w", encoding="utf-8")
        self.set_up()
        self.relay = None

    def set_up(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def environment(self):
        return None

    def start(self):
        """Starts it; the seconds until it has greeted the first client."""
        begin = time.monotonic()
        self.relay = processes.Relay(self.command(), self.log, cwd="/", env=self.environment())
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                    if connection.recv(3) == b"220":
                        took = time.monotonic() - begin
                        connection.sendall(b"QUIT\r\n")
                        return took
            except OSError:
                pass
            if not self.relay.alive() or time.monotonic() - begin > START_LIMIT:
                self.relay.stop()
                with open(self.log.name, encoding="utf-8", errors="replace") as log:
                    raise RuntimeError(f"{self.name} does not start: {log.read()[-2000:]}")
            time.sleep(0.001)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.relay:
            self.relay.stop(self.stop_patience)
        self.log.close()
        # BENCH_DEBUG names a folder for what relays have logged.
        if debug := os.environ.get("BENCH_DEBUG"):
            for name in ("output", "postfix.log", "log/mainlog", "log/paniclog"):
                if os.path.exists(path := os.path.join(self.dir, name)):
                    shutil.copy(path, os.path.join(debug, f"{self.name}-{os.path.basename(name)}"))
        shutil.rmtree(self.dir, ignore_errors=True)

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def folder_of(self, user, *names):
        """Folders that belong to the user of a relay."""
        for name in names:
            path = os.path.join(self.dir, name)
            os.makedirs(path, exist_ok=True)
            owner = pwd.getpwnam(user)
            os.chown(path, owner.pw_uid, owner.pw_gid)


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


def unpacked(context, program, *users):
    """The program among the unpacked packages, or why it is not there."""
    path = os.path.join(context.servers, "root", program)
    if not os.path.isfile(path):
        raise Missing(f"{program} is not in {context.servers}; scripts/servers.sh fetches it")
    for user in users:
        try:
            pwd.getpwnam(user)
        except KeyError as error:
            raise Missing(f"there is no user {user}; scripts/servers.sh adds it when root runs it") from error
    return path


def libraries(context):
    root = os.path.join(context.servers, "root")
    found = [os.path.join(root, "usr/lib/postfix")]
    for parent in ("usr/lib", "lib"):
        folder = os.path.join(root, parent)
        if os.path.isdir(folder):
            found += [os.path.join(folder, name) for name in os.listdir(folder) if "-linux-" in name]
    return ":".join(found)


def package_version(*packages):
    """What apt-get has downloaded is the candidate."""
    for package in packages:
        text = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True).stdout
        if found := re.search(r"Candidate: (\S+)", text):
            return found[1]
    return "unknown version"


class Postfix(Peer):
    """Debian's Postfix with a relay host; logs to syslog, which is not there: nothing is written."""

    name = "postfix"
    reuse = False

    @classmethod
    def find(cls, context):
        return unpacked(context, "usr/lib/postfix/sbin/master", "postfix")

    @classmethod
    def version(cls, context):
        return f"postfix {package_version('postfix')}"

    def set_up(self):
        queues = "active bounce corrupt defer deferred flush hold incoming maildrop private public saved trace"
        self.folder_of("postfix", *(f"queue/{name}" for name in queues.split()), "data")
        os.makedirs(os.path.join(self.dir, "queue/pid"))
        root = os.path.join(self.context.servers, "root")
        log = f"{self.dir}/postfix.log" if os.environ.get("BENCH_DEBUG") else ""
        self.write(
            "config/main.cf",
            f"""compatibility_level = 3.6
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {root}/etc/postfix
queue_directory = {self.dir}/queue
data_directory = {self.dir}/data
mail_owner = postfix
import_environment = MAIL_CONFIG LD_LIBRARY_PATH SASL_PATH
maillog_file = {log}
maillog_file_prefixes = /
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = gw.example
mydestination =
mynetworks = 127.0.0.0/8 192.0.2.0/24
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = 157286400
mailbox_size_limit = 0
relayhost = [localhost]:{self.account_port}
smtp_host_lookup = native
smtp_tls_wrappermode = yes
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = hostname
smtp_tls_CAfile = {self.ca}
smtp_tls_session_cache_database = btree:$data_directory/smtp_scache
smtp_tls_connection_reuse = {"yes" if self.reuse else "no"}
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{{ {{ [localhost]:{self.account_port} = {USER}:{PASSWORD} }} }}
""",
        )
        text = f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
        # Those of Debian's master.cf that a relay uses.
        for name, kind, private, wakeup, limit, program in [
            ("pickup", "unix", "n", "60", "1", "pickup"),
            ("cleanup", "unix", "n", "-", "0", "cleanup"),
            ("qmgr", "unix", "n", "300", "1", "qmgr"),
            ("tlsmgr", "unix", "-", "1000?", "1", "tlsmgr"),
            ("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
            ("bounce", "unix", "-", "-", "0", "bounce"),
            ("defer", "unix", "-", "-", "0", "bounce"),
            ("trace", "unix", "-", "-", "0", "bounce"),
            ("verify", "unix", "-", "-", "1", "verify"),
            ("flush", "unix", "n", "1000?", "0", "flush"),
            ("proxymap", "unix", "-", "-", "-", "proxymap"),
            ("smtp", "unix", "-", "-", "-", "smtp"),
            ("relay", "unix", "-", "-", "-", "smtp"),
            ("error", "unix", "-", "-", "-", "error"),
            ("retry", "unix", "-", "-", "-", "error"),
            ("discard", "unix", "-", "-", "-", "discard"),
            ("tlsproxy", "unix", "-", "-", "0", "tlsproxy"),
            ("anvil", "unix", "-", "-", "1", "anvil"),
            ("scache", "unix", "-", "-", "1", "scache"),
            ("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
        ]:
            text += f"{name} {kind} {private} - n {wakeup} {limit} {program}\n"
        self.write("config/master.cf", text)

    def command(self):
        return [self.find(self.context), "-c", f"{self.dir}/config", "-d"]

    def environment(self):
        root = os.path.join(self.context.servers, "root")
        plugins = os.path.join(root, "usr/lib", os.uname().machine + "-linux-gnu", "sasl2")
        return {
            "PATH": os.environ["PATH"],
            "MAIL_CONFIG": f"{self.dir}/config",
            "LD_LIBRARY_PATH": libraries(self.context),
            "SASL_PATH": plugins,
        }


class PostfixReuse(Postfix):
    """Postfix that keeps its connections to the provider, which it does not by default."""

    name = "postfix, reuse"
    reuse = True


class Exim(Peer):
    """Debian's Exim, which delivers each message at once."""

    name = "exim"

    @classmethod
    def find(cls, context):
        return unpacked(context, "usr/sbin/exim4", "Debian-exim")

    @classmethod
    def version(cls, context):
        return f"exim {package_version('exim4-daemon-light')}"

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
        return f"opensmtpd {package_version('opensmtpd')}"

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
        return f"msmtp {package_version('msmtp-mta')}"

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
        text = subprocess.run([cls.find(context), "--version"], capture_output=True, text=True).stdout
        return " ".join(text.split("\n")[0].split()) or "e-mailrelay"

    def set_up(self):
        os.makedirs(os.path.join(self.dir, "spool"))
        self.secrets = self.write("secrets", f"client plain {USER} {PASSWORD}\n", 0o600)

    def command(self):
        # Forwards as soon as the client has disconnected, and looks after the queue once a minute.
        return [self.find(self.context), "--no-daemon", "--no-syslog", "--interface=127.0.0.1", f"--port={self.port}",
                f"--spool-dir={self.dir}/spool", "--user=root", f"--forward-to=localhost:{self.account_port}",
                "--forward-on-disconnect", "--poll=60", "--client-tls-connection", f"--client-tls-verify={self.ca}",
                "--client-tls-verify-name=localhost", f"--client-auth={self.secrets}"]


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
