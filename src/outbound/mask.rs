//! Hides what an account logs in with from what a server says: some repeat in a refusal what they were sent.

use zeroize::Zeroizing;

use crate::config::Account;
use crate::message::base64;
use crate::oauth::form::Form;
use crate::secrets::MASK;

/// Bytes of the shortest secret that is looked for. A shorter one is guessed sooner than found, and without its letters no text
/// could be read.
const SHORTEST: usize = 4;

/// The forms in which a secret went out, or may come back.
#[derive(Default)]
pub struct Mask(Vec<Zeroizing<String>>);

impl Mask {
    /// For the password of an account. Tokens are added when they are known.
    pub fn of(account: &Account) -> Self {
        let mut mask = Self::default();
        let (name, password) = (account.username.as_deref().unwrap_or_default(), account.password.expose());
        mask.hide(password);
        if !password.is_empty() {
            // PLAIN (RFC 4616 section 2), with and without the name for which one logs in.
            for before in ["", name] {
                let message = Zeroizing::new(format!("{before}\0{name}\0{password}"));
                mask.add(base64(message.as_bytes()));
            }
        }
        mask
    }

    /// Hides `secret`: as it is, as a reply in one line has it, in base64, and as part of an address.
    pub fn hide(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        self.add(secret.to_string());
        self.add(secret.split_whitespace().collect::<Vec<_>>().join(" "));
        self.add(base64(secret.as_bytes()));
        let form = Form::new().add("x", secret);
        self.add(form.text().trim_start_matches("x=").to_string());
    }

    fn add(&mut self, form: String) {
        let form = Zeroizing::new(form);
        if form.len() < SHORTEST || self.0.contains(&form) {
            return;
        }
        self.0.push(form);
        // What contains another one goes first.
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// `text` with stars in place of secrets.
    pub fn apply(&self, text: &str) -> String {
        let hidden = self.0.iter().filter(|form| text.contains(form.as_str())).collect::<Vec<_>>();
        hidden.into_iter().fold(text.to_string(), |text, form| text.replace(form.as_str(), MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, uci};

    fn mask(password: &str) -> Mask {
        let text = format!(
            "config account 'a'\n option host 'mx'\n option username 'me@example.com'\n option password '{password}'\n"
        );
        Mask::of(&load::settings(&uci::parse(text.as_bytes()).unwrap()).0.accounts[0])
    }

    #[test]
    fn what_a_server_repeats_is_hidden() {
        let mask = mask("hunter2 &  co");
        for (said, shown) in [
            ("535 wrong: hunter2 &  co", "535 wrong: ********"),
            ("535 wrong: hunter2 & co!", "535 wrong: ********!"),
            ("500 what is AUTH PLAIN AG1lQGV4YW1wbGUuY29tAGh1bnRlcjIgJiAgY28=?", "500 what is AUTH PLAIN ********?"),
            ("500 aHVudGVyMiAmICBjbw==", "500 ********"),
            ("500 see https://x.example/?p=hunter2%20%26%20%20co", "500 see https://x.example/?p=********"),
            ("535 me@example.com is unknown", "535 me@example.com is unknown"),
        ] {
            assert_eq!(mask.apply(said), shown);
        }
    }

    #[test]
    fn a_secret_of_nothing_hides_nothing() {
        for password in ["", "535"] {
            assert_eq!(mask(password).apply("535 wrong"), "535 wrong");
        }
    }
}
