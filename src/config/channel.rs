// SPDX-License-Identifier: Apache-2.0
//! Section `channel`: an account that sends a message as an HTTPS request instead of a mail. The service provides the
//! request, or with `custom` the section itself.

use serde_json::Value;
use std::time::Duration;
use zeroize::Zeroizing;

use super::options;
use super::reader::{Keyword, Problem, Reader, Severity};
use super::services::{self, CUSTOM, PictureRequest, Service, TokenUse};
use super::settings::{Account, TlsMode};
use super::stored::Passwords;
use super::uci::Section;
use crate::message::FromPolicy;
use crate::push::short::Unit;
use crate::push::template::{self, Place};
use crate::push::url::Url;
use crate::secrets::Secret;

/// How long a service may take for its answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Header fields that the gateway writes itself.
const OWN_FIELDS: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "connection",
    "transfer-encoding",
    "user-agent",
    "accept",
    "accept-encoding",
    "expect",
];
/// A template that is the token alone.
const TOKEN: &str = "{token}";

/// The priority of the messages of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priority {
    /// Without a sound.
    Low,
    /// As the service usually does.
    #[default]
    Normal,
    /// Above others.
    High,
    /// The highest that the service has.
    Urgent,
}

impl Keyword for Priority {
    const WORDS: &'static [(&'static str, Self)] =
        &[("low", Self::Low), ("normal", Self::Normal), ("high", Self::High), ("urgent", Self::Urgent)];
}

/// The method of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// The message is in the URL and in header fields.
    Get,
    /// The usual one.
    #[default]
    Post,
    /// A repeated request has no further effect (RFC 9110 section 9.2.2).
    Put,
}

impl Keyword for Method {
    const WORDS: &'static [(&'static str, Self)] = &[("GET", Self::Get), ("POST", Self::Post), ("PUT", Self::Put)];
}

/// The format of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Content {
    /// `application/json`
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

impl Keyword for Content {
    const WORDS: &'static [(&'static str, Self)] = &[("json", Self::Json), ("form", Self::Form)];
}

/// The part of an account that makes it a channel: its options, then the request that follows from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// Name of the service.
    pub service: String,
    /// `option url`, or that of the service; empty if the token is the address.
    pub url: String,
    /// Topic, chat, room or user.
    pub to: String,
    /// The priority of its messages.
    pub priority: Priority,
    /// The method of the request.
    pub method: Method,
    /// Templates of header fields.
    pub headers: Vec<String>,
    /// Template of the body.
    pub body: String,
    /// Its format.
    pub content: Content,
    /// Whether the first picture of a message is sent with it, where the service takes one.
    pub picture: bool,
    /// How that request differs; its path is the whole address.
    pub with_picture: Option<PictureRequest>,
    /// Template of the whole address.
    pub address: String,
    /// What its token is.
    pub token: TokenUse,
    /// Maximum length of a title.
    pub title: usize,
    /// Maximum length of a text.
    pub text: usize,
    /// The unit of both.
    pub unit: Unit,
    /// Whether `&`, `<` and `>` have to be entities.
    pub entities: bool,
    /// Where the token comes from, for the remedy.
    pub help: String,
}

impl Channel {
    /// A channel before its section is read, with the account that it belongs to.
    pub fn blank() -> (Account, Self) {
        let account = Account {
            tls: TlsMode::Implicit,
            from_policy: FromPolicy::Keep,
            general: false,
            // What a phone shows is in the order of the messages.
            connections: 1,
            timeout: TIMEOUT,
            ..Account::default()
        };
        (account, Self { picture: true, ..Self::default() })
    }

    /// The address of requests with this token, which may be secret.
    pub fn address(&self, values: &template::Values<'_>, token: &Secret) -> Zeroizing<String> {
        self.filled(&self.address, values, token)
    }

    /// The address of requests with a picture.
    pub fn picture_address(
        &self,
        request: &PictureRequest,
        values: &template::Values<'_>,
        token: &Secret,
    ) -> Zeroizing<String> {
        let own = Some(&request.path).filter(|path| !path.is_empty());
        self.filled(own.unwrap_or(&self.address), values, token)
    }

