// SPDX-License-Identifier: Apache-2.0
//! Postfix as a provider with STARTTLS, as on port 587.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::super::certs::{Cert, Certs};
use super::super::log::ProcessLog;
use super::super::port::Port;
use super::super::relay::START_LIMIT;
use super::{Delivery, HOSTNAME, Mailbox, PASSWORD, Packages, USER, folder_of, give_to, skipped, temp_folder, texts};

const OWNER: &str = "postfix";

/// A running Postfix: STARTTLS and a login (PLAIN, LOGIN, CRAM-MD5) are required; PIPELINING, 8BITMIME, SMTPUTF8,
/// CHUNKING, DSN and SIZE are offered. It ends when this is dropped.
///
/// Messages arrive with CRLF as they were sent, with one `Received:` field of several lines in front. It names
/// TLS version and cipher (`using TLSv1.3 with cipher …`) and the login (`Authenticated sender: relay@provider.example`).
/// From, Date and Message-ID are not added.
pub struct Postfix {
    master: Child,
    port: Port,
    mailbox: Mailbox,
    log: ProcessLog,
    _dir: TempDir,
}

impl Postfix {
    /// Starts it with the certificate [`Cert::Good`]; `None` if it is not at hand.
    pub async fn start(certs: &Certs) -> Option<Postfix> {
        Postfix::start_with(certs, "").await
    }

