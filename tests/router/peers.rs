// SPDX-License-Identifier: Apache-2.0
//! `make bench-router`: Postfix and msmtp of Debian on the same machine, for the same messages; and E-MailRelay, which is not
//! in Debian, where `EMAILRELAY_MIPSEL` names a static program.

use std::path::Path;

use super::machine::{Machine, System};
use super::support::certs::{Certs, Keys};
use super::support::client::Client;
use super::support::log::field;
use super::support::provider::{Provider, TlsMode};
use super::table::Table;
use super::{SOON, greeted, lines, settings, submit};

/// Folders of Postfix's queue that belong to its user. They are in a RAM disk, as those of smtprelay.
const QUEUES: &str = "active bounce corrupt defer deferred flush hold incoming private saved trace";
/// Files in which the provider's port has to take the place of a word.
const CONFIGURED: &str = "/peers/etc/postfix/main.cf /peers/etc/msmtprc";
/// Messages whose mean is taken.
const EACH: usize = 20;

/// A relay that listens.
struct Relay {
    machine: Machine,
    provider: Provider,
    name: &'static str,
    /// A shell command that ends when its queue is empty.
    wait: &'static str,
    sent: usize,
}

impl Relay {
    /// A machine, with one of these running; `start` is the shell command that runs in its foreground.
    async fn boot(kit: &Path, name: &'static str, prepare: &str, start: &str, wait: &'static str) -> Relay {
        let certs = Certs::of_keys(&[Keys::P256; 2]);
        let provider = Provider::builder()
            .tls(TlsMode::Implicit)
            .login("u", "p")
            .certs(&certs)
            .with(|settings| settings.resumption = false)
            .start()
            .await;
        let (port, settings) = (provider.port().to_string(), settings(&provider));
        let mut machine = Machine::slow_router_with_peers(kit, &settings, &certs.ca_file(), System::Jffs2);
        machine.boot().await;
        let command = format!(
            "stop; cat /etc/powercut/ca.pem >/peers/etc/ca.pem; sed -i s/PORT/{port}/ {CONFIGURED}; {prepare}; \
             chroot /peers {} & relay=$!",
            start.replace("PORT", &port)
        );
        let (code, said) = machine.run(&command, SOON).await;
        assert_eq!(code, 0, "{said:?}");
        Relay { machine, provider, name, wait, sent: 0 }
    }

    /// Its processor time in ms, and its memory in KB.
    async fn spent(&mut self) -> (f64, f64) {
        let (_, said) = self.machine.run("family \"$relay\"", SOON).await;
        let line = said.iter().find(|line| line.starts_with("router: cpu ")).expect("a line with the times");
        let value = |name| -> f64 { field(line, name).and_then(|value| value.parse().ok()).expect("a number") };
        (value("run") / 1000.0, value("memory"))
    }

    /// Waits until `count` more messages have left its queue. Returns the ms for each of them since `before`.
    async fn done(&mut self, count: usize, before: f64) -> f64 {
        self.sent += count;
        self.provider.wait_for_messages(self.sent, SOON).await;
        let (code, said) = self.machine.run(self.wait, SOON).await;
        assert_eq!(code, 0, "{said:?}");
        (self.spent().await.0 - before) / count as f64
    }

    /// Messages by a device that connects for each.
    async fn anew(&mut self, count: usize, name: &str, text: &str) -> f64 {
        let before = self.spent().await.0;
        for number in 0..count {
            let mut client = self.client().await;
            submit(&mut client, &format!("{name} {number}"), text).await;
            client.dialogue(&[("QUIT", 221)]).await;
        }
        self.done(count, before).await
    }

    async fn client(&self) -> Client {
        greeted(&self.machine).await
    }

    /// Its rows.
    async fn measure(&mut self, table: &mut Table) {
        let mut client = listening(&mut self.machine).await;
        let (start, memory) = self.spent().await;
        let name = self.name;
        table.add(&format!("{name}: start, and what the first device starts"), start);
        table.add(&format!("{name}: memory of these (PSS), KB"), memory);
        let small = lines(1024);
        let before = self.spent().await.0;
        submit(&mut client, "first", &small).await;
        client.dialogue(&[("QUIT", 221)]).await;
        let message = self.done(1, before).await;
        table.add(&format!("{name}: first message of 1 KiB, with connection and TLS 1.3"), message);
        let message = self.anew(EACH, "anew", &small).await;
        table.add(&format!("{name}: further message of 1 KiB, device connects for each"), message);
        let before = self.spent().await.0;
        let mut client = self.client().await;
        for number in 0..EACH {
            submit(&mut client, &format!("kept {number}"), &small).await;
        }
        client.dialogue(&[("QUIT", 221)]).await;
        let message = self.done(EACH, before).await;
        table.add(&format!("{name}: further message of 1 KiB, device stays connected"), message);
        let message = self.anew(1, "large", &lines(1 << 20)).await;
        table.add(&format!("{name}: message of 1 MiB"), message);
        let (_, memory) = self.spent().await;
        table.add(&format!("{name}: memory after these messages (PSS), KB"), memory);
    }

