//! How a conversation begins: HELO, EHLO, and STARTTLS, after which it begins again.

use std::sync::Arc;

use super::Session;
use crate::config::{AuthMode, TlsMode};
use crate::inbound::tls;

impl Session {
    pub(super) fn hello(&mut self, extended: bool, name: String) {
        self.reset();
        self.greeted = true;
        self.extended = extended;
        self.origin.helo = name;
        let hostname = self.rules.hostname.clone();
        if !extended {
            self.reply(&format!("250 {hostname}"));
            return;
        }
        // CRAM-MD5 is always understood, but only offered where logins are verified: otherwise it has no benefit, and
        // devices that prefer it are known to implement it incorrectly.
        let login = match self.rules.listener.auth {
            AuthMode::Ignore => "250-AUTH PLAIN LOGIN\r\n",
            AuthMode::Optional | AuthMode::Required => "250-AUTH PLAIN LOGIN CRAM-MD5\r\n",
            AuthMode::None => "",
        };
        let tls = if self.offers_tls() { "250-STARTTLS\r\n" } else { "" };
        let size = self.rules.size_limit;
        self.reply(&format!(
            "250-{hostname}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE {size}\r\n{tls}{login}250 ENHANCEDSTATUSCODES"
        ));
    }

    fn offers_tls(&self) -> bool {
        self.tls.is_none() && self.rules.listener.tls == TlsMode::StartTls && self.rules.tls.is_some()
    }

    /// STARTTLS (RFC 3207). The state from before is discarded (section 4.2).
    pub(super) async fn start_tls(&mut self) {
        let rules = Arc::clone(&self.rules);
        let Some(acceptor) = rules.tls.as_ref().filter(|_| self.offers_tls()) else {
            let reply = if self.tls.is_some() { "503 5.5.1 TLS already active" } else { "502 5.5.1 TLS not available" };
            return self.reply(reply);
        };
        self.reply("220 2.0.0 Ready to start TLS");
        self.reset();
        self.greeted = false;
        self.extended = false;
        self.origin.helo.clear();
        self.login = None;
        self.user = None;
        match self.talk.start_tls(acceptor).await {
            Ok(version) => self.tls = Some(version),
            Err(error) => {
                self.aborted(&tls::explain(&error));
                self.ending = true;
            }
        }
    }
}