    /// As [`Postfix::start`], with more lines for `main.cf`.
    pub async fn start_with(certs: &Certs, more: &str) -> Option<Postfix> {
        let packages = match Packages::find("usr/lib/postfix/sbin/master", &[OWNER]) {
            Ok(packages) => packages,
            Err(why) => return skipped("Postfix", &why),
        };
        let mailbox = Mailbox::start().await;
        // Postfix asks for SO_REUSEADDR, too.
        let port = Port::reserve();

        let dir = temp_folder("postfix");
        make_queue(dir.path());
        let config = dir.path().join("config");
        // Debian's Postfix looks for the settings of SASL here, whatever cyrus_sasl_config_path says.
        let sasl = config.join("sasl");
        fs::create_dir_all(&sasl).expect("make a folder");
        make_logins(&packages, &sasl);
        let main = main_cf(&packages, dir.path(), certs, mailbox.port()) + more + "\n";
        fs::write(config.join("main.cf"), main).expect("write main.cf");
        fs::write(config.join("master.cf"), master_cf(port.address.port())).expect("write master.cf");

        let mut command = Command::new(packages.root.join("usr/lib/postfix/sbin/master"));
        // -s: stays in the foreground and logs to standard output. It makes a session of its own by itself.
        command.arg("-c").arg(&config).arg("-s");
        command.env_clear().env("MAIL_CONFIG", &config);
        command.env("LD_LIBRARY_PATH", packages.library_path()).env("SASL_PATH", packages.sasl_path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut master = command.spawn().expect("start Postfix");
        let mut log = ProcessLog::new();
        log.follow(&mut master);
        let postfix = Postfix { master, port, mailbox, log, _dir: dir };
        postfix.wait_log("daemon started", START_LIMIT).await;
        Some(postfix)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.address.port()
    }

    /// Waits until at least so many messages were delivered, and returns the texts of all. Panics with its log if
    /// that takes longer than `limit`.
    pub async fn wait_for_messages(&self, count: usize, limit: Duration) -> Vec<Vec<u8>> {
        texts(self.wait_for_deliveries(count, limit).await)
    }

    /// As [`Postfix::wait_for_messages`], with the envelopes.
    pub async fn wait_for_deliveries(&self, count: usize, limit: Duration) -> Vec<Delivery> {
        match self.mailbox.wait(count, limit).await {
            Some(deliveries) => deliveries,
            None => panic!("Postfix: waited {limit:?} for {count} messages\n{}", self.log()),
        }
    }

    /// Waits for a line with this text in its log, such as `NOQUEUE: reject`.
    pub async fn wait_log(&self, part: &str, limit: Duration) -> String {
        match self.log.wait(0, |line| line.contains(part), limit).await {
            Ok(line) => line,
            Err(why) => panic!("Postfix: {part:?} is missing in its log: {why}\n{}", self.log),
        }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.log.to_string()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // The process group that it made for itself and the daemons that it started; there is none yet if it has
        // just begun.
        if let Ok(pid) = i32::try_from(self.master.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// What `postfix set-permissions` and `postfix check` do for an installed one.
fn make_queue(dir: &Path) {
    let queue = dir.join("queue");
    fs::create_dir(&queue).expect("make a folder");
    for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop"]
        .into_iter()
        .chain(["private", "public", "saved", "trace"])
    {
        folder_of(OWNER, &queue.join(name));
    }
    fs::create_dir(queue.join("pid")).expect("make a folder");
    folder_of(OWNER, &dir.join("data"));
}

/// A Cyrus SASL data base with the one user.
fn make_logins(packages: &Packages, sasl: &Path) {
    let database = sasl.join("sasldb2");
    let settings = format!(
        "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5\nsasldb_path: {}\n",
        database.display()
    );
    fs::write(sasl.join("smtpd.conf"), settings).expect("write smtpd.conf");
    let mut command = Command::new(packages.root.join("usr/sbin/saslpasswd2"));
    command.args(["-p", "-c", "-u", HOSTNAME, "-f"]).arg(&database).arg(USER);
    command.env("LD_LIBRARY_PATH", packages.library_path()).env("SASL_PATH", packages.sasl_path());
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start saslpasswd2");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, PASSWORD.as_bytes()).expect("hand the password to saslpasswd2");
    drop(stdin);
    assert!(child.wait().expect("the end of saslpasswd2").success(), "saslpasswd2 failed");
    give_to(OWNER, &database);
}

fn main_cf(packages: &Packages, dir: &Path, certs: &Certs, mailbox: u16) -> String {
    let root = packages.root.display();
    let dir = dir.display();
    let cert = certs.cert_file(Cert::Good);
    let key = certs.key_file(Cert::Good);
    format!(
        "compatibility_level = 3.6
# Places: the unpacked packages and the temp folder.
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {root}/etc/postfix
queue_directory = {dir}/queue
data_directory = {dir}/data
mail_owner = {OWNER}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH SASL_PATH
maillog_file = /dev/stdout
# The loopback interface, and no DNS.
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = {HOSTNAME}
mydomain = {HOSTNAME}
disable_dns_lookups = yes
smtpd_peername_lookup = no
# Whoever is logged in may send to everybody; everything goes to the mailbox.
mydestination =
mynetworks =
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
default_transport = lmtp:inet:127.0.0.1:{mailbox}
relay_transport = $default_transport
local_transport = $default_transport
# Leave the bytes as they are: nothing is added for clients on this machine either.
local_header_rewrite_clients =
lmtp_line_length_limit = 0
smtputf8_enable = yes
message_size_limit = 52428800
mailbox_size_limit = 0
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {dir}/config/sasl
smtpd_sasl_local_domain = {HOSTNAME}
smtpd_sasl_security_options = noanonymous
smtpd_sasl_authenticated_header = yes
",
        cert = cert.display(),
        key = key.display(),
    )
}

/// The services of Postfix; none of them in a chroot, none that sends by itself but LMTP.
fn master_cf(port: u16) -> String {
    let mut text = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    for (name, kind, private, wakeup, limit, program) in [
        ("pickup", "unix", "n", "60", "1", "pickup"),
        ("cleanup", "unix", "n", "-", "0", "cleanup"),
        ("qmgr", "unix", "n", "300", "1", "qmgr"),
        ("tlsmgr", "unix", "-", "1000?", "1", "tlsmgr"),
        ("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
        ("bounce", "unix", "-", "-", "0", "bounce"),
        ("defer", "unix", "-", "-", "0", "bounce"),
        ("trace", "unix", "-", "-", "0", "bounce"),
        ("proxymap", "unix", "-", "-", "-", "proxymap"),
        ("error", "unix", "-", "-", "-", "error"),
        ("retry", "unix", "-", "-", "-", "error"),
        ("lmtp", "unix", "-", "-", "-", "lmtp"),
        ("anvil", "unix", "-", "-", "1", "anvil"),
        ("scache", "unix", "-", "-", "1", "scache"),
        ("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
    ] {
        text += &format!("{name} {kind} {private} - n {wakeup} {limit} {program}\n");
    }
    text
}
