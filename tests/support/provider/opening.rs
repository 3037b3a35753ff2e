// SPDX-License-Identifier: Apache-2.0
//! What comes before the first message: EHLO, STARTTLS, AUTH.

use tokio_rustls::{TlsAcceptor, TlsStream};

use super::super::stream::Stream;
use super::TlsMode;
use super::auth::{Exchange, Mechanism};
use super::record::{Login, Tls};
use super::script::Step;
use super::session::Session;
use super::wire::{End, Wire};

impl Session {
    pub(super) async fn hello(&mut self, verb: &str, name: &str) -> Result<(), End> {
        if !is_domain_or_literal(name) {
            self.complain(&format!(
                "{verb} {name:?} names no domain and no address literal (RFC 5321 section 4.1.1.1)"
            ));
        }
        self.connection(|connection| connection.hello.push(name.to_owned()));
        let mut lines = vec!["provider.example".to_owned()];
        if verb == "EHLO" {
            lines.extend(self.capabilities());
        }
        let last = lines.len() - 1;
        let reply: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(at, line)| format!("250{}{line}", if at == last { ' ' } else { '-' }))
            .collect();
        let after_tls = self.settings.tls == TlsMode::StartTls && self.tls.is_some();
        let plan = self.plan(if after_tls { Step::EhloTls } else { Step::Ehlo }, &reply.join("\r\n"));
        if plan.takes_effect() {
            self.greeted = true;
            self.extended = verb == "EHLO";
            self.transaction = None; // RFC 5321 section 4.1.4: as RSET
        }
        self.carry_out(plan).await
    }

    fn capabilities(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut all = Vec::new();
        if settings.pipelining {
            all.push("PIPELINING".to_owned());
        }
        if let Some(size) = settings.size {
            all.push(format!("SIZE {size}"));
        }
        if self.starttls_possible() {
            all.push("STARTTLS".to_owned());
        }
        if !settings.mechanisms.is_empty() && (self.tls.is_some() || settings.tls != TlsMode::StartTls) {
            let names: Vec<&str> = settings.mechanisms.iter().map(|mechanism| mechanism.name()).collect();
            all.push(format!("AUTH {}", names.join(" ")));
        }
        all.push("ENHANCEDSTATUSCODES".to_owned());
        if settings.eight_bit_mime {
            all.push("8BITMIME".to_owned());
        }
        if settings.smtputf8 {
            all.push("SMTPUTF8".to_owned());
        }
        if settings.chunking {
            all.push("CHUNKING".to_owned());
        }
        all
    }

    fn starttls_possible(&self) -> bool {
        self.settings.tls == TlsMode::StartTls && self.settings.starttls_offered && self.tls.is_none()
    }

    pub(super) async fn starttls(&mut self, argument: &str) -> Result<(), End> {
        if !self.starttls_possible() || !argument.is_empty() {
            self.complain("STARTTLS that was not offered, or with a parameter");
            return self.say("502 5.5.1 Not offered").await;
        }
        let mut reply = "220 2.0.0 Ready to start TLS".to_owned();
        if let Some(injected) = &self.settings.injection {
            // The same write as the reply, so that the same packet brings both.
            reply = format!("{reply}\r\n{}", injected.trim_end_matches("\r\n"));
        }
        let plan = self.plan(Step::StartTls, &reply);
        let effect = plan.takes_effect();
        self.carry_out(plan).await?;
        if effect { self.handshake().await } else { Ok(()) }
    }

    pub(super) async fn handshake(&mut self) -> Result<(), End> {
        let plan = self.plan(Step::Handshake, "");
        self.carry_out(plan).await?;
        self.wire.discard();
        let Stream::Plain(tcp) = self.wire.stream.detach() else {
            return Err(End::Closed);
        };
        let acceptor = TlsAcceptor::from(self.shared.tls_config(&self.settings));
        let tls = match acceptor.accept(tcp).await {
            Ok(tls) => tls,
            Err(error) => {
                self.connection(|connection| connection.tls_error = Some(error.to_string()));
                return Err(End::Failed(error));
            }
        };
        let state = tls.get_ref().1;
        let info = Tls {
            version: state.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
            cipher: state.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
            server_name: state.server_name().map(str::to_owned),
            resumed: state.handshake_kind() == Some(tokio_rustls::rustls::HandshakeKind::Resumed),
        };
        self.note(&format!("*: {} {}", info.version, info.cipher));
        self.connection(|connection| connection.tls = Some(info.clone()));
        self.tls = Some(info);
        self.wire = Wire::new(Stream::Tls(Box::new(TlsStream::Server(tls))));
        // RFC 3207 section 4.2: all that was said before is forgotten.
        self.greeted = false;
        self.extended = false;
        self.transaction = None;
        Ok(())
    }

    pub(super) async fn auth(&mut self, argument: &str) -> Result<(), End> {
        let (name, initial) = match argument.split_once(' ') {
            Some((name, initial)) => (name, Some(initial)),
            None => (argument, None),
        };
        if !self.extended || self.user.is_some() || self.transaction.is_some() {
            self.complain("AUTH before EHLO, twice, or inside of a transaction (RFC 4954 section 4)");
            return self.say("503 5.5.1 Not now").await;
        }
        if self.settings.tls == TlsMode::StartTls && self.tls.is_none() {
            self.complain("AUTH without TLS");
            return self.say("538 5.7.11 Encryption required").await;
        }
        let offered = Mechanism::of(name).filter(|mechanism| self.settings.mechanisms.contains(mechanism));
        let Some(mechanism) = offered else {
            self.complain(&format!("AUTH {name}, which is not offered"));
            return self.say("504 5.5.4 Not offered").await;
        };
        let login = match self.exchange(mechanism, initial).await? {
            Exchange::Done(login) => login,
            Exchange::Broken(reply) => return self.say(reply).await,
        };
        let reply = if login.accepted { "235 2.7.0 Welcome" } else { "535 5.7.8 Wrong user or password" };
        let plan = self.plan(Step::Auth, reply);
        let Login { user, .. } = login.clone();
        let accepted = plan.takes_effect();
        self.note(&format!("*: login of {user} by {}", mechanism.name()));
        self.connection(|connection| connection.logins.push(Login { accepted, ..login }));
        if accepted {
            self.user = Some(user);
        }
        self.carry_out(plan).await
    }

    /// Why MAIL is not possible yet: the reply.
    pub(super) fn not_ready(&self) -> Option<&'static str> {
        if !self.greeted {
            self.complain("MAIL before EHLO");
            return Some("503 5.5.1 Say EHLO first");
        }
        if self.settings.tls == TlsMode::StartTls && self.settings.starttls_offered && self.tls.is_none() {
            self.complain("MAIL without TLS");
            return Some("530 5.7.0 Say STARTTLS first");
        }
        if self.settings.login.is_some() && self.user.is_none() {
            return Some("530 5.7.0 Authentication required");
        }
        None
    }
}

/// RFC 5321 section 4.1.1.1: EHLO takes a domain (RFC 1035 letters, digits and hyphens) or an address literal.
fn is_domain_or_literal(name: &str) -> bool {
    if let Some(literal) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match literal.strip_prefix("IPv6:") {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => literal.parse::<std::net::Ipv4Addr>().is_ok(),
        };
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 255 && name.split('.').all(label)
}
