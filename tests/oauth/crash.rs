// SPDX-License-Identifier: Apache-2.0
//! A power cut between rotation and use loses no login. The login server takes an old refresh token until the new one was used,
//! as servers that rotate have to: between its reply and our disk there is a wire.

use std::fs;

use super::bench::{Bench, SOON, said, send, token_on_disk};
use super::support::disk::SmallDisk;
use super::support::login_server::Say;
use super::support::provider::{Fault, Gate, Step, Times};

/// Where the relay is killed.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The server has rotated; its reply is not sent yet.
    BeforeReply,
    /// The reply is on its way, or being written down.
    AfterReply,
    /// The new token is at the provider, which has not answered.
    InUse,
}

#[tokio::test]
async fn killed_between_rotation_and_use() {
    let rounds = std::env::var("SMTPRELAY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut bench = Bench::signed_in().await;
    let mut sent = 0;
    for round in 0..rounds {
        for cut in [Cut::BeforeReply, Cut::AfterReply, Cut::InUse] {
            let gate = Gate::closed();
            let (asked, replied) = (bench.login.asked().len(), bench.login.replied());
            let seen = bench.logins().len();
            match cut {
                Cut::BeforeReply => bench.login.script([Say::Hold(gate.clone())]),
                Cut::AfterReply => {}
                Cut::InUse => bench.provider.set_fault(Step::Auth, Fault::Hold(gate.clone()), Times::First(1)),
            }
            send(&bench.relay).await;
            sent += 1;
            match cut {
                Cut::BeforeReply => bench.login.wait_for_asked(asked + 1, SOON).await,
                Cut::AfterReply => bench.login.wait_for_replied(replied + 1, SOON).await,
                Cut::InUse => {
                    let all = |record: &super::support::provider::Record| {
                        record.connections.iter().map(|connection| connection.logins.len()).sum::<usize>()
                    };
                    bench.provider.wait_until("a login", SOON, |record| (all(record) > seen).then_some(())).await;
                }
            }
            bench.relay.kill9();
            gate.open();
            bench.provider.clear_faults();
            // Without a word from anybody it goes on with what is on disk.
            bench.relay.restart().await;
            bench.provider.wait_for_messages(sent, SOON).await;
            // In order, so that nothing is left that would be sent twice: the next round begins without a token.
            bench.relay.restart().await;
            sent = bench.provider.messages().len();
            println!("round {round}, {cut:?}: mail went, {} renewals so far", bench.login.grants("refresh_token"));
        }
    }
    let left: Vec<_> =
        fs::read_dir(bench.relay.dir().join("secrets")).unwrap().flatten().map(|f| f.file_name()).collect();
    assert!(
        left.iter().all(|name| ["acme.token", "acme.token.new", "key"].contains(&&*name.to_string_lossy())),
        "{left:?}"
    );
    bench.finish();
}

#[tokio::test]
async fn ended_in_order_while_a_login_is_renewed() {
    let mut bench = Bench::signed_in().await;
    let gate = Gate::closed();
    bench.login.script([Say::Hold(gate.clone())]);
    let asked = bench.login.asked().len();
    send(&bench.relay).await;
    bench.login.wait_for_asked(asked + 1, SOON).await;
    bench.relay.sigterm();
    gate.open();
    assert!(bench.relay.wait_exit().await.success());
    let token = token_on_disk(&bench.relay.dir().join("secrets"));
    assert_eq!(token, "1//refresh-token-0003", "the renewed login is not on disk");
    bench.relay.restart().await;
    bench.provider.wait_for_messages(1, SOON).await;
    bench.finish();
}

#[tokio::test]
async fn on_a_full_disk_mail_flows_and_the_login_is_written_later() {
    let mut bench = Bench::start().await;
    let Some(disk) = SmallDisk::mount(64) else { return };
    let secrets = disk.path().join("secrets");
    bench.relay.configure("relay", "main", |section| section.option("secrets", secrets.display()));
    bench.relay.restart().await;
    bench.sign_in().await;
    disk.leave(0);
    bench.mail_arrives(1).await;
    let advice = bench.relay.wait_log(|line| line.contains("the renewed login cannot be written"), SOON).await;
    assert!(advice.contains("acme.token") && advice.contains("free some space there"), "{advice}");
    assert_eq!(token_on_disk(&secrets), "1//refresh-token-0002");
    disk.clear();
    bench.provider.restart().await;
    bench.mail_arrives(2).await;
    assert_eq!(token_on_disk(&secrets), "1//refresh-token-0003");
    let output = bench.relay.command(&["check"]).await;
    assert!(output.status.success(), "{}", said(&output));
    bench.finish();
}
