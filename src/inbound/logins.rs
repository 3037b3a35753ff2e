// SPDX-License-Identifier: Apache-2.0
//! The logins of clients: the SASL dialogue (RFC 4954), the users that may log in, and what failed logins cost.
//!
//! The dialogue knows PLAIN, LOGIN and CRAM-MD5, each in the variants that devices use. Its result is a [`Claim`]: the
//! identity that a client claims, and the proof. [`user_of`] compares it with the `user` sections, and [`may_send_as`]
//! checks which senders a user may use.
//!
//! Failed logins cost time, counted per client: opening more connections does not make guessing passwords any faster.
//! After a failed login, the next login of the same client is delayed, longer with each failure. The delay comes before
//! the password is verified, so that a client learns nothing by disconnecting early. A client without failed logins is
//! never delayed.

use std::sync::Mutex;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::config::User;
use crate::message::address::is_routed;
use crate::message::base64::{base64, prefix};
use crate::queue::Client;
use crate::secrets::Secret;
use crate::system::lock;
use crate::system::md5::hmac_md5;

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

/// How long a client waits after its first failed login; doubles with each further one.
const DELAY: Duration = Duration::from_millis(250);
/// The longest delay: half a guess per second.
const DELAY_LIMIT: Duration = Duration::from_secs(2);
/// Total time for which the logins of one client may be waiting; further ones are refused without verification.
const QUEUE: Duration = Duration::from_secs(20);
/// After this time without a failed login, earlier ones are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Clients with failed logins that are tracked at the same time. Further clients share one entry, so that many
/// addresses together cannot guess any faster either.
const CLIENTS: usize = 512;

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

/// The user with this name and password.
///
/// The time it takes depends on neither: every user is compared, as digests of equal length, to the last byte.
pub fn user_of<'users>(users: &'users [User], claim: &Claim) -> Option<&'users User> {
    users.iter().fold(None, |found, user| {
        let right = same(claim.name.as_bytes(), user.username.as_bytes()) & proven(&claim.proof, user);
        if right { Some(user) } else { found }
    })
}

fn proven(proof: &Proof, user: &User) -> bool {
    // An empty password proves nothing, whatever the settings say.
    let right = match proof {
        Proof::Password(password) => same(password.expose().as_bytes(), user.password.expose().as_bytes()),
        Proof::CramMd5 { challenge, digest } => {
            let wanted = hmac_md5(user.password.expose().as_bytes(), challenge.as_bytes());
            same(digest.as_bytes(), wanted.as_bytes())
        }
    };
    right & !user.password.is_empty()
}

