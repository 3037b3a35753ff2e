//! Renews logins that no mail uses: servers let them expire after months without use, and the owner should learn about
//! an invalid one before an alarm depends on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::keeper;
use crate::config::Settings;
use crate::net::TroubleKind;
use crate::report::Event;
use crate::system::ordered;

/// How often to check whether a login has been idle.
const LOOK: Duration = Duration::from_secs(3600);
/// How long a login may be idle. Each renewal may cost a write to flash.
const IDLE: Duration = Duration::from_secs(86_400);

/// Starts renewing them, until the order to stop.
pub fn begin(settings: watch::Receiver<Arc<Settings>>, stop: watch::Receiver<bool>) {
    keeper::task(Box::pin(async move {
        run(settings, stop).await;
        Ok(None)
    }));
}

async fn run(settings: watch::Receiver<Arc<Settings>>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = ordered(&mut stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let accounts = settings.borrow().accounts.clone();
        for account in accounts.iter().filter(|account| account.oauth.is_some()) {
            let Ok((_, store)) = keeper::parts(account) else { continue };
            let seen = keeper::keeper(&store).lock().await.seen;
            if seen.is_some_and(|seen| Instant::now().saturating_duration_since(seen) < IDLE) {
                continue;
            }
            // Temporary errors are retried in an hour, and are not reported before there is mail.
            if let Err(trouble) = keeper::touch(account).await
                && trouble.kind == TroubleKind::Login
            {
                Event::Advice { text: trouble.reason() }.log();
            }
        }
    }
}
