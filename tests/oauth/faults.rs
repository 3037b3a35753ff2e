// SPDX-License-Identifier: Apache-2.0
//! What goes wrong with a login server: the mail waits, one sentence says why, and it goes on by itself where it can.

use super::bench::{Bench, SOON, said, send};
use super::support::login_server::Say;

#[tokio::test]
async fn nobody_signs_in_or_the_person_declines() {
    let bench = Bench::start().await;
    for (says, sentence) in [
        (
            vec![Say::error("expired_token")],
            "nobody signed in before the code expired; start again: smtprelay login acme",
        ),
        (vec![Say::error("access_denied")], "the sign-in was declined; start again: smtprelay login acme"),
        (vec![Say::error("authorization_declined")], "the sign-in was declined; start again"),
        (
            vec![Say::error("invalid_grant")],
            "(invalid_grant: because of invalid_grant); sign in again: smtprelay login acme",
        ),
        (vec![Say::error("invalid_client")], "check options client_id and client_secret of account 'acme'"),
        // What would colour a terminal.
        (vec![Say::error("\\u001b[31m")], "([31m: because of"),
        (vec![Say::Body(200, "{\"access_token\":\"a\"}".into())], "returned no refresh token"),
        (vec![Say::Body(200, "{}".into())], "returned no usable token"),
    ] {
        bench.login.script(says);
        let output = bench.relay.command(&["login", "acme"]).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(sentence), "{sentence} in {text}");
        assert!(!text.contains("mail waits"), "{text}");
    }
    bench.login.change(|settings| settings.code_life = 1);
    let text = said(&bench.relay.command(&["login", "acme"]).await);
    assert!(text.contains("nobody signed in before the code expired"), "{text}");
    assert!(!bench.relay.dir().join("secrets/acme.token").exists());
    let output = bench.relay.command(&["login", "other"]).await;
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    bench.finish();
}

#[tokio::test]
async fn a_server_that_fails_for_a_moment_does_not_end_a_login() {
    let bench = Bench::start().await;
    let down = r#"{"error":"internal_failure","error_description":"Backend Error"}"#;
    bench.login.script([Say::Close, Say::Body(503, "<html>".into()), Say::Body(500, down.into())]);
    bench.sign_in().await;
    bench.mail_arrives(1).await;
    bench.finish();
}

/// Each of these for the first renewal: then the account pauses and says why, and the mail goes when it is over.
#[tokio::test]
async fn a_table_of_faults_of_the_login_server() {
    let bench = Bench::signed_in().await;
    let long = "x".repeat(40_000);
    let raw = |text: &str| Say::Raw(text.as_bytes().to_vec());
    let table = [
        (Say::Close, "sent nothing"),
        (Say::Hang, "did not answer within 5 s"),
        (Say::Flood, "sent much more than a short reply"),
        (raw("220 mail.example ESMTP\r\n"), "sent something that is not HTTP"),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "sent an incomplete reply"),
        (
            raw("HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n"),
            "sent a reply without tokens (HTTP 302)",
        ),
        (Say::Body(200, "<html>sign in to this hotspot</html>".into()), "sent a reply without tokens (HTTP 200)"),
        (Say::Body(200, "{\"access_token\":\"a b\"}".into()), "returned no usable token"),
        (Say::Body(200, format!("{{\"access_token\":\"{}\"}}", &long[..9000])), "returned no usable token"),
        (Say::Body(200, long), "sent much more than a short reply"),
        (Say::Body(500, "{}".into()), "is out of order (HTTP 500)"),
        (
            Say::Body(500, r#"{"error":"internal_failure","error_description":"Backend Error"}"#.into()),
            "is out of order (HTTP 500); this is usually temporary",
        ),
        (
            Say::error("temporarily_unavailable"),
            "temporarily_unavailable: because of temporarily_unavailable); this is usually temporary",
        ),
    ];
    for (number, (say, sentence)) in table.into_iter().enumerate() {
        bench.login.tokens().clear();
        bench.provider.restart().await;
        let mark = bench.relay.mark();
        bench.login.script([say]);
        send(&bench.relay).await;
        let paused = bench.paused(mark).await;
        assert!(paused.contains(sentence), "{sentence} in {paused}");
        assert!(paused.contains("mail waits"), "{paused}");
        bench.provider.wait_for_messages(number + 1, SOON).await;
        println!("{sentence}: mail waited and went");
    }
    bench.finish();
}

#[tokio::test]
async fn a_login_server_that_is_down() {
    let bench = Bench::signed_in().await;
    bench.login.stop().await;
    send(&bench.relay).await;
    let paused = bench.paused(0).await;
    assert!(paused.contains("the login server 127.0.0.1 cannot be reached"), "{paused}");
    bench.login.resume();
    bench.provider.wait_for_messages(1, SOON).await;
    bench.finish();
}

#[tokio::test]
async fn a_login_that_was_taken_back_pauses_the_account_until_somebody_signs_in() {
    let bench = Bench::signed_in().await;
    bench.mail_arrives(1).await;
    bench.login.revoke();
    bench.provider.restart().await;
    send(&bench.relay).await;
    let paused = bench.paused(0).await;
    assert!(
        paused.contains("(invalid_grant: that is invalid_grant); sign in again: smtprelay login acme; mail waits"),
        "{paused}"
    );
    bench.sign_in().await;
    bench.provider.wait_for_messages(2, SOON).await;
    bench.finish();
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_and_not_again() {
    let bench = Bench::signed_in().await;
    // The provider takes no token of this login server.
    bench.provider.change(|settings| settings.tokens = Some(Default::default()));
    send(&bench.relay).await;
    let paused = bench.paused(0).await;
    assert!(paused.contains("with a new token: 535 5.7.8"), "{paused}");
    assert!(paused.contains("sign in again as me@example.com: smtprelay login acme; mail waits"), "{paused}");
    assert_eq!(bench.logins(), ["3!", "4!"]);
    // The next tries show the token once each and ask for no other.
    for tries in 1..=2 {
        bench.relay.command(&["wake"]).await;
        let known = |record: &super::support::provider::Record| {
            let logins: usize = record.connections.iter().map(|connection| connection.logins.len()).sum();
            (logins == 2 + tries).then_some(())
        };
        bench.provider.wait_until("a login", SOON, known).await;
    }
    assert_eq!(bench.logins(), ["3!", "4!", "4!", "4!"]);
    assert_eq!(bench.login.grants("refresh_token"), 2);
    // It takes them again.
    let tokens = bench.login.tokens().clone();
    bench.provider.change(|settings| settings.tokens = Some(tokens));
    bench.relay.command(&["wake"]).await;
    bench.provider.wait_for_messages(1, SOON).await;
    bench.finish();
}

#[tokio::test]
async fn settings_for_another_client_do_not_show_the_login_to_it() {
    let mut bench = Bench::signed_in().await;
    bench.relay.configure("account", "acme", |section| section.option("client_id", "other"));
    bench.relay.sighup();
    bench.relay.wait_log(|line| line.contains("event=reloaded"), SOON).await;
    send(&bench.relay).await;
    let paused = bench.paused(0).await;
    assert!(paused.contains("made with another client_id or token_url; run smtprelay login acme"), "{paused}");
    assert_eq!(bench.login.grants("refresh_token"), 0);
    bench.finish();
}