    /// Milliseconds of one command in a loop of `count`.
    async fn times(&mut self, command: &str, count: usize) -> f64 {
        let looped = format!("(i=0; while [ $i -lt {count} ]; do {command}; i=$((i + 1)); done; times)");
        let (_, said) = self.machine.run(&looped, SOON).await;
        // User and system time of the children, in a line of its own: 0m1.230000s 0m0.450000s
        let line = said.iter().rev().find(|line| line.contains('m')).expect("a line with the times");
        let seconds = |text: &str| -> f64 {
            let (minutes, seconds) = text.trim_end_matches('s').split_once('m').expect("minutes and seconds");
            minutes.parse::<f64>().expect("minutes") * 60.0 + seconds.parse::<f64>().expect("seconds")
        };
        line.split_whitespace().map(seconds).sum::<f64>() * 1000.0 / count as f64
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make bench-router"]
async fn bench_peers() {
    let Some(kit) = super::kit() else { return };
    let mut table = Table::new("router-peers", "CPU ms at 500 MIPS");
    let prepare = format!(
        "mount -t tmpfs -o size=48M tmpfs /peers/var/spool/postfix; cd /peers/var/spool/postfix; \
         mkdir {QUEUES} maildrop pid public; chown 102 {QUEUES} /peers/var/lib/postfix; chown 102:103 maildrop public; cd /"
    );
    let start = "/usr/lib/postfix/sbin/master -c /etc/postfix -d";
    let queue = "while [ \"$(echo /peers/var/spool/postfix/*/[0-9A-F]*)\" != '/peers/var/spool/postfix/*/[0-9A-F]*' ]; do \
                 usleep 20000; done";
    let mut postfix = Relay::boot(&kit, "Postfix", &prepare, start, queue).await;
    postfix.measure(&mut table).await;
    msmtp(&mut postfix, &mut table).await;
    drop(postfix);
    if std::env::var_os("EMAILRELAY_MIPSEL").is_some() {
        let prepare = "mount -t tmpfs -o size=48M tmpfs /peers/var/spool/emailrelay";
        // It verifies the certificate, but not its name: it looks for that in the subject only.
        let start = "/usr/bin/emailrelay --no-daemon --no-syslog --log --remote-clients --interface=10.0.2.15 --port=25 --user=root \
                     --spool-dir=/var/spool/emailrelay --forward-to=localhost:PORT --forward-on-disconnect --poll=60 \
                     --client-tls-connection --client-tls-verify=/etc/ca.pem \
                     --client-auth=/etc/emailrelay.auth";
        let queue = "while ls /peers/var/spool/emailrelay | grep -q content; do usleep 20000; done";
        Relay::boot(&kit, "E-MailRelay", prepare, start, queue).await.measure(&mut table).await;
    } else {
        println!("skipped: E-MailRelay: EMAILRELAY_MIPSEL names no program");
    }
    table.write();
}

/// msmtp has no queue: it is started for each message.
async fn msmtp(beside: &mut Relay, table: &mut Table) {
    // Without a mail the program starts, reads its settings and ends.
    let start = beside.times("chroot /peers /usr/bin/msmtp --version >/dev/null", EACH).await;
    table.add("msmtp: start", start);
    let send = "head -c 1024 /dev/zero | sed 's/./x/g' | chroot /peers /usr/bin/msmtp -C /etc/msmtprc ops@example.com";
    let message = beside.times(send, EACH).await;
    beside.sent += EACH;
    beside.provider.wait_for_messages(beside.sent, SOON).await;
    table.add("msmtp: message of 1 KiB", message);
}

/// Waits until a relay greets.
async fn listening(machine: &mut Machine) -> Client {
    let limit = std::time::Instant::now() + SOON;
    loop {
        // qemu takes the connection in any case, and closes it when nobody listens.
        let mut client = Client::connect(machine.addr()).await;
        client.set_limit(SOON);
        match client.try_reply().await {
            Ok(Some(reply)) if reply.code == 220 => {
                client.dialogue(&[("EHLO plc", 250)]).await;
                return client;
            }
            _ => assert!(std::time::Instant::now() < limit, "nobody listens:\n{}", machine.said().join("\n")),
        }
        machine.run("usleep 200000", SOON).await;
    }
}
