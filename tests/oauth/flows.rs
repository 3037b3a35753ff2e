// SPDX-License-Identifier: Apache-2.0
//! Somebody signs in, mail flows, tokens end and are renewed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use smtprelay::control::socket::ControlClient as Control;

use super::bench::{Bench, SOON, relay_to, said, send, servers, token_on_disk};
use super::support::login_server::Say;
use super::support::provider::Mechanism;

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[tokio::test]
async fn a_code_is_typed_in_mail_flows_the_token_ends_it_is_renewed_mail_flows() {
    let bench = Bench::start().await;
    send(&bench.relay).await;
    let paused = bench.paused(0).await;
    assert!(paused.contains("nobody has signed in yet; run smtprelay login acme; mail waits"), "{paused}");
    bench.login.script([Say::error("authorization_pending"), Say::error("slow_down")]);
    bench.login.approve();
    let output = bench.relay.command(&["login", "acme"]).await;
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for part in ["https://login.example/device", "ABCD-0001", "sign in as me@example.com", "15 minutes"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.ends_with("account 'acme' is logged in\n"), "{text}");
    assert_eq!(bench.login.grants(DEVICE), 3);
    // The running gateway was told: what waited has gone, long before its pause was over.
    bench.provider.wait_for_messages(1, SOON).await;
    // The provider takes it no more.
    bench.login.tokens().clear();
    bench.provider.change(|_| ());
    bench.provider.restart().await;
    bench.mail_arrives(2).await;
    assert_eq!(bench.logins(), ["3", "3!", "4"]);
    assert_eq!(bench.login.grants("refresh_token"), 2);
    bench.finish();
}

#[tokio::test]
async fn the_file_is_for_its_owner_only_and_is_not_written_without_need() {
    let bench = Bench::signed_in().await;
    let directory = bench.relay.dir().join("secrets");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = directory.join("acme.token");
    assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
    bench.mail_arrives(1).await;
    // Its token was rotated; from now on none is.
    bench.login.change(|settings| settings.rotates = false);
    let before = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    assert_eq!(token_on_disk(&directory), "1//refresh-token-0003");
    bench.login.tokens().clear();
    bench.provider.restart().await;
    bench.mail_arrives(2).await;
    assert_eq!(bench.login.grants("refresh_token"), 2);
    assert_eq!(before, (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap()));
    bench.finish();
}

