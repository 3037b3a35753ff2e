// SPDX-License-Identifier: Apache-2.0
//! Which users may log in: compares claims with the `user` sections, and checks which senders a user may use.

use ring::digest::{SHA256, digest};

use super::auth::{Claim, Proof};
use crate::config::User;
use crate::message::address::is_routed;

/// The user with this name and password.
///
/// The time it takes depends on neither: every user is compared, as digests of equal length, to the last byte.
pub fn find<'users>(users: &'users [User], claim: &Claim) -> Option<&'users User> {
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
            same(digest.as_bytes(), format!("{wanted:x}").as_bytes())
        }
    };
    right & !user.password.is_empty()
}

/// Equality in constant time.
fn same(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (digest(&SHA256, one), digest(&SHA256, other));
    one.as_ref().iter().zip(other.as_ref()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// RFC 2104 with MD5: RFC 2195 requires it.
fn hmac_md5(key: &[u8], text: &[u8]) -> md5_sum::Digest {
    let hashed = md5_sum::compute(key);
    let key: &[u8] = if key.len() > 64 { &hashed.0 } else { key };
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = md5_sum::compute([&pad(0x36), text].concat());
    md5_sum::compute([pad(0x5c), inner.0.to_vec()].concat())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;

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
        let found = |name: &str, password: &str| find(&users, &claim(name, password)).map(|u| u.username.clone());
        assert_eq!(found("plc", "two").as_deref(), Some("plc"));
        for (name, password) in
            [("plc", "one"), ("plc", ""), ("", "two"), ("PLC", "two"), ("plc", "two "), ("empty", "")]
        {
            assert_eq!(found(name, password), None, "{name} {password}");
        }
    }

    #[test]
    fn cram_md5_of_the_rfc() {
        let users = [user("tim", "tanstaaftanstaaf", &[])];
        let with = |digest: &str| Claim {
            name: "tim".into(),
            proof: Proof::CramMd5 {
                challenge: "<1896.697170952@postoffice.reston.mci.net>".into(),
                digest: digest.into(),
            },
        };
        assert!(find(&users, &with("b913a602c7eda7a495b4e6e7334d3890")).is_some());
        assert!(find(&users, &with("b913a602c7eda7a495b4e6e7334d3891")).is_none());
        assert!(find(&users, &with("")).is_none());
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

    proptest! {
        #[test]
        fn hmac_as_others_compute_it(
            key in proptest::collection::vec(any::<u8>(), 0..100), text in proptest::collection::vec(any::<u8>(), 0..100)
        ) {
            let mut theirs = Hmac::<md5::Md5>::new_from_slice(&key).unwrap();
            theirs.update(&text);
            prop_assert_eq!(hmac_md5(&key, &text).0.to_vec(), theirs.finalize().into_bytes().to_vec());
        }
    }
}
