// SPDX-License-Identifier: Apache-2.0
//! One request to a login server: a form, sent by [`crate::net::http`].

use std::time::Duration;

use form_urlencoded::byte_serialize;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::Later;
use crate::config::{Account, Issuer};
use crate::net::http::{Answer, Body, Exchange, exchange, unreachable};
use crate::net::{Trouble, TroubleKind, tls};
use crate::push::url::Url;

/// Timeout from the name lookup to the last byte of the reply.
const PATIENCE: Duration = Duration::from_secs(45);
/// Timeout for one of several addresses.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Capacity for a form with a token of some kilobytes, allocated at once: a growing string leaves copies of secrets
/// behind in memory.
const FORM_ROOM: usize = 16 << 10;

/// Names and values of a form, as used in requests and in URLs (`application/x-www-form-urlencoded`, RFC 6749 appendix
/// B), that is being filled in. Wiped from memory when dropped.
pub struct Form(Zeroizing<String>);

impl Form {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(String::with_capacity(FORM_ROOM)))
    }

    /// Adds a name and its value; an empty value is left out.
    pub(super) fn add(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            let gap = if self.0.is_empty() { "" } else { "&" };
            self.0.extend([gap, name, "="]);
            self.0.extend(encoded(value));
        }
        self
    }

    /// The encoded form.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// `value` as it stands in a form or a URL, in pieces. A space is `%20`, which both know, in place of the `+` of a
/// form.
pub fn encoded(value: &str) -> impl Iterator<Item = &str> {
    byte_serialize(value.as_bytes()).map(|piece| if piece == "+" { "%20" } else { piece })
}

/// The value of `name` in the query of `address`, or in a query alone. `None` if it is missing, or if it is not UTF-8.
pub fn value_of(address: &str, name: &str) -> Option<Zeroizing<String>> {
    let query = address.split_once('?').map_or(address, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?.1;
    let value = Zeroizing::new(value.replace('+', " "));
    let is_code = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let decoded = percent_decode_str(&value).decode_utf8().ok().filter(|_| value.split('%').skip(1).all(is_code))?;
    Some(Zeroizing::new(decoded.into_owned()))
}

/// Prepares TLS to the login server of `account`: it trusts the system's authorities or, for the owner's own servers,
/// those of the account. Certificates are always verified. Reads files, so it must not be called on the runtime thread.
///
/// # Errors
/// If there is no authority to trust.
pub fn connector(account: &Account) -> Result<TlsConnector, Trouble> {
    let own = account.oauth.as_ref().is_some_and(|oauth| oauth.issuer == Issuer::Custom);
    let ca_file = account.ca_file.clone().filter(|_| own);
    tls::connector(&Account { ca_file, fingerprint: None, verify: true, ..account.clone() })
}

/// Posts `form` to `address`, and waits for the reply until the shorter of `patience` and this module's own timeout.
///
/// # Errors
/// Why there is no reply, in words. A refusal is also a reply.
pub fn post<'a>(
    address: &'a str,
    form: &'a Form,
    connector: &'a TlsConnector,
    patience: Duration,
) -> Later<'a, Result<Answer, Trouble>> {
    Box::pin(async move {
        let Some(url) = Url::parse(address) else {
            let text = format!("'{address}' is not a valid login server address");
            return Err(Trouble::new(TroubleKind::Setup, text));
        };
        let patience = patience.min(PATIENCE);
        const WHO: &str = "the login server ";
        const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
        let (host, connect_time) = (url.host, CONNECT_TIME);
        let request = Exchange { who: WHO, url, connector, connect_time, status_only: false, observer: &|_| {} };
        let body = Body { head: form.text().as_bytes(), ..Body::default() };
        let exchanged = timeout(patience, exchange(request, "POST", FORM, body)).await;
        let late = || unreachable(WHO, host, &format!("did not answer within {} s", patience.as_secs()));
        exchanged.unwrap_or_else(|_| Err(late()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_6749_appendix_b() {
        let form = Form::new().add("a", " %&+£€").add("empty", "").add("b", "x");
        assert_eq!(form.text(), "a=%20%25%26%2B%C2%A3%E2%82%AC&b=x");
        assert_eq!(value_of("+%25%26%2B%C2%A3%E2%82%AC", "a"), None);
        assert_eq!(value_of("a=+%25%26%2B%C2%A3%E2%82%AC", "a").unwrap().as_str(), " %&+£€");
    }

    #[test]
    fn broken_values_are_none() {
        for address in
            ["", "http://127.0.0.1/", "?code", "?code=%", "?code=%4", "?code=%zz", "?code=%ff", "?xcode=1", "#code=1"]
        {
            assert_eq!(value_of(address, "code"), None, "{address}");
        }
        assert_eq!(value_of("http://127.0.0.1/?state=a&code=4%2F0b#x", "code").unwrap().as_str(), "4/0b");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in "[a-z_]{1,9}", value in "\\PC{1,40}", more: String) {
            let form = Form::new().add(&name, &value).add("zz0", &more);
            assert_eq!(value_of(form.text(), &name).as_deref(), Some(&value));
            let _ = value_of(&more, &name);
        }
    }
}
