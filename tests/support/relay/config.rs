// SPDX-License-Identifier: Apache-2.0
//! The configuration file of a relay under test.

use std::fmt::Write as _;

use super::super::certs::open_to_all;
use super::super::log::ProcessLog;
use super::super::provider::{Provider, TlsMode};
use super::Relay;

/// The address that the accounts of the tests may send from, unless a test says otherwise.
pub const ACCOUNT_FROM: &str = "relay@provider.example";

/// A section of the configuration: type, name, options and lists.
#[derive(Clone, Debug)]
pub struct Section {
    pub(super) kind: String,
    pub(super) name: String,
    /// `option` or `list`, name, value.
    entries: Vec<(&'static str, String, String)>,
}

impl Section {
    /// An empty section, such as `Section::new("device", "pump_house")`.
    pub fn new(kind: &str, name: &str) -> Section {
        Section { kind: kind.to_owned(), name: name.to_owned(), entries: Vec::new() }
    }

    /// An account at this provider stand-in: its port and TLS mode, its CA, and its login if it wants one.
    pub fn account(name: &str, provider: &Provider) -> Section {
        let settings = provider.settings();
        let tls = match settings.tls {
            TlsMode::Implicit => "implicit",
            TlsMode::StartTls => "starttls",
            TlsMode::None => "none",
        };
        let mut section = Section::custom_account(name, "127.0.0.1", provider.port(), tls);
        if settings.tls != TlsMode::None {
            section = section.option("ca_file", provider.certs().ca_file().display());
        }
        match settings.login {
            Some((user, password)) if password.is_empty() => section.option("username", user),
            Some((user, password)) => section.option("username", user).option("password", password),
            None => section,
        }
    }

    /// An account without login at this host; `tls` is `implicit`, `starttls` or `none`. Its address is
    /// [`ACCOUNT_FROM`].
    pub fn custom_account(name: &str, host: &str, port: u16, tls: &str) -> Section {
        Section::new("account", name)
            .option("provider", "custom")
            .option("host", host)
            .option("port", port)
            .option("tls", tls)
            .option("from", ACCOUNT_FROM)
    }

    /// The same section with another name.
    pub fn named(mut self, name: &str) -> Section {
        self.name = name.to_owned();
        self
    }

    /// Sets an option; it replaces an earlier one of the same name.
    pub fn option(mut self, name: &str, value: impl ToString) -> Section {
        self.set(name, value);
        self
    }

    /// Adds an entry to a list.
    pub fn list(mut self, name: &str, value: impl ToString) -> Section {
        self.entries.push(("list", name.to_owned(), value.to_string()));
        self
    }

    /// As [`Section::option`], in place.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.entries.retain(|(_, have, _)| have != name);
        self.entries.push(("option", name.to_owned(), value.to_string()));
    }

    pub(super) fn render(&self, text: &mut String) {
        let _ = writeln!(text, "config {} {}", self.kind, quote(&self.name));
        for (keyword, name, value) in &self.entries {
            let _ = writeln!(text, "\t{keyword} {name} {}", quote(value));
        }
        text.push('\n');
    }
}

/// As `uci export` quotes.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// How a [`Relay`] will be.
pub struct RelayBuilder {
    relay: Section,
    listener: Section,
    sections: Vec<Section>,
    env: Vec<(String, String)>,
}

impl RelayBuilder {
    pub(super) fn new() -> RelayBuilder {
        let listener = Section::new("listener", "lan")
            .list("address", "127.0.0.1")
            .option("port", 0)
            .list("allow", "127.0.0.0/8")
            .list("allow", "::1");
        RelayBuilder { relay: Section::new("relay", "main"), listener, sections: Vec::new(), env: Vec::new() }
    }

    /// `memory`, `deferred` or `always`. Default: the program's own.
    pub fn durability(self, value: &str) -> Self {
        self.relay_option("durability", value)
    }

    /// An option of the section `relay`.
    pub fn relay_option(mut self, name: &str, value: impl ToString) -> Self {
        self.relay.set(name, value);
        self
    }

    /// An option of the section `listener`.
    pub fn listener_option(mut self, name: &str, value: impl ToString) -> Self {
        self.listener.set(name, value);
        self
    }

    /// One more network that may send, such as `192.0.2.0/24`. Default: `127.0.0.0/8` and `::1`.
    pub fn allow(mut self, network: &str) -> Self {
        self.listener = self.listener.list("allow", network);
        self
    }

    /// Takes back all networks that may send.
    pub fn allow_nobody(mut self) -> Self {
        self.listener.entries.retain(|(_, name, _)| name != "allow");
        self
    }

    /// Another address to listen on, in place of 127.0.0.1.
    pub fn address(mut self, address: &str) -> Self {
        self.listener.entries.retain(|(_, name, _)| name != "address");
        self.listener = self.listener.list("address", address);
        self
    }

    /// An account at this stand-in; see [`Section::account`]. Several are tried in this order.
    pub fn account(self, name: &str, provider: &Provider) -> Self {
        self.section(Section::account(name, provider))
    }

    /// Any section more.
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// Something for the environment of the program.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the configuration, starts the program and waits until it listens.
    pub async fn start(self) -> Relay {
        let mut relay = self.prepare();
        relay.spawn();
        relay.wait_until_listening().await;
        relay
    }

    /// Writes the configuration, but starts nothing: for [`Relay::command`] and for starts that have to fail.
    pub fn prepare(self) -> Relay {
        let dir = tempfile::Builder::new().prefix("smtprelay-test-").tempdir().expect("temp folder for the relay");
        // The program gives up root, and its user has to come through here.
        open_to_all(dir.path());
        let mut sections = vec![self.relay, self.listener];
        sections.extend(self.sections);
        for (name, folder) in [("spool", "spool"), ("safe_spool", "safe"), ("secrets", "secrets")] {
            if !sections[0].entries.iter().any(|(_, have, _)| have == name) {
                sections[0].set(name, dir.path().join(folder).display());
            }
        }
        // Root stays root, unless the test is about that: what it looks at belongs to root.
        if !sections[0].entries.iter().any(|(_, have, _)| have == "user") {
            sections[0].set("user", "root");
        }
        let relay = Relay { dir, sections, env: self.env, child: None, log: ProcessLog::new(), address: None };
        relay.write_config();
        relay
    }
}
