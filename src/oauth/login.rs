// SPDX-License-Identifier: Apache-2.0
//! A person signs in: from the start of a flow to the file on disk.
//!
//! The device flow (RFC 8628): the person enters a short code on a page of the provider, on any device, while we poll
//! for the result.
//!
//! The copy-back flow: the person signs in with a browser, which is then redirected to an address of its own machine
//! where nothing listens; this address contains the code, and is copied back to us. RFC 8252 (section 7.3: loopback
//! redirects of native apps) with PKCE (RFC 7636), so that the code is useless to anyone else. Google has no device
//! flow for mail, and allows loopback addresses with any port for clients of the type "Desktop app".
//!
//! A client of the control methods `login_start` and `login_poll` follows a flow as one of the [`Jobs`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use serde_json::Value;
use zeroize::Zeroizing;

use super::http::{Form, value_of};
use super::store::StoredLogin;
use super::token::{Server, seconds, shown, take};
use super::{Later, keeper};
use crate::config::{Account, Issuer, OAuth};
use crate::message::base64;
use crate::net::{Trouble, TroubleKind};
use crate::secrets::Secret;
use crate::system::json::json;
use crate::system::{lock, random_id};

/// How long an address can be copied back; codes of the servers are valid for some minutes.
const COPY_TIME: Duration = Duration::from_secs(1800);

/// A login that has been started.
#[derive(Debug)]
pub enum Flow {
    /// A code is entered at the provider; we poll for the result.
    Device(DeviceFlow),
    /// An address is copied back.
    CopyBack(CopyBack),
}

/// Starts a login.
///
/// # Errors
/// The reason, in words.
pub fn begin(account: &Account) -> Later<'_, Result<Flow, Trouble>> {
    Box::pin(async move {
        let (oauth, _) = keeper::parts(account)?;
        if let Some(address) = &oauth.device_url {
            return Ok(Flow::Device(DeviceFlow::begin(&Server::of(account).await?, address).await?));
        }
        let address = oauth.auth_url.as_deref().unwrap_or_default();
        Ok(Flow::CopyBack(CopyBack::begin(&oauth, account, address)?))
    })
}

impl Flow {
    /// The URL that the person opens.
    pub fn url(&self) -> &str {
        match self {
            Self::Device(device) => &device.url,
            Self::CopyBack(copy_back) => &copy_back.url,
        }
    }

    /// The code that the person enters there; `None` if an address is copied back instead.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Device(device) => Some(&device.user_code),
            Self::CopyBack(_) => None,
        }
    }

    /// How long the login can be completed.
    pub fn time(&self) -> Duration {
        match self {
            Self::Device(device) => device.ends.saturating_duration_since(Instant::now()),
            Self::CopyBack(_) => COPY_TIME,
        }
    }
}

/// The step that the person has done, or will do.
pub enum Deed<'a> {
    /// Enter a code: its result is waited for.
    Code(DeviceFlow),
    /// Copy this address back.
    Address(&'a CopyBack, &'a str),
}

/// Completes the login with the person's step, and stores it.
///
/// # Errors
/// Why there is none, in words.
pub fn finish<'a>(deed: Deed<'a>, account: &'a Account) -> Later<'a, Result<(), Trouble>> {
    Box::pin(async move {
        let server = Server::of(account).await?;
        let login = match deed {
            Deed::Code(device) => device.finish(&server, account).await?,
            Deed::Address(flow, address) => flow.finish(address, &server, account).await?,
        };
        let (_, store) = keeper::parts(account)?;
        let path = store.path();
        let saved = keeper::on_disk(move || store.save(&login)).await;
        let unwritten = |error| format!("the login cannot be written to {}: {error}", path.display());
        saved.map_err(|error| Trouble::new(TroubleKind::Setup, unwritten(error)))
    })
}

