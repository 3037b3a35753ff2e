// SPDX-License-Identifier: Apache-2.0
//! Exim as a provider with implicit TLS, as on port 465.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet};

use super::super::certs::{Cert, Certs};
use super::{Delivery, HOSTNAME, Mailbox, PASSWORD, Packages, USER, folder_of, skipped, temp_folder, texts};

const OWNER: &str = "Debian-exim";

/// A running Exim: implicit TLS and a login (PLAIN, LOGIN) are required; PIPELINING, 8BITMIME, SMTPUTF8,
/// CHUNKING and SIZE are offered. It ends when this is dropped.
///
/// Messages arrive with CRLF as they were sent, with one `Received:` field of several lines in front, which names
/// the TLS version and cipher (`with esmtpsa (TLS1.3) tls TLS_…`) and the envelope sender. From, Date and
/// Message-ID are not added.
///
/// It runs in the manner of inetd: the test listens, and each connection gets an Exim process. So there is no
/// daemon to wait for, and none that could stay behind.
pub struct Exim {
    port: u16,
    mailbox: Mailbox,
    task: JoinHandle<()>,
    groups: Groups,
    dir: TempDir,
}

impl Exim {
    /// Starts it with the certificate [`Cert::Good`]; `None` if it is not at hand.
    pub async fn start(certs: &Certs) -> Option<Exim> {
        let packages = match Packages::find("usr/sbin/exim4", &[OWNER]) {
            Ok(packages) => packages,
            Err(why) => return skipped("Exim", &why),
        };
        let mailbox = Mailbox::start().await;
        let dir = temp_folder("exim");
        folder_of(OWNER, &dir.path().join("spool"));
        folder_of(OWNER, &dir.path().join("log"));
        let config = dir.path().join("exim.conf");
        fs::write(&config, settings(&packages, dir.path(), certs, mailbox.port())).expect("write exim.conf");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let program = packages.root.join("usr/sbin/exim4");
        let groups = Groups::default();
        let task = tokio::spawn(serve(listener, program, config, packages.library_path(), groups.clone()));
        Some(Exim { port, mailbox, task, groups, dir })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until at least so many messages were delivered, and returns the texts of all. Panics with its log if
    /// that takes longer than `limit`.
    pub async fn wait_for_messages(&self, count: usize, limit: Duration) -> Vec<Vec<u8>> {
        texts(self.wait_for_deliveries(count, limit).await)
    }

    /// As [`Exim::wait_for_messages`], with the envelopes.
    pub async fn wait_for_deliveries(&self, count: usize, limit: Duration) -> Vec<Delivery> {
        match self.mailbox.wait(count, limit).await {
            Some(deliveries) => deliveries,
            None => panic!("Exim: waited {limit:?} for {count} messages\n{}", self.log()),
        }
    }

    /// Its logs so far.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.path().join("log").join(name)).unwrap_or_default();
        ["mainlog", "rejectlog", "paniclog"].map(read).concat()
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        self.task.abort();
        // Nobody may write into the folder any more when it is removed.
        for group in self.groups.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = killpg(*group, Signal::SIGKILL);
        }
    }
}

/// The process groups of the connections that are open: each Exim process has one, together with the process that
/// delivers its messages.
type Groups = Arc<Mutex<Vec<Pid>>>;

/// One Exim process for each connection, until this is aborted.
async fn serve(listener: TcpListener, program: PathBuf, config: PathBuf, libraries: String, groups: Groups) {
    let mut running = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let mut command = Command::new(&program);
        // -odf: delivers in the foreground, before it reads the next command.
        command.arg("-C").arg(&config).args(["-bs", "-tls-on-connect", "-odf"]);
        command.env_clear().env("LD_LIBRARY_PATH", &libraries).current_dir("/");
        command.process_group(0).kill_on_drop(true);
        if let Err(error) = hand_over(&mut command, tcp) {
            eprintln!("hand a connection to Exim: {error}");
            continue;
        }
        match command.spawn() {
            Ok(mut child) => {
                let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
                let lock = |groups: &Groups, change: &dyn Fn(&mut Vec<Pid>)| {
                    change(&mut groups.lock().unwrap_or_else(PoisonError::into_inner));
                };
                lock(&groups, &|all| all.extend(group));
                let groups = groups.clone();
                running.spawn(async move {
                    let _ = child.wait().await;
                    lock(&groups, &|all| all.retain(|one| Some(*one) != group));
                });
            }
            Err(error) => eprintln!("start Exim: {error}"),
        }
        while running.try_join_next().is_some() {}
    }
}

/// The connection becomes standard input and output.
fn hand_over(command: &mut Command, tcp: TcpStream) -> std::io::Result<()> {
    let tcp = tcp.into_std()?;
    tcp.set_nonblocking(false)?;
    let input = OwnedFd::from(tcp);
    let output = input.try_clone()?;
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::null());
    Ok(())
}

fn settings(packages: &Packages, dir: &Path, certs: &Certs, mailbox: u16) -> String {
    let root = packages.root.display();
    let dir = dir.display();
    let cert = certs.cert_file(Cert::Good);
    let key = certs.key_file(Cert::Good);
    format!(
        "exim_path = {root}/usr/sbin/exim4
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
keep_environment = LD_LIBRARY_PATH
primary_hostname = {HOSTNAME}
qualify_domain = {HOSTNAME}
# The loopback interface, and no DNS.
local_interfaces = 127.0.0.1
disable_ipv6 = true
host_lookup =
rfc1413_query_timeout = 0s
# An address without a login is refused at RCPT.
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
auth_advertise_hosts = *
chunking_advertise_hosts = *
message_size_limit = 50M
accept_8bitmime = true
# Neither files nor programs: runs without root once the connection is there.
deliver_drop_privilege = true

begin acl
rcpt:
  accept authenticated = *
  deny message = Authentication required

begin routers
mailbox:
  driver = manualroute
  domains = *
  route_list = * 127.0.0.1
  self = send
  transport = mailbox

begin transports
mailbox:
  driver = smtp
  protocol = lmtp
  port = {mailbox}
  hosts = 127.0.0.1
  hosts_override
  allow_localhost
  hosts_avoid_tls = *
  # Leave the bytes as they are.
  message_linelength_limit = 52428800

begin retry
* * F,1h,1m

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{USER}}}}}{{eq{{$auth2}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth1
",
        cert = cert.display(),
        key = key.display(),
    )
}
