// SPDX-License-Identifier: Apache-2.0
//! Logins that a client follows (the control methods `login_start` and `login_poll`): each is a job with a name.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::copyback::CopyBack;
use super::login::{self, Deed, Flow};
use super::{Later, keeper};
use crate::config::Account;
use crate::system::lock;
use crate::system::random_id;

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
        let flow = login::begin(account).await.map_err(|trouble| login::sentence(&trouble))?;
        let name = random_id().map_err(|error| error.to_string())?;
        let (time, answer) = (flow.time(), described(&name, &flow));
        let standing = Arc::new(Mutex::new(JobState::Pending));
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
            match login::finish(Deed::Address(&flow, address), &account).await {
                Ok(()) => set(&standing, Ok(())),
                // The correct address may still come.
                Err(trouble) => return Some(json!({ "state": "pending", "text": login::sentence(&trouble) })),
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
