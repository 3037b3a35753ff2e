//! Logins that somebody follows from outside (the control methods `login_start` and `login_poll`): each is a job with a name.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::copyback::CopyBack;
use super::login::{self, Deed, Flow};
use super::{Later, keeper};
use crate::config::Account;
use crate::system::random_id;

/// Jobs that are remembered; the oldest gives way.
const JOBS: usize = 4;

/// How a job stands.
#[derive(Debug, Clone)]
enum Standing {
    /// The person has not signed in yet.
    Pending,
    Done,
    /// Why not, in words.
    Failed(String),
}

struct Job {
    name: String,
    account: Account,
    /// Waits for an address that is copied back.
    flow: Option<Arc<CopyBack>>,
    standing: Arc<Mutex<Standing>>,
    until: Instant,
}

/// The logins that are under way.
#[derive(Default)]
pub struct Jobs(Mutex<Vec<Job>>);

impl Jobs {
    /// Begins a login. The answer has `job`, `url`, `code` (null: an address is copied back) and `expires`, seconds.
    /// `done` runs when a device flow has come to a good end.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn start(&self, account: &Account, done: Later<'static, ()>) -> Result<Value, String> {
        let flow = login::begin(account).await.map_err(|trouble| login::sentence(&trouble))?;
        let name = random_id().map_err(|error| error.to_string())?;
        let (time, answer) = (flow.time(), described(&name, &flow));
        let standing = Arc::new(Mutex::new(Standing::Pending));
        let flow = match flow {
            Flow::CopyBack(flow) => Some(Arc::new(flow)),
            Flow::Device(device) => {
                let (account, standing) = (account.clone(), Arc::clone(&standing));
                keeper::task(Box::pin(async move {
                    let result = login::finish(Deed::Code(device), &account).await;
                    let good = result.is_ok();
                    set(&standing, result.map_err(|trouble| login::sentence(&trouble)));
                    if good {
                        done.await;
                    }
                    Ok(None)
                }));
                None
            }
        };
        // What comes of it can be asked for a while.
        let until = Instant::now() + time + Duration::from_secs(600);
        let job = Job { name, account: account.clone(), flow, standing, until };
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|job| job.until > Instant::now());
        if jobs.len() >= JOBS {
            jobs.remove(0);
        }
        jobs.push(job);
        Ok(answer)
    }

    /// How the job stands: `state` is `pending`, `done` or `failed`, with `text`. An `address` that was copied back
    /// moves it on; empty: there is none.
    /// `None`: there is no such job.
    pub async fn poll(&self, name: &str, address: &str) -> Option<Value> {
        let (account, flow, standing) = {
            let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let job = jobs.iter().find(|job| job.name == name && job.until > Instant::now())?;
            (job.account.clone(), job.flow.clone(), Arc::clone(&job.standing))
        };
        let pending = matches!(*standing.lock().unwrap_or_else(PoisonError::into_inner), Standing::Pending);
        if let (true, false, Some(flow)) = (pending, address.is_empty(), flow) {
            match login::finish(Deed::Address(&flow, address), &account).await {
                Ok(()) => set(&standing, Ok(())),
                // The right address may still come.
                Err(trouble) => return Some(json!({ "state": "pending", "text": login::sentence(&trouble) })),
            }
        }
        let standing = standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(match standing {
            Standing::Pending => json!({ "state": "pending", "text": "waiting for somebody to sign in" }),
            Standing::Done => json!({ "state": "done", "text": format!("account '{}' is logged in", account.name) }),
            Standing::Failed(text) => json!({ "state": "failed", "text": text }),
        })
    }
}

fn described(name: &str, flow: &Flow) -> Value {
    json!({ "job": name, "url": flow.url(), "code": flow.code(), "expires": flow.time().as_secs() })
}

fn set(standing: &Mutex<Standing>, result: Result<(), String>) {
    *standing.lock().unwrap_or_else(PoisonError::into_inner) = match result {
        Ok(()) => Standing::Done,
        Err(text) => Standing::Failed(text),
    };
}
