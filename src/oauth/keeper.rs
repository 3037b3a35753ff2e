// SPDX-License-Identifier: Apache-2.0
//! Access tokens for the mail server: kept in memory and renewed ahead of time, with at most one renewal at a time per
//! account.
//!
//! All times are by the monotonic clock: however wrong the wall clock is, a token is neither valid forever nor expired
//! forever.
//!
//! Logins that no mail uses are renewed as well: servers let them expire after months without use, and the owner should
//! learn about an invalid one before an alarm depends on it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as Guard};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::Later;
use super::http::Form;
use super::store::{Store, StoredLogin};
use super::token::{Server, Tokens};
use crate::config::{Account, OAuth, Settings, TlsMode};
use crate::net::{Trouble, TroubleKind};
use crate::report::Event;
use crate::secrets::Secret;
use crate::system::lock;
use crate::system::task::pause;
use crate::system::{clock, ordered};

/// Percentage of its lifetime after which a token is renewed.
const RENEW_AT: u32 = 80;
/// Even a token with a very short lifetime is used when it is new.
const SHORTEST: Duration = Duration::from_secs(10);

/// An access token.
struct Access {
    token: Secret,
    /// The refresh token that belongs to it.
    refresh: Secret,
    renew: Instant,
    ends: Instant,
}

/// What is known about the tokens of one account.
#[derive(Default)]
pub(super) struct TokenState {
    access: Option<Access>,
    /// What could not be written, and the refresh token on disk that it replaces.
    unsaved: Option<(Secret, StoredLogin)>,
    /// The mail server has rejected a token, and the one obtained as its replacement is in use: another one would not
    /// help.
    doubted: bool,
    /// When the login was last known to work.
    pub(super) seen: Option<Instant>,
}

/// The tokens of an account, shared by all its connections.
type Keeper = Arc<Mutex<TokenState>>;

/// All accounts of this process, by their files. Its size is the number of accounts in the settings since the start.
static KEEPERS: Guard<Vec<(PathBuf, Keeper)>> = Guard::new(Vec::new());

/// The keeper of the tokens in `store`.
pub(super) fn keeper(store: &Store) -> Keeper {
    let path = store.path();
    let mut keepers = lock(&KEEPERS);
    if let Some((_, keeper)) = keepers.iter().find(|(known, _)| *known == path) {
        return Arc::clone(keeper);
    }
    let keeper = Keeper::default();
    keepers.push((path, Arc::clone(&keeper)));
    keeper
}

/// A token for the mail server of `account`. `refused` is the one that this server has rejected: the result is then
/// another one, or `None` if the rejected one was itself a replacement, so that another would not help.
///
/// # Errors
/// Why there is none, with the remedy.
pub fn token(account: &Account, refused: Option<&Secret>) -> Later<'static, Got> {
    find(account.clone(), refused.cloned(), false)
}

/// The result of looking for a token.
type Got = Result<Option<Secret>, Trouble>;

/// A token for `account`; with `renew` a new one, although the one that there is may still do.
fn find(account: Account, refused: Option<Secret>, renew: bool) -> Later<'static, Got> {
    Box::pin(async move {
        let (oauth, store) = parts(&account)?;
        // In a task of its own: cancelling a delivery between the server's reply and the write to disk must not lose
        // the login.
        let found = task(Box::pin(async move {
            let keeper = keeper(&store);
            let mut state = keeper.lock().await;
            state.token(&account, &oauth, &store, refused.as_ref(), renew).await
        }));
        found.await.unwrap_or_else(|_| Err(Trouble::new(TroubleKind::Setup, "the program is shutting down")))
    })
}

/// Starts a task. All tasks of this module have the same type, because each type costs some kilobytes of program size.
pub(super) fn task(work: Later<'static, Got>) -> JoinHandle<Got> {
    tokio::spawn(work)
}

/// Whether there is a login for an account with these settings. Reads a file, so it must not be called on the runtime
/// thread.
pub fn signed_in(account: &Account) -> bool {
    let Ok((oauth, store)) = parts(account) else { return false };
    matches!(store.load(), Ok(Some(login)) if login.fits(&oauth))
}

/// The mail server has accepted a token.
pub async fn taken(account: &Account) {
    if let Ok((_, store)) = parts(account) {
        keeper(&store).lock().await.doubted = false;
    }
}

/// Waits during shutdown until no renewal is in progress, for at most `most`.
pub async fn settle(most: Duration) {
    let keepers: Vec<Keeper> = lock(&KEEPERS).iter().map(|(_, keeper)| Arc::clone(keeper)).collect();
    let all = async {
        for keeper in keepers {
            drop(keeper.lock().await);
        }
    };
    let _ = tokio::time::timeout(most, all).await;
}

pub(super) fn parts(account: &Account) -> Result<(OAuth, Store), Trouble> {
    let setup = |text: String| Trouble::new(TroubleKind::Setup, text);
    let oauth = account.oauth.clone();
    let oauth =
        oauth.ok_or_else(|| setup(format!("account '{}' uses a password, not an OAuth login", account.name)))?;
    let store = Store::of(&oauth.secrets, &account.name).map_err(|e| setup(e.to_string()))?;
    Ok((oauth, store))
}

/// Performs disk access off the runtime thread.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    super::away(work).await.unwrap_or_else(|| Err(std::io::Error::other("the program is shutting down")))
}