#[tokio::test]
async fn an_address_is_copied_back() {
    let (provider, login) = servers().await;
    let mut relay = relay_to(&provider, &login).prepare();
    let auth_url = login.auth_url();
    relay.configure("account", "acme", |section| section.option("device_url", "").option("auth_url", auth_url));
    // The gateway does not run, and nobody has an address yet.
    let output = relay.command_with_input(&["login", "acme"], b"4/abc\n\n").await;
    let text = said(&output);
    assert!(!output.status.success() && text.contains("login failed: this is not the address"), "{text}");
    // A foreign one is refused, the right one taken: both of one run, whose address has to be read while it waits.
    let mut command = relay.interactive(&["login", "acme"]);
    let url = command.line(|line| line.starts_with("https://")).await;
    command.write(&(login.sign_in(&url).replace("state=", "state=x") + "\n")).await;
    command.write(&(login.sign_in(&url) + "\n")).await;
    let end = command.line(|line| line.contains("is logged in")).await;
    assert!(end.ends_with("account 'acme' is logged in"), "{end}");
    assert_eq!(login.grants("authorization_code"), 1, "the foreign address was shown to the server");
    relay.restart().await;
    send(&relay).await;
    provider.wait_for_messages(1, SOON).await;
    assert_eq!(provider.complaints(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_knows_only_oauthbearer() {
    let bench = Bench::signed_in().await;
    bench.provider.change(|settings| settings.mechanisms = vec![Mechanism::Plain, Mechanism::OAuthBearer]);
    bench.login.change(|settings| settings.sized = false);
    bench.mail_arrives(1).await;
    bench.login.tokens().clear();
    bench.provider.restart().await;
    bench.mail_arrives(2).await;
    assert_eq!(bench.provider.connections()[0].logins[0].mechanism, "OAUTHBEARER");
    assert_eq!(bench.logins(), ["3", "3!", "4"]);
    bench.finish();
}

#[tokio::test]
async fn the_password_is_not_tried_where_no_token_is_taken() {
    let bench = Bench::signed_in().await;
    bench.provider.change(|settings| settings.mechanisms = vec![Mechanism::Plain, Mechanism::Login]);
    send(&bench.relay).await;
    let paused = bench.paused(0).await;
    assert!(paused.contains("offers no login with tokens"), "{paused}");
    assert_eq!(bench.login.grants("refresh_token"), 0);
    bench.finish();
}

#[tokio::test]
async fn many_connections_one_renewal() {
    let bench = Bench::signed_in().await;
    for _ in 0..8 {
        send(&bench.relay).await;
    }
    bench.provider.wait_for_messages(8, SOON).await;
    assert_eq!(bench.login.grants("refresh_token"), 1);
    bench.finish();
}

#[tokio::test]
async fn a_page_follows_a_login_through_the_control_methods() {
    let mut bench = Bench::start().await;
    send(&bench.relay).await;
    bench.paused(0).await;
    let call = |method: &'static str, params: serde_json::Value| {
        let spool = bench.relay.spool();
        async move {
            let call = move || Control::connect(&spool).unwrap().unwrap().call(method, params);
            tokio::task::spawn_blocking(call).await.unwrap()
        }
    };
    assert_eq!(call("login_start", json!({ "account": "other" })).await.unwrap_err().kind, "not_found");
    assert_eq!(call("login_poll", json!({ "job": "none" })).await.unwrap_err().kind, "not_found");
    // Declined.
    let started = call("login_start", json!({ "account": "acme" })).await.unwrap();
    assert_eq!((&started["url"], &started["code"]), (&json!("https://login.example/device"), &json!("ABCD-0001")));
    assert!(started["expires"].as_u64().is_some_and(|seconds| (800..=900).contains(&seconds)), "{started}");
    let state = call("login_poll", json!({ "job": started["job"] })).await.unwrap();
    assert_eq!(state["state"], "pending");
    bench.login.script([Say::error("access_denied")]);
    let failed = loop {
        let state = call("login_poll", json!({ "job": started["job"] })).await.unwrap();
        if state["state"] != "pending" {
            break state;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(failed["state"], "failed");
    assert!(failed["text"].as_str().unwrap().contains("declined; start again: smtprelay login acme"), "{failed}");
    // Done: the gateway goes on by itself.
    let started = call("login_start", json!({ "account": "acme" })).await.unwrap();
    bench.login.approve();
    bench.provider.wait_for_messages(1, SOON).await;
    assert_eq!(call("login_poll", json!({ "job": started["job"] })).await.unwrap()["state"], "done");
    // With an address that is copied back.
    let auth_url = bench.login.auth_url();
    bench.relay.configure("account", "acme", |section| section.option("device_url", "").option("auth_url", auth_url));
    bench.relay.sighup();
    bench.relay.wait_log(|line| line.contains("event=reloaded"), SOON).await;
    let call = |method: &'static str, params: serde_json::Value| {
        let spool = bench.relay.spool();
        async move {
            let call = move || Control::connect(&spool).unwrap().unwrap().call(method, params);
            tokio::task::spawn_blocking(call).await.unwrap()
        }
    };
    let started = call("login_start", json!({ "account": "acme" })).await.unwrap();
    assert!(started["code"].is_null(), "{started}");
    let wrong = call("login_poll", json!({ "job": started["job"], "address": "x" })).await.unwrap();
    assert!(wrong["state"] == "pending" && wrong["text"].as_str().unwrap().contains("not the address"), "{wrong}");
    let address = bench.login.sign_in(started["url"].as_str().unwrap());
    let done = call("login_poll", json!({ "job": started["job"], "address": address })).await.unwrap();
    assert_eq!(done["state"], "done", "{done}");
    bench.finish();
}
