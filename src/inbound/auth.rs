// SPDX-License-Identifier: Apache-2.0
//! The SASL dialogue of a login (RFC 4954): PLAIN, LOGIN and CRAM-MD5, each in the variants that devices use.
//!
//! The result is a [`Claim`]: the identity that a client claims, and the proof. [`users`](super::users) verifies it.

use crate::message::base64::{base64, prefix};
use crate::secrets::Secret;

/// What the session is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// The response for PLAIN.
    Plain,
    /// The response to this CRAM-MD5 challenge.
    CramMd5(String),
    /// The user name for LOGIN.
    Name,
    /// The password for LOGIN, after this user name.
    Password(String),
}

/// What proves that the client has the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The password itself.
    Password(Secret),
    /// An HMAC-MD5 over the challenge with the password as key, in hex (RFC 2195 section 2).
    CramMd5 { challenge: String, digest: String },
}

/// The identity that a client claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The user name as received; empty if none could be read.
    pub name: String,
    /// The proof.
    pub proof: Proof,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthStep {
    /// Send this reply and wait for a line.
    Ask(String, Prompt),
    /// Verify this claim.
    Check(Claim),
    /// Send this reply; the dialogue is over.
    Refuse(&'static str),
}

/// Prompts that old clients compare literally: base64 of `Username:` and `Password:`.
const ASK_NAME: &str = "334 VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "334 UGFzc3dvcmQ6";
/// Base64 characters that are read: enough for a name and a password of 384 bytes together.
const RESPONSE_LIMIT: usize = 512;

/// Begins a login. `challenge` produces the challenge for CRAM-MD5, which must be different for each login.
pub fn begin(mechanism: &str, initial: Option<&str>, challenge: impl FnOnce() -> Option<String>) -> AuthStep {
    match (mechanism, initial) {
        ("PLAIN", Some(response)) => AuthStep::Check(plain(response)),
        ("PLAIN", None) => AuthStep::Ask("334 ".into(), Prompt::Plain),
        // Some clients send the name with the command, as only other mechanisms allow.
        ("LOGIN", Some(name)) => AuthStep::Ask(ASK_PASSWORD.into(), Prompt::Password(text(name))),
        ("LOGIN", None) => AuthStep::Ask(ASK_NAME.into(), Prompt::Name),
        ("CRAM-MD5", _) => {
            let Some(challenge) = challenge() else {
                return AuthStep::Refuse("454 4.7.0 Temporary authentication failure, try again later");
            };
            AuthStep::Ask(format!("334 {}", base64(challenge.as_bytes())), Prompt::CramMd5(challenge))
        }
        _ => AuthStep::Refuse("504 5.5.4 Unrecognized authentication type, use PLAIN, LOGIN or CRAM-MD5"),
    }
}

/// Handles the line that the session was waiting for.
pub fn answer(prompt: Prompt, line: &[u8]) -> AuthStep {
    let line = String::from_utf8_lossy(line.trim_ascii());
    if line == "*" {
        return AuthStep::Refuse("501 5.0.0 Authentication cancelled");
    }
    match prompt {
        Prompt::Plain => AuthStep::Check(plain(&line)),
        Prompt::Name => AuthStep::Ask(ASK_PASSWORD.into(), Prompt::Password(text(&line))),
        Prompt::Password(name) => AuthStep::Check(Claim { name, proof: Proof::Password(Secret::new(text(&line))) }),
        Prompt::CramMd5(challenge) => {
            let response = text(&line);
            // The name may contain spaces, the digest does not.
            let (name, digest) = response.rsplit_once(' ').unwrap_or(("", ""));
            let digest = digest.to_ascii_lowercase();
            AuthStep::Check(Claim { name: name.to_string(), proof: Proof::CramMd5 { challenge, digest } })
        }
    }
}

/// A login name for the log: printable characters only, and truncated.
pub fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The response for PLAIN: authorization identity, NUL, name, NUL, password (RFC 4616 section 2). A response without
/// NULs could be a bare password: then no name is taken from it.
fn plain(response: &str) -> Claim {
    let decoded = decode(response);
    let mut parts = decoded.splitn(3, |b| *b == 0).skip(1).map(|part| String::from_utf8_lossy(part).into_owned());
    let name = parts.next().unwrap_or_default();
    Claim { name, proof: Proof::Password(Secret::new(parts.next().unwrap_or_default())) }
}

fn text(base64: &str) -> String {
    String::from_utf8_lossy(&decode(base64)).into_owned()
}

fn decode(base64: &str) -> Vec<u8> {
    prefix(base64.as_bytes().get(..RESPONSE_LIMIT).unwrap_or(base64.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;

    fn none() -> Option<String> {
        unreachable!("only CRAM-MD5 needs a challenge")
    }

    fn password(name: &str, password: &str) -> AuthStep {
        AuthStep::Check(Claim { name: name.into(), proof: Proof::Password(Secret::new(password.into())) })
    }

    #[test]
    fn plain_in_one_line_and_in_two() {
        // NUL user NUL secret
        assert_eq!(begin("PLAIN", Some("AHVzZXIAc2VjcmV0"), none), password("user", "secret"));
        assert_eq!(answer(Prompt::Plain, b"AHVzZXIAc2VjcmV0"), password("user", "secret"));
        assert_eq!(begin("PLAIN", Some("c2VjcmV0"), none), password("", ""));
    }

    #[test]
    fn login_asks_literally_and_takes_the_name_inline() {
        assert_eq!(begin("LOGIN", None, none), AuthStep::Ask("334 VXNlcm5hbWU6".into(), Prompt::Name));
        let asked = AuthStep::Ask("334 UGFzc3dvcmQ6".into(), Prompt::Password("user".into()));
        assert_eq!(answer(Prompt::Name, b"dXNlcg=="), asked);
        assert_eq!(begin("LOGIN", Some("dXNlcg=="), none), asked);
        assert_eq!(answer(Prompt::Password("user".into()), b"c2VjcmV0"), password("user", "secret"));
        assert!(matches!(answer(Prompt::Name, b"*"), AuthStep::Refuse(_)));
        assert!(matches!(begin("NTLM", None, none), AuthStep::Refuse(_)));
    }

    #[test]
    fn cram_md5_of_the_rfc() {
        // The example of RFC 2195 section 2.
        let challenge = "<1896.697170952@postoffice.reston.mci.net>";
        let AuthStep::Ask(reply, prompt) = begin("CRAM-MD5", None, || Some(challenge.into())) else { panic!() };
        assert_eq!(reply, "334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+");
        let claim = Claim {
            name: "tim".into(),
            proof: Proof::CramMd5 { challenge: challenge.into(), digest: "b913a602c7eda7a495b4e6e7334d3890".into() },
        };
        let answered = answer(prompt, b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw");
        assert_eq!(answered, AuthStep::Check(claim));
    }

    #[test]
    fn a_claim_does_not_print_its_password() {
        assert!(!format!("{:?}", begin("PLAIN", Some("AHVzZXIAc2VjcmV0"), none)).contains("secret"));
    }

    proptest! {
        #[test]
        fn base64_as_others_write_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let theirs = BASE64_STANDARD.encode(&bytes);
            prop_assert_eq!(base64(&bytes), theirs.clone());
            prop_assert_eq!(decode(&theirs), bytes);
        }

        #[test]
        fn whatever_comes_there_is_an_answer(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            for prompt in [Prompt::Plain, Prompt::Name, Prompt::Password("x".into()), Prompt::CramMd5("<c>".into())] {
                answer(prompt, &line);
            }
        }
    }
}