/// The sentence without the part that only concerns mail.
pub fn sentence(trouble: &Trouble) -> String {
    trouble.why.to_string()
}

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
    async fn begin(server: &Server<'_>, address: &str) -> Result<Self, Trouble> {
        let asked = Instant::now();
        let form = Form::new().add("scope", &server.oauth.scope);
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
    async fn finish(self, server: &Server<'_>, account: &Account) -> Result<StoredLogin, Trouble> {
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
                Ok(Ok(tokens)) => return StoredLogin::of(server.oauth, tokens, account),
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

/// Where the browser is redirected to. Nothing has to listen there.
const REDIRECT: &str = "http://127.0.0.1:47110/";
/// Maximum length in bytes of an address that is copied back.
pub const ADDRESS_LIMIT: usize = 8 << 10;

/// A flow that has been started.
#[derive(Debug)]
pub struct CopyBack {
    /// Where the person signs in.
    pub url: String,
    /// Distinguishes our answer from a foreign one (RFC 6749 section 10.12).
    state: Secret,
    /// RFC 7636 section 4.1.
    verifier: Secret,
}

/// This number of random bytes, in characters that are allowed in every URL (RFC 4648 section 5).
fn random(bytes: usize) -> Result<String, Trouble> {
    let mut random = Zeroizing::new(vec![0; bytes]);
    getrandom::fill(&mut random)
        .map_err(|e| Trouble::new(TroubleKind::Setup, format!("the system provides no random numbers: {e}")))?;
    Ok(base64url(&random))
}

fn base64url(bytes: &[u8]) -> String {
    let text = Zeroizing::new(base64(bytes));
    text.chars()
        .filter_map(|c| match c {
            '+' => Some('-'),
            '/' => Some('_'),
            '=' => None,
            other => Some(other),
        })
        .collect()
}

/// RFC 7636 section 4.2, method S256.
fn challenge(verifier: &str) -> String {
    base64url(digest(&SHA256, verifier.as_bytes()).as_ref())
}

impl CopyBack {
    /// Builds the URL for the browser (RFC 6749 section 4.1.1).
    ///
    /// # Errors
    /// If the system provides no random numbers.
    fn begin(oauth: &OAuth, account: &Account, address: &str) -> Result<Self, Trouble> {
        let (state, verifier) = (random(16)?, random(32)?);
        let query = Form::new()
            .add("response_type", "code")
            .add("client_id", &oauth.client_id)
            .add("redirect_uri", REDIRECT)
            .add("scope", &oauth.scope)
            .add("state", &state)
            .add("code_challenge", &challenge(&verifier))
            .add("code_challenge_method", "S256")
            // Without it, a second login of the same person may not yield a refresh token.
            .add("prompt", "consent")
            .add("access_type", if oauth.issuer == Issuer::Google { "offline" } else { "" })
            .add("login_hint", account.username.as_deref().unwrap_or_default());
        let gap = if address.contains('?') { '&' } else { '?' };
        let url = format!("{address}{gap}{}", query.text());
        Ok(Self { url, state: Secret::new(state), verifier: Secret::new(verifier) })
    }

    /// Exchanges the copied address for a login (RFC 6749 section 4.1.3). It can be called again with another text.
    ///
    /// # Errors
    /// Why there is no login, in words.
    async fn finish(&self, copied: &str, server: &Server<'_>, account: &Account) -> Result<StoredLogin, Trouble> {
        let code = self.code(copied).map_err(|text| Trouble::new(TroubleKind::Login, text))?;
        let form = Form::new()
            .add("grant_type", "authorization_code")
            .add("code", &code)
            .add("redirect_uri", REDIRECT)
            .add("code_verifier", self.verifier.expose());
        let tokens = server.tokens(form).await?.map_err(|refusal| server.trouble(&refusal))?;
        StoredLogin::of(server.oauth, tokens, account)
    }

    /// The code in the address.
    fn code(&self, copied: &str) -> Result<Zeroizing<String>, String> {
        let copied = copied.trim();
        if copied.len() > ADDRESS_LIMIT {
            return Err("this is much longer than the address that the browser shows at the end".into());
        }
        let ours = value_of(copied, "state").is_some_and(|state| state.as_str() == self.state.expose());
        if let Some(error) = value_of(copied, "error").filter(|_| ours) {
            return Err(format!("the sign-in was declined, or the client is not allowed: {}", shown(&error)));
        }
        match value_of(copied, "code").filter(|code| !code.is_empty()) {
            Some(code) if ours => Ok(code),
            Some(_) => Err("this address belongs to another login: copy the address that this login led to".into()),
            None => Err(format!(
                "this is not the address that the browser shows at the end: that one begins with {REDIRECT} and contains 'code='"
            )),
        }
    }
}

/// Maximum number of jobs that are remembered; the oldest is dropped first.
const JOBS: usize = 4;

/// The state of a job.
#[derive(Debug, Clone)]
enum JobState {
    /// The person has not signed in yet.
    Pending,
    Done,
    /// The reason, in words.
    Failed(String),
}

struct LoginJob {
    name: String,
    account: Account,
    /// Waiting for an address to be copied back.
    flow: Option<Arc<CopyBack>>,
    standing: Arc<Mutex<JobState>>,
    until: Instant,
}

/// The logins in progress.
#[derive(Default)]
pub struct Jobs(Mutex<Vec<LoginJob>>);

impl Jobs {
    /// Starts a login. The answer has `job`, `url`, `code` (null if an address is copied back) and `expires` in
    /// seconds. `done` runs when a device flow has succeeded.
    ///
    /// # Errors
    /// The reason, in words.
    pub async fn start(&self, account: &Account, done: Later<'static, ()>) -> Result<Value, String> {
        let flow = begin(account).await.map_err(|trouble| sentence(&trouble))?;
        let name = random_id().map_err(|error| error.to_string())?;
        let (time, answer) = (flow.time(), described(&name, &flow));
        let standing = Arc::new(Mutex::new(JobState::Pending));
        let flow = match flow {
            Flow::CopyBack(flow) => Some(Arc::new(flow)),
            Flow::Device(device) => {
                let (account, standing) = (account.clone(), Arc::clone(&standing));
                keeper::task(Box::pin(async move {
                    let result = finish(Deed::Code(device), &account).await;
                    let good = result.is_ok();
                    set(&standing, result.map_err(|trouble| sentence(&trouble)));
                    if good {
                        done.await;
                    }
                    Ok(None)
                }));
                None
            }
        };
        // The result stays available for a while.
        let until = Instant::now() + time + Duration::from_secs(600);
        let job = LoginJob { name, account: account.clone(), flow, standing, until };
        let mut jobs = lock(&self.0);
        jobs.retain(|job| job.until > Instant::now());
        if jobs.len() >= JOBS {
            jobs.remove(0);
        }
        jobs.push(job);
        Ok(answer)
    }

    /// The state of a job: `state` is `pending`, `done` or `failed`, with `text`. An `address` that was copied back
    /// continues it; empty if there is none. `None` if there is no such job.
    pub async fn poll(&self, name: &str, address: &str) -> Option<Value> {
        let (account, flow, standing) = {
            let jobs = lock(&self.0);
            let job = jobs.iter().find(|job| job.name == name && job.until > Instant::now())?;
            (job.account.clone(), job.flow.clone(), Arc::clone(&job.standing))
        };
        let pending = matches!(*lock(&standing), JobState::Pending);
        if let (true, false, Some(flow)) = (pending, address.is_empty(), flow) {
            match finish(Deed::Address(&flow, address), &account).await {
                Ok(()) => set(&standing, Ok(())),
                // The correct address may still come.
                Err(trouble) => return Some(json!({ "state": "pending", "text": sentence(&trouble) })),
            }
        }
        let standing = lock(&standing).clone();
        Some(match standing {
            JobState::Pending => json!({ "state": "pending", "text": "waiting for the sign-in in the browser" }),
            JobState::Done => json!({ "state": "done", "text": format!("account '{}' is logged in", account.name) }),
            JobState::Failed(text) => json!({ "state": "failed", "text": text }),
        })
    }
}

fn described(name: &str, flow: &Flow) -> Value {
    json!({ "job": name, "url": flow.url(), "code": flow.code(), "expires": flow.time().as_secs() })
}

fn set(standing: &Mutex<JobState>, result: Result<(), String>) {
    *lock(standing) = match result {
        Ok(()) => JobState::Done,
        Err(text) => JobState::Failed(text),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> CopyBack {
        let [state, verifier] = ["S-1", "v"].map(|text| Secret::new(text.into()));
        CopyBack { url: String::new(), state, verifier }
    }

    #[test]
    fn the_example_of_rfc_7636_appendix_b() {
        let octets = [
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105, 214, 191,
            240, 91, 88, 5, 88, 83, 132, 141, 121,
        ];
        assert_eq!(base64url(&octets), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        assert_eq!(random(32).unwrap().len(), 43);
        assert_ne!(random(32).unwrap(), random(32).unwrap());
    }

    #[test]
    fn only_the_address_of_this_login_is_taken() {
        let flow = begun();
        let code = |text: &str| flow.code(text).map(|code| code.to_string());
        assert_eq!(code(" http://127.0.0.1:47110/?state=S-1&code=4%2F0Ab&scope=x \n").unwrap(), "4/0Ab");
        assert_eq!(code("code=c&state=S-1").unwrap(), "c");
        assert!(code("http://127.0.0.1:47110/?state=S-2&code=c").unwrap_err().contains("another login"));
        assert!(code("http://127.0.0.1:47110/?code=c").unwrap_err().contains("another login"));
        assert!(code("http://127.0.0.1:47110/?error=access_denied&state=S-1").unwrap_err().contains("access_denied"));
        for text in ["", "4/0Ab", "https://accounts.google.com/o/oauth2/v2/auth", "?state=S-1&code="] {
            assert!(code(text).unwrap_err().contains("not the address"), "{text}");
        }
        assert!(code(&"x".repeat(ADDRESS_LIMIT + 1)).unwrap_err().contains("much longer"));
        assert!(!format!("{:?}", flow).contains("S-1"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_copied_has_an_answer(text: String) {
            let _ = begun().code(&text);
        }
    }
}
