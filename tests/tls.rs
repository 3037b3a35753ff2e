// SPDX-License-Identifier: Apache-2.0
//! What keeps mail from leaving: each time it is kept, the sentence is logged, no password has left, and when the
//! trouble is over the mail goes out.

mod support;

use std::time::Duration;

use support::certs::Cert;
use support::client::Client;
use support::provider::{Fault, Provider, Step, Times, TlsMode, TlsVersions};
use support::relay::{Relay, Section};

const SOON: Duration = Duration::from_secs(60);

async fn relay_to(provider: &Provider) -> Relay {
    let account = Section::account("provider", provider).option("from_policy", "keep");
    Relay::builder().durability("always").section(account).start().await
}

async fn send(relay: &Relay) {
    let mut device = Client::greeted(relay.addr()).await;
    device.dialogue(&[("EHLO plc", 250)]).await;
    let text = "From: plc@example.com\r\nTo: ops@example.com\r\nSubject: x\r\n\r\nalarm\r\n";
    assert_eq!(device.send("plc@example.com", &["ops@example.com"], text).await.code, 250);
}

/// Sends a mail into the trouble, expects `sentence`, ends the trouble with `mend`, and expects the mail.
async fn kept_and_sent_later(provider: &Provider, sentence: &str, mend: impl FnOnce(&Provider)) {
    let relay = relay_to(provider).await;
    send(&relay).await;
    let line = relay.wait_log(|line| line.contains("event=paused"), SOON).await;
    assert!(line.contains(sentence), "expected {sentence:?}\n{line}");
    assert!(line.contains("account=provider"), "{line}");
    assert!(provider.messages().is_empty());
    let accepted: Vec<_> = provider.connections().into_iter().flat_map(|c| c.logins).filter(|l| l.accepted).collect();
    assert!(accepted.is_empty(), "a password left: {accepted:?}");
    let kept = &support::ask::queue(&relay).await[0]["recipients"][0];
    assert_eq!((&kept["address"], &kept["state"]), (&"ops@example.com".into(), &"waiting".into()));
    mend(provider);
    // The owner has mended it and says so. A reload with equal settings does not end the pause of a refused login.
    let retried = relay.command(&["queue", "retry", "all"]).await;
    assert!(retried.status.success(), "{retried:?}");
    assert_eq!(provider.wait_for_messages(1, SOON).await.len(), 1);
    let line = relay.wait_log(|line| line.contains("event=delivered"), SOON).await;
    assert!(line.contains(" tls=TLSv1.") && line.contains(" cipher=TLS") && line.contains(" verified=yes"), "{line}");
    for line in relay.log() {
        assert!(!line.contains("secret-password"), "{line}");
    }
}

fn provider(tls: TlsMode) -> support::provider::ProviderBuilder {
    Provider::builder().tls(tls).login("u", "secret-password")
}

async fn certificate(cert: Cert, sentence: &str) {
    for tls in [TlsMode::Implicit, TlsMode::StartTls] {
        let provider = provider(tls).cert(cert).start().await;
        kept_and_sent_later(&provider, sentence, |p| p.change(|s| s.cert = Cert::Good)).await;
    }
}

#[tokio::test]
async fn unknown_authority() {
    certificate(Cert::UnknownCa, "is signed by an unknown authority").await;
    certificate(Cert::SelfSigned, "is signed by an unknown authority").await;
}

#[tokio::test]
async fn the_certificate_of_an_authority() {
    certificate(Cert::Authority, "is a CA certificate (CA:TRUE), not a server certificate; for your own server, set")
        .await;
}

#[tokio::test]
async fn wrong_name() {
    certificate(Cert::WrongName, "the certificate is not valid for 127.0.0.1").await;
}

#[tokio::test]
async fn expired() {
    certificate(Cert::Expired, "has expired").await;
}

#[tokio::test]
async fn not_yet_valid() {
    certificate(Cert::NotYetValid, "is not yet valid; this router's clock is probably wrong").await;
}

#[tokio::test]
async fn starttls_not_offered() {
    let provider = provider(TlsMode::StartTls).with(|s| s.starttls_offered = false).start().await;
    kept_and_sent_later(&provider, "does not offer STARTTLS", |p| p.change(|s| s.starttls_offered = true)).await;
    assert!(provider.connections().iter().all(|c| c.tls.is_some() || c.logins.is_empty()));
}

#[tokio::test]
async fn plaintext_injected_behind_starttls() {
    let injection = Some("250-localhost\r\n250 AUTH PLAIN\r\n".to_string());
    let provider = provider(TlsMode::StartTls).with(|s| s.injection = injection).start().await;
    kept_and_sent_later(&provider, "sent unencrypted data after its reply to STARTTLS", |p| {
        p.change(|s| s.injection = None);
    })
    .await;
}

#[tokio::test]
async fn wrong_password() {
    let provider = provider(TlsMode::Implicit).start().await;
    let refusal = "535 5.7.8 Authentication credentials invalid";
    provider.set_fault(Step::Auth, Fault::Reply(refusal.into()), Times::Always);
    let sentence =
        "127.0.0.1 refused the login of 'u': 535 5.7.8 Authentication credentials invalid; check username and password";
    kept_and_sent_later(&provider, sentence, Provider::clear_faults).await;
}

#[tokio::test]
async fn plain_smtp_where_tls_is_expected() {
    // A server that greets in the clear: this is port 25 or 587, not 465.
    let provider = provider(TlsMode::None).with(|s| s.login = None).start().await;
    let account = Section::custom_account("provider", "127.0.0.1", provider.port(), "implicit")
        .option("ca_file", provider.certs().ca_file().display());
    let relay = Relay::builder().section(account).start().await;
    send(&relay).await;
    let line = relay.wait_log(|line| line.contains("event=paused"), SOON).await;
    assert!(line.contains("does not speak TLS on this port"), "{line}");
    assert!(provider.messages().is_empty());
}

#[tokio::test]
async fn tls_1_2_and_1_3_and_a_pinned_certificate() {
    for (versions, expected) in [(TlsVersions::Only12, "tls=TLSv1.2"), (TlsVersions::Only13, "tls=TLSv1.3")] {
        let provider = provider(TlsMode::Implicit).with(|s| s.versions = versions).start().await;
        let relay = relay_to(&provider).await;
        send(&relay).await;
        let line = relay.wait_log(|line| line.contains("event=delivered"), SOON).await;
        assert!(line.contains(expected), "{line}");
    }
    let provider = provider(TlsMode::Implicit).cert(Cert::SelfSigned).start().await;
    for (cert, delivered) in [(Cert::SelfSigned, true), (Cert::Good, false)] {
        let account = Section::account("provider", &provider).option("fingerprint", provider.certs().fingerprint(cert));
        let relay = Relay::builder().section(account).start().await;
        send(&relay).await;
        let fits = |line: &str| line.contains("event=delivered") || line.contains("event=paused");
        let line = relay.wait_log(fits, SOON).await;
        if delivered {
            assert!(line.contains("event=delivered") && line.contains("verified=fingerprint"), "{line}");
        } else {
            assert!(line.contains("does not match option fingerprint"), "{line}");
        }
    }
}