impl TokenState {
    async fn token(
        &mut self,
        account: &Account,
        oauth: &OAuth,
        store: &Store,
        refused: Option<&Secret>,
        renew: bool,
    ) -> Result<Option<Secret>, Trouble> {
        let login = self.login(account, oauth, store).await?;
        if self.access.as_ref().is_some_and(|access| access.refresh != login.refresh) {
            // There is a new login.
            self.access = None;
            self.doubted = false;
        }
        let now = Instant::now();
        if let Some(access) = &self.access {
            let refused = refused.is_some_and(|refused| *refused == access.token);
            if refused && self.doubted {
                return Ok(None);
            }
            if !refused && !renew && now < access.renew {
                return Ok(Some(access.token.clone()));
            }
        }
        match renewed(account, &login).await {
            Ok(tokens) => {
                self.doubted = refused.is_some();
                Ok(Some(self.keep(store, login, tokens).await))
            }
            // The renewal was ahead of time: the old token can still be used.
            Err(trouble) => match &self.access {
                Some(access) if refused.is_none() && !renew && now < access.ends => Ok(Some(access.token.clone())),
                _ => Err(trouble),
            },
        }
    }

    /// The valid login: the one on disk, or one that could not be written yet.
    async fn login(&mut self, account: &Account, oauth: &OAuth, store: &Store) -> Result<StoredLogin, Trouble> {
        if let Some((old, new)) = self.unsaved.take() {
            self.write(store, old, new).await;
        }
        let place = store.clone();
        let there = on_disk(move || place.load()).await.map_err(|error| {
            let path = store.path();
            sign_in(account, &format!("the login in {} cannot be read ({error})", path.display()))
        })?;
        let there = match (&self.unsaved, there) {
            (Some((old, new)), Some(there)) if there.refresh == *old => new.clone(),
            (_, Some(there)) => {
                self.unsaved = None;
                there
            }
            (_, None) => return Err(sign_in(account, "nobody has signed in yet")),
        };
        match there.fits(oauth) {
            true => Ok(there),
            false => Err(sign_in(account, "the login was made with another client_id or token_url")),
        }
    }

    /// First to disk, then into use.
    async fn keep(&mut self, store: &Store, login: StoredLogin, tokens: Tokens) -> Secret {
        let Tokens { access, refresh, asked, life } = tokens;
        let refresh = match refresh.filter(|refresh| *refresh != login.refresh) {
            Some(refresh) => {
                self.write(store, login.refresh.clone(), StoredLogin { refresh: refresh.clone(), ..login }).await;
                refresh
            }
            None => login.refresh,
        };
        let renew = asked + (life * RENEW_AT / 100).max(SHORTEST);
        self.seen = Some(asked);
        self.access = Some(Access { token: access.clone(), refresh, renew, ends: asked + life });
        access
    }

    /// Writes a refresh token that replaces `old`. If the disk is full it is kept in memory, and mail continues to
    /// flow.
    async fn write(&mut self, store: &Store, old: Secret, new: StoredLogin) {
        let (place, replaced, login) = (store.clone(), old.clone(), new.clone());
        if let Err(error) = on_disk(move || place.replace(&replaced, &login)).await {
            let path = store.path().display().to_string();
            let text = format!(
                "the renewed login cannot be written to {path} and will be lost at a restart: {error}; free some space there"
            );
            Event::Advice { text }.log();
            self.unsaved = Some((old, new));
        }
    }
}

fn sign_in(account: &Account, what: &str) -> Trouble {
    let name = &account.name;
    let remedy = format!("run smtprelay login {name}");
    Trouble::new(TroubleKind::Login, format!("account '{name}' cannot log in, {what}")).remedy(remedy)
}

/// RFC 6749 section 6.
async fn renewed(account: &Account, login: &StoredLogin) -> Result<Tokens, Trouble> {
    let judges = account.tls != TlsMode::None;
    if judges && !clock::is_set() {
        let reason = "this router's clock is not set, so no login server can be verified";
        return Err(Trouble::new(TroubleKind::Clock, reason).remedy("check that NTP works"));
    }
    let server = Server::of(account).await?;
    let form = Form::new().add("grant_type", "refresh_token").add("refresh_token", login.refresh.expose());
    server.tokens(form).await?.map_err(|refusal| server.trouble(&refusal))
}

/// How often to check whether a login has been idle.
const LOOK: Duration = Duration::from_secs(3600);
/// How long a login may be idle. Each renewal may cost a write to flash.
const IDLE: Duration = Duration::from_secs(86_400);

/// Starts renewing them, until the order to stop.
pub fn begin(settings: watch::Receiver<Arc<Settings>>, stop: watch::Receiver<bool>) {
    task(Box::pin(async move {
        run(settings, stop).await;
        Ok(None)
    }));
}

async fn run(settings: watch::Receiver<Arc<Settings>>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = ordered(&mut stop) => return,
            () = pause(LOOK) => {}
        }
        let accounts = settings.borrow().accounts.clone();
        for account in accounts.iter().filter(|account| account.oauth.is_some()) {
            let Ok((_, store)) = parts(account) else { continue };
            let seen = keeper(&store).lock().await.seen;
            if seen.is_some_and(|seen| Instant::now().saturating_duration_since(seen) < IDLE) {
                continue;
            }
            // Temporary errors are retried in an hour, and are not reported before there is mail.
            if let Err(trouble) = find(account.clone(), None, true).await
                && trouble.kind == TroubleKind::Login
            {
                Event::Advice { text: trouble.reason() }.log();
            }
        }
    }
}