    fn filled(&self, address: &str, values: &template::Values<'_>, token: &Secret) -> Zeroizing<String> {
        match self.token {
            TokenUse::Address => Zeroizing::new(token.expose().to_string()),
            _ => template::fill(address, Place::Url, values),
        }
    }

    /// Whether the token is needed.
    pub fn needs_token(&self) -> bool {
        self.token != TokenUse::Optional
    }

    /// Takes the request of a service.
    fn take(&mut self, service: &Service) {
        if self.url.is_empty() {
            self.url.clone_from(&service.base);
        }
        self.method = Method::of(&service.method).unwrap_or_default();
        self.headers.clone_from(&service.headers);
        let base = self.url.trim_end_matches('/');
        self.address = format!("{base}{}", service.path);
        self.with_picture = service.picture.clone().map(|mut request| {
            if !request.path.is_empty() {
                request.path.insert_str(0, base);
            }
            match std::mem::take(&mut request.priorities).into_iter().nth(self.priority as usize) {
                Some(extra) if request.form.is_empty() => request.headers.push(extra),
                Some(extra) => request.form.push_str(&extra),
                None => {}
            }
            request
        });
        let extra = service.priorities.get(self.priority as usize);
        (self.body, self.content) = match (&service.body, extra) {
            (Value::String(body), extra) => {
                (format!("{body}{}", extra.and_then(Value::as_str).unwrap_or_default()), Content::Form)
            }
            (Value::Object(body), extra) => {
                let mut body = body.clone();
                body.extend(extra.and_then(Value::as_object).cloned().unwrap_or_default());
                (Value::Object(body).to_string(), Content::Json)
            }
            _ => (String::new(), Content::Json),
        };
    }
}

impl Account {
    /// Sets host and port to those of its channel, which depend on the token if that is the address.
    pub(super) fn locate(&mut self) {
        let Some(channel) = &self.channel else { return };
        let address = match channel.token {
            TokenUse::Address => self.password.expose(),
            _ => &channel.address,
        };
        let place = Url::parse(address).map(|url| (url.host.to_string(), url.port));
        (self.host, self.port) = place.unwrap_or_else(|| (String::new(), 443));
    }
}

/// One section `channel`; `None` if it is not used.
pub fn read(section: &Section, stored: &Passwords, problems: &mut Vec<Problem>) -> Option<Account> {
    let mut read = Reader::new(section, problems);
    let enabled = read.enabled();
    let (mut account, mut channel) = Channel::blank();
    account.name = section.name.clone().unwrap_or_default();
    account.password = stored.of(&account.name);
    for text in stored.warnings(&account.name).filter(|_| enabled) {
        read.warn("token", text);
    }
    channel.service = read.text("service").unwrap_or_default();
    channel.url = read.text("url").unwrap_or_default();
    if let Some(token) = read.text("token") {
        account.password = Secret::new(token);
        account.password_written = true;
    }
    read.fill(options::channel(&mut account, &mut channel));
    let service = services::find(&channel.service);
    match &service {
        None if enabled || !channel.service.is_empty() => {
            let names = services::names().join(", ");
            let what = match channel.service.as_str() {
                "" => "option service is missing: it is".to_string(),
                other => format!("option service '{other}' is not"),
            };
            read.error("service", format!("{what} one of {names}"));
        }
        _ => {}
    }
    let used = service.filter(|_| enabled).map(|service| {
        let told = stored.warnings(&account.name).next().is_some();
        fits_together(&mut account, &mut channel, &service, section, told, &mut read);
        account.channel = Some(Box::new(channel));
        account.locate();
        account
    });
    read.finish();
    used
}

