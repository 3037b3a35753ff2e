# SPDX-License-Identifier: Apache-2.0
"""Postfix, which most relays are compared with."""

import os

from relay import Peer, first_line, libraries, unpacked
from tools import PASSWORD, USER


class Postfix(Peer):
    """Debian's Postfix with a relay host; logs to syslog, which is not there: nothing is written."""

    name = "postfix"
    reuse = False

    @classmethod
    def find(cls, context):
        return unpacked(context, "usr/lib/postfix/sbin/master", "postfix")

    @classmethod
    def version(cls, context):
        path = os.path.join(context.servers, "root/usr/sbin/postconf")
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries(context)}
        return "postfix " + first_line([path, "-dh", "mail_version"], r"\d[\w.]+", env=environment)

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