/// Equality in constant time.
fn same(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (digest(&SHA256, one), digest(&SHA256, other));
    one.as_ref().iter().zip(other.as_ref()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Whether `user` may use `sender` as envelope sender.
pub fn may_send_as(user: &User, sender: &str) -> bool {
    let domain = sender.rsplit_once('@').map(|(_, domain)| domain).filter(|_| !is_routed(sender));
    user.senders.is_empty()
        || user.senders.iter().any(|allowed| {
            let compared = if allowed.contains('@') { Some(sender) } else { domain };
            compared.is_some_and(|compared| allowed.eq_ignore_ascii_case(compared))
        })
}

#[derive(Debug)]
struct GuessCount {
    /// The client that fails to log in; `None`: all clients for which there is no entry.
    client: Option<Client>,
    wrong: u32,
    /// Logins that are waiting; each of them is treated as failed when the delay of the next one is computed.
    waiting: u32,
    /// When the next login is verified.
    next: Duration,
    /// When the last login failed.
    last: Duration,
}

/// What is known about failed logins. Times are those of a monotonic clock.
#[derive(Debug, Default)]
pub struct Guesses(Vec<GuessCount>);

static GUESSES: Mutex<Guesses> = Mutex::new(Guesses(Vec::new()));

/// Gives short-lived access to the state of this process.
pub fn guesses<T>(work: impl FnOnce(&mut Guesses) -> T) -> T {
    work(&mut lock(&GUESSES))
}

impl Guesses {
    fn place(&mut self, client: Client, now: Duration) -> (Option<Client>, Option<&mut GuessCount>) {
        self.0.retain(|entry| now.saturating_sub(entry.last) < FORGOTTEN);
        let is_known = self.0.iter().any(|entry| entry.client == Some(client));
        let client = Some(client).filter(|_| is_known || self.0.len() < CLIENTS);
        (client, self.0.iter_mut().find(|entry| entry.client == client))
    }

    /// How long this login has to wait before it is verified; `None` if too many are waiting already.
    pub fn wait(&mut self, client: Client, now: Duration) -> Option<Duration> {
        let (_, Some(entry)) = self.place(client, now) else { return Some(Duration::ZERO) };
        let wait = entry.next.saturating_sub(now);
        if wait > QUEUE {
            return None;
        }
        if wait.is_zero() {
            entry.waiting = 0;
        }
        // The next login waits for this one, whatever its result.
        entry.waiting = entry.waiting.saturating_add(1);
        entry.next = entry.next.max(now).saturating_add(delay(entry.wrong.saturating_add(entry.waiting)));
        Some(wait)
    }

    /// Records a failed login.
    pub fn wrong(&mut self, client: Client, now: Duration) {
        match self.place(client, now) {
            (_, Some(entry)) => {
                entry.wrong = entry.wrong.saturating_add(1);
                entry.last = now;
                entry.next = entry.next.max(now.saturating_add(delay(entry.wrong)));
            }
            (client, None) => {
                self.0.push(GuessCount { client, wrong: 1, waiting: 0, next: now.saturating_add(delay(1)), last: now })
            }
        }
    }
}

fn delay(wrong: u32) -> Duration {
    DELAY.saturating_mul(1 << wrong.saturating_sub(1).min(8)).min(DELAY_LIMIT)
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

    fn user(name: &str, password: &str, senders: &[&str]) -> User {
        User {
            section: name.into(),
            username: name.into(),
            password: Secret::new(password.into()),
            senders: senders.iter().map(|s| s.to_string()).collect(),
            accounts: Vec::new(),
        }
    }

    fn claim(name: &str, password: &str) -> Claim {
        Claim { name: name.into(), proof: Proof::Password(Secret::new(password.into())) }
    }

    #[test]
    fn name_and_password_must_both_be_right() {
        let users = [user("cam", "one", &[]), user("plc", "two", &[]), user("empty", "", &[])];
        let found = |name: &str, password: &str| user_of(&users, &claim(name, password)).map(|u| u.username.clone());
        assert_eq!(found("plc", "two").as_deref(), Some("plc"));
        for (name, password) in
            [("plc", "one"), ("plc", ""), ("", "two"), ("PLC", "two"), ("plc", "two "), ("empty", "")]
        {
            assert_eq!(found(name, password), None, "{name} {password}");
        }
    }

    #[test]
    fn cram_md5_of_the_rfc_is_verified() {
        let users = [user("tim", "tanstaaftanstaaf", &[])];
        let with = |digest: &str| Claim {
            name: "tim".into(),
            proof: Proof::CramMd5 {
                challenge: "<1896.697170952@postoffice.reston.mci.net>".into(),
                digest: digest.into(),
            },
        };
        assert!(user_of(&users, &with("b913a602c7eda7a495b4e6e7334d3890")).is_some());
        assert!(user_of(&users, &with("b913a602c7eda7a495b4e6e7334d3891")).is_none());
        assert!(user_of(&users, &with("")).is_none());
    }

    #[test]
    fn senders_by_address_and_by_domain() {
        let limited = user("cam", "x", &["Cam@Example.com", "plant.example"]);
        for (sender, allowed) in [
            ("cam@example.com", true),
            ("other@example.com", false),
            ("any@PLANT.example", true),
            ("any@sub.plant.example", false),
            ("plant.example", false),
            ("\"x@plant.example\"@evil.example", false),
            ("\"x@evil.example\"@plant.example", false),
            ("x%evil.example@plant.example", false),
            ("", false),
        ] {
            assert_eq!(may_send_as(&limited, sender), allowed, "{sender}");
        }
        assert!(may_send_as(&user("cam", "x", &[]), ""));
    }

    const NOW: Duration = Duration::from_secs(1_000);

    fn ip(text: &str) -> Client {
        Client::at(Some(text.parse().unwrap()))
    }

    /// How many logins of a client are verified per minute with this many sessions, none of which waits for anything
    /// else.
    fn guessed(clients: &[Client], sessions: usize) -> usize {
        let mut guesses = Guesses::default();
        let (mut due, mut seen) = (Vec::new(), 0);
        for millis in 0..60_000 {
            let now = NOW + Duration::from_millis(millis);
            let (ready, later): (Vec<_>, Vec<_>) = due.drain(..).partition(|(at, _)| *at <= now);
            due = later;
            for (_, client) in ready {
                guesses.wrong(client, now);
                seen += 1;
            }
            while due.len() < sessions {
                let client = clients[(seen + due.len()) % clients.len()];
                let Some(wait) = guesses.wait(client, now) else { break };
                due.push((now + wait, client));
                if wait == Duration::ZERO {
                    break;
                }
            }
        }
        seen
    }

    #[test]
    fn more_sessions_guess_no_faster() {
        let one = guessed(&[ip("10.0.0.1")], 1);
        let many = guessed(&[ip("10.0.0.1")], 100);
        assert!((25..=35).contains(&one) && many <= one + 5, "{one} {many}");
        let network: Vec<Client> = (0..50).map(|n| ip(&format!("fd00::{n:x}"))).collect();
        let many = guessed(&network, 100);
        assert!(many <= one + 5, "{many}");
    }

    #[test]
    fn only_who_was_wrong_waits() {
        let mut guesses = Guesses::default();
        for _ in 0..50 {
            guesses.wrong(ip("10.0.0.1"), NOW);
        }
        assert_eq!(guesses.wait(ip("10.0.0.2"), NOW), Some(Duration::ZERO));
        assert_eq!(guesses.wait(ip("10.0.0.1"), NOW), Some(DELAY_LIMIT));
        while guesses.wait(ip("10.0.0.1"), NOW).is_some() {}
        assert_eq!(guesses.wait(ip("::ffff:10.0.0.1"), NOW), None);
        assert_eq!(guesses.wait(ip("10.0.0.1"), NOW + FORGOTTEN), Some(Duration::ZERO));
    }

    #[test]
    fn the_table_is_bounded_and_does_not_forget_because_of_others() {
        let mut guesses = Guesses::default();
        for n in 0..2000_u32 {
            guesses.wrong(Client::V4((n + (10 << 24)).to_be_bytes()), NOW);
        }
        assert_eq!(guesses.0.len(), CLIENTS + 1);
        assert!(guesses.wait(ip("10.0.0.0"), NOW) > Some(Duration::ZERO));
        assert!(guesses.wait(ip("10.0.7.0"), NOW) > Some(Duration::ZERO));
    }
}