/// Completes the channel, and finds what is missing or does not fit. `told`: a problem with the stored token has already
/// been reported.
fn fits_together(
    account: &mut Account,
    channel: &mut Channel,
    service: &Service,
    section: &Section,
    told: bool,
    read: &mut Reader<'_>,
) {
    let id = channel.service.clone();
    let is_set = |name: &str| section.get(name).is_some();
    if account.name.is_empty() {
        read.problem(Severity::Error, "a channel needs a name: write config channel 'phone'");
    }
    (channel.token, channel.title, channel.text) = (service.token, service.title, service.text);
    (channel.unit, channel.entities) = (service.unit, service.entities);
    channel.help.clone_from(&service.help);
    if id == CUSTOM {
        channel.address.clone_from(&channel.url);
        custom(channel, read);
    } else {
        for name in ["method", "header", "body", "content"].into_iter().filter(|name| is_set(name)) {
            read.warn(
                name,
                format!("{name} has no effect with service '{id}'; use service 'custom' to change the request"),
            );
        }
        channel.take(service);
        if service.to.is_empty() && is_set("to") {
            read.warn("to", format!("option to has no effect with service '{id}'"));
        }
        if !service.to.is_empty() && channel.to.is_empty() {
            read.problem(Severity::Error, format!("option to is missing: {}", service.to));
        }
        let shows = !service.priorities.is_empty() || template::has(&channel.body, "priority");
        if !shows && channel.priority != Priority::Normal {
            read.warn("priority", format!("option priority has no effect with service '{id}'"));
        }
    }
    if is_set("picture") && channel.picture && channel.with_picture.is_none() {
        read.warn("picture", format!("service '{id}' takes no picture with a message"));
    }
    if channel.token == TokenUse::Address {
        if is_set("url") {
            let text = format!(
                "option url has no effect with service '{id}': its address is secret, so it is the token; store it with smtprelay password {}, or set option token",
                account.name
            );
            read.error("url", text);
        }
        if !account.password.is_empty() && Url::parse(account.password.expose()).is_none() {
            // A stored token must not be the reason that settings are refused.
            let severity = if account.password_written { Severity::Error } else { Severity::Warning };
            let text = format!("the token of channel '{}' is not a URL: {}", account.name, service.help);
            read.problem_at("token", severity, text);
            account.password = Secret::default();
        }
    } else if channel.url.is_empty() {
        let text = "option url is missing: the address of the server, such as https://push.example.com";
        read.problem(Severity::Error, text);
    } else if Url::parse(&channel.address).is_none() {
        let why = if channel.url.starts_with("http://") { "; a channel is always encrypted" } else { "" };
        let text = format!("option url '{}' is not a URL such as https://push.example.com{why}", channel.url);
        read.error("url", text);
    }
    account.channel = Some(Box::new(channel.clone()));
    if account.misses_password() && !told {
        // Not an error: its messages are accepted and queued, as with a wrong token.
        read.warn("token", account.password_warning());
    }
}

/// Checks the request that the settings describe.
fn custom(channel: &mut Channel, read: &mut Reader<'_>) {
    let templates = [("url", &channel.url), ("body", &channel.body)].into_iter();
    for (option, text) in templates.chain(channel.headers.iter().map(|text| ("header", text))) {
        if let Some(name) = template::unknown(text) {
            let names = template::NAMES.join(", ");
            read.error(option, format!("{option} contains {{{name}}}, which is not a placeholder: {names}"));
        }
        if option != "url" && template::has(text, "token") || option == "url" && text.contains(TOKEN) {
            channel.token = TokenUse::Required;
        }
    }
    for field in &channel.headers {
        let name = field.split_once(": ").map(|(name, _)| name).unwrap_or_default();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            read.error("header", format!("list header '{field}' is not a header field such as 'X-Title: {{subject}}'"));
        } else if OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            read.error("header", format!("list header '{field}': the gateway writes the field {name} itself"));
        }
    }
    let missing = channel.body.is_empty() && channel.method != Method::Get;
    if missing {
        read.problem(Severity::Error, "option body is missing: such as {\"text\":\"{subject}: {text}\"}");
    } else if channel.method == Method::Get && !channel.body.is_empty() {
        read.error("body", "a request with method 'GET' has no body; use method 'POST'");
    } else if channel.content == Content::Json
        && !missing
        && channel.method != Method::Get
        && let Some(fault) = template::json_fault(&channel.body)
    {
        let text = format!("option body is not JSON in which each placeholder stands within quotation marks: {fault}");
        read.error("body", text);
    }
}

#[cfg(test)]
mod tests;
