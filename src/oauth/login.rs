// SPDX-License-Identifier: Apache-2.0
//! A person signs in: the flow of the account from start to the file on disk.

use std::time::{Duration, Instant};

use super::Later;
use super::copyback::CopyBack;
use super::device::DeviceFlow;
use super::keeper;
use super::token::Server;
use crate::config::Account;
use crate::net::{Trouble, TroubleKind};

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
