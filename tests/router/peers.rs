// SPDX-License-Identifier: Apache-2.0
//! `make bench-router`: Postfix and msmtp of Debian on the same machine, for the same messages.

use super::machine::{Machine, System};
use super::support::certs::{Certs, Keys};
use super::support::client::Client;
use super::support::log::field;
use super::support::provider::{Provider, TlsMode};
use super::table::Table;
use super::{SOON, greeted, lines, settings, submit};

/// Folders of Postfix's queue that belong to its user. They are in a RAM disk, as those of smtprelay.
const QUEUES: &str = "active bounce corrupt defer deferred flush hold incoming private saved trace";
/// Messages whose mean is taken.
const EACH: usize = 20;

struct Peers {
    machine: Machine,
    provider: Provider,
    sent: usize,
}

impl Peers {
    /// Processor time in ms of Postfix, and its memory in KB.
    async fn postfix(&mut self) -> (f64, f64) {
        let (_, said) = self.machine.run("family \"$postfix\"", SOON).await;
        let line = said.iter().find(|line| line.starts_with("router: cpu ")).expect("a line with the times");
        let value = |name| -> f64 { field(line, name).and_then(|value| value.parse().ok()).expect("a number") };
        (value("run") / 1000.0, value("memory"))
    }

    /// Waits until `count` more messages have left the queue of Postfix. Returns the ms for each of them since `before`.
    async fn done(&mut self, count: usize, before: f64) -> f64 {
        self.sent += count;
        self.provider.wait_for_messages(self.sent, SOON).await;
        let removed = |line: &str| line.contains("postfix/qmgr") && line.ends_with(": removed");
        self.machine.wait_for_count("removed", self.sent, SOON, removed).await;
        (self.postfix().await.0 - before) / count as f64
    }

    /// Messages by a device that connects for each.
    async fn anew(&mut self, count: usize, name: &str, text: &str) -> f64 {
        let before = self.postfix().await.0;
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
    let Some(kit) = std::env::var_os("ROUTER_VM") else { return };
    let certs = Certs::of_keys(&[Keys::P256; 2]);
    let provider = Provider::builder()
        .tls(TlsMode::Implicit)
        .login("u", "p")
        .certs(&certs)
        .with(|settings| settings.resumption = false)
        .start()
        .await;
    let (port, settings) = (provider.port(), settings(&provider));
    let machine = Machine::slow_router_with_peers(kit.as_ref(), &settings, &certs.ca_file(), System::Jffs2);
    let mut peers = Peers { machine, provider, sent: 0 };
    peers.machine.boot().await;
    let prepare = format!(
        "stop; cat /etc/powercut/ca.pem >/peers/etc/ca.pem; sed -i s/PORT/{port}/ /peers/etc/postfix/main.cf /peers/etc/msmtprc; \
         mount -t tmpfs -o size=48M tmpfs /peers/var/spool/postfix; cd /peers/var/spool/postfix; \
         mkdir {QUEUES} maildrop pid public; chown 102 {QUEUES} /peers/var/lib/postfix; chown 102:103 maildrop public; cd /; \
         chroot /peers /usr/lib/postfix/sbin/master -c /etc/postfix -d & postfix=$!"
    );
    let mut table = Table::new("router-peers", "CPU ms at 500 MIPS");
    let (code, said) = peers.machine.run(&prepare, SOON).await;
    assert_eq!(code, 0, "{said:?}");
    let mut client = listening(&mut peers.machine).await;
    let (start, memory) = peers.postfix().await;
    table.add("Postfix: start of master, and of smtpd for the first device", start);
    table.add("Postfix: memory of these (PSS), KB", memory);
    let small = lines(1024);
    let before = peers.postfix().await.0;
    submit(&mut client, "first", &small).await;
    client.dialogue(&[("QUIT", 221)]).await;
    let message = peers.done(1, before).await;
    table.add("Postfix: first message of 1 KiB, with connection and TLS 1.3", message);
    let message = peers.anew(EACH, "anew", &small).await;
    table.add("Postfix: further message of 1 KiB, device connects for each", message);
    let before = peers.postfix().await.0;
    let mut client = peers.client().await;
    for number in 0..EACH {
        submit(&mut client, &format!("kept {number}"), &small).await;
    }
    client.dialogue(&[("QUIT", 221)]).await;
    let message = peers.done(EACH, before).await;
    table.add("Postfix: further message of 1 KiB, device stays connected", message);
    let message = peers.anew(1, "large", &lines(1 << 20)).await;
    table.add("Postfix: message of 1 MiB", message);
    let (_, memory) = peers.postfix().await;
    table.add("Postfix: memory after these messages (PSS), KB", memory);

    // Without a mail the program starts, reads its settings and ends.
    let start = peers.times("chroot /peers /usr/bin/msmtp --version >/dev/null", EACH).await;
    table.add("msmtp: start", start);
    let send = "head -c 1024 /dev/zero | sed 's/./x/g' | chroot /peers /usr/bin/msmtp -C /etc/msmtprc ops@example.com";
    let message = peers.times(send, EACH).await;
    peers.sent += EACH;
    peers.provider.wait_for_messages(peers.sent, SOON).await;
    table.add("msmtp: message of 1 KiB", message);
    table.write();
}

/// Waits until Postfix greets.
async fn listening(machine: &mut Machine) -> Client {
    let limit = std::time::Instant::now() + SOON;
    loop {
        // qemu takes the connection in any case, and closes it when nobody listens.
        let mut client = Client::connect(machine.addr()).await;
        client.set_limit(SOON);
        match client.try_reply().await {
            Ok(Some(reply)) if reply.text().contains("Postfix") => {
                client.dialogue(&[("EHLO plc", 250)]).await;
                return client;
            }
            _ => assert!(std::time::Instant::now() < limit, "Postfix does not listen:\n{}", machine.said().join("\n")),
        }
        machine.run("usleep 200000", SOON).await;
    }
}
