// SPDX-License-Identifier: Apache-2.0
//! The device flow (RFC 8628): a person enters a short code on a page of the provider, on any device, while we poll for
//! the result.

use std::time::{Duration, Instant};

use super::form::Form;
use super::store::StoredLogin;
use super::token::{Server, seconds, shown, take};
use crate::config::Account;
use crate::net::{Trouble, TroubleKind};
use crate::secrets::Secret;

/// Polling interval if the server does not specify one (RFC 8628 section 3.2).
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds (section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The shortest interval, whatever a server allows.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval, whatever a server requests.
const LONGEST_INTERVAL: Duration = Duration::from_secs(120);
/// Maximum validity of a code.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// Validity of a code if the server does not specify it.
const USUAL_LIFE: Duration = Duration::from_secs(900);

/// A flow that has been started.
#[derive(Debug)]
pub struct DeviceFlow {
    device_code: Secret,
    /// The code that the person enters.
    pub user_code: String,
    /// Where to enter it.
    pub url: String,
    /// When it expires, by the monotonic clock.
    pub ends: Instant,
    interval: Duration,
}

impl DeviceFlow {
    /// Requests a code (section 3.1).
    ///
    /// # Errors
    /// If the server returns none, in words.
    pub async fn begin(server: &Server<'_>, address: &str) -> Result<Self, Trouble> {
        let asked = Instant::now();
        let form = Form::new().add("scope", &server.oauth().scope);
        let mut said = server.ask(address, form).await?.map_err(|refusal| server.trouble(&refusal))?;
        let life = seconds(&said, "expires_in").unwrap_or(USUAL_LIFE).min(LONGEST_LIFE);
        let interval = seconds(&said, "interval").unwrap_or(USUAL_INTERVAL).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        // Google's spelling from before the RFC.
        let url = take(&mut said, "verification_uri").or_else(|| take(&mut said, "verification_url"));
        let parts = (take(&mut said, "device_code"), take(&mut said, "user_code"), url);
        let (Some(device_code), Some(user_code), Some(url)) = parts else {
            let what = format!("{address} returned no sign-in code");
            return Err(Trouble::new(TroubleKind::Setup, what).remedy("check option device_url"));
        };
        let device_code = Secret::new(device_code);
        Ok(Self { device_code, user_code: shown(&user_code), url: shown(&url), ends: asked + life, interval })
    }

    /// Polls until the person has decided or the code has expired.
    ///
    /// # Errors
    /// Why there is no login, in words.
    pub async fn finish(self, server: &Server<'_>, account: &Account) -> Result<StoredLogin, Trouble> {
        let again = |what: &str| {
            Trouble::new(TroubleKind::Login, what).remedy(format!("start again: smtprelay login {}", account.name))
        };
        let mut interval = self.interval;
        loop {
            if Instant::now() + interval >= self.ends {
                return Err(again("nobody signed in before the code expired"));
            }
            tokio::time::sleep(interval).await;
            let form = Form::new()
                .add("grant_type", "urn:ietf:params:oauth:grant-type:device_code")
                .add("device_code", self.device_code.expose());
            let refusal = match server.tokens(form).await {
                Ok(Ok(tokens)) => return StoredLogin::of(server.oauth(), tokens, account),
                Ok(Err(refusal)) => refusal,
                // Section 3.5: an unreachable server is polled less and less often.
                Err(trouble) if matches!(trouble.kind, TroubleKind::Unreachable | TroubleKind::Busy) => {
                    interval = (interval * 2).min(LONGEST_INTERVAL);
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            match refusal.code.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval = (interval + SLOWER).min(LONGEST_INTERVAL),
                "expired_token" => return Err(again("nobody signed in before the code expired")),
                // The second one is Microsoft's.
                "access_denied" | "authorization_declined" => return Err(again("the sign-in was declined")),
                _ => return Err(server.trouble(&refusal)),
            }
        }
    }
}
