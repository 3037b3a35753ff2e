// SPDX-License-Identifier: Apache-2.0
//! What the methods of the running gateway do.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::test_mail::{Tests, Works};
use super::{CallError, METHODS, PAGE_LIMIT, password, reload, views};
use crate::VERSION;
use crate::config::{Settings, providers, services};
use crate::dispatch::{Cause, Change, From, Order, Page, Waiting, Which};
use crate::oauth::{Later, login::Jobs};
use crate::policy::Rates;
use crate::queue::{Entry, MessageId, Position, Spool, SpoolError, Stored, blocking};
use crate::report::History;
use crate::secrets::vault::Left;
use crate::system::json::{json, put};
use crate::system::leases::{Leases, Sources};
use crate::system::{clock, is_deceptive, lock, logging, random_id, spelled_out, task};

/// Maximum number of bytes shown of a message's header.
const HEADER_SHOWN: usize = 32 << 10;
/// Results in one answer of `log_read`, and bytes of text of the lines in it: together less than a page on the bus.
const NEWS: usize = 30;
const NEWS_TEXT: usize = 12 << 10;

/// Maximum number of bytes shown of its text.
const BODY_SHOWN: usize = 256 << 10;

/// Everything that the methods need.
pub struct Api {
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    publish: watch::Sender<Arc<Settings>>,
    spool: Arc<Spool>,
    orders: mpsc::Sender<Order>,
    history: Arc<Mutex<History>>,
    leases: Leases,
    rates: Arc<Mutex<Rates>>,
    logins: Jobs,
    tests: Tests,
    reload: reload::ReloadDesk,
    started: Instant,
    /// Names this run in cursors: numbers start again with each.
    run: String,
}

impl Api {
    /// The methods of a gateway whose settings are in `publish`.
    pub fn new(
        publish: watch::Sender<Arc<Settings>>,
        spool: Arc<Spool>,
        orders: mpsc::Sender<Order>,
        history: Arc<Mutex<History>>,
        reload: reload::ReloadDesk,
    ) -> Self {
        let (logins, tests) = (Jobs::default(), Tests::default());
        let (settings, leases) = (publish.subscribe(), Leases::new(Sources::default()));
        let (rates, started) = (Arc::default(), Instant::now());
        let run = random_id().unwrap_or_default();
        Self { settings, publish, spool, orders, history, leases, rates, logins, tests, reload, started, run }
    }

    /// With the message rates of devices.
    #[must_use]
    pub fn with_rates(self, rates: Arc<Mutex<Rates>>) -> Self {
        Self { rates, ..self }
    }

    /// For changing the settings as a whole.
    pub fn reload(&self) -> &reload::ReloadDesk {
        &self.reload
    }

    /// Calls `method` with `params`. In the answer, text from devices is made completely visible, see [`spelled_out`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, method: &str, params: &Value) -> Result<Value, CallError> {
        let mut answer = self.answer(method, params).await?;
        spell_out(&mut answer);
        Ok(answer)
    }

    async fn answer(&self, method: &str, params: &Value) -> Result<Value, CallError> {
        let number = |name: &str, default: usize| match params.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| CallError::Wrong(format!("{name} must be a number"))),
        };
        let unknown = || CallError::Wrong(format!("there is no method '{method}'"));
        METHODS.iter().find(|known| known.name == method).ok_or_else(unknown)?;
        match method {
            "status" => self.status(params).await,
            "queue" => {
                let (offset, limit) = (number("offset", 0)?, number("limit", PAGE_LIMIT)?.min(PAGE_LIMIT));
                // Only on the private socket: on the bus an answer may be truncated before its last message.
                let from = match text(params, "after") {
                    "" => From::Number(offset),
                    after => From::Behind(position(after)?),
                };
                self.queue(offset, from, limit).await
            }
            "message" => self.message(one(params)?).await,
            "retry" => self.change(params, Change::Retry).await,
            "hold" => self.change(params, Change::Hold).await,
            "release" => self.change(params, Change::Release).await,
            "delete" => self.change(params, Change::Delete).await,
            "history" => {
                let (offset, limit) = (number("offset", 0)?, number("limit", PAGE_LIMIT)?.min(PAGE_LIMIT));
                let mut page = lock(&self.history).entries(offset, limit);
                self.name(page.get_mut("entries")).await;
                Ok(page)
            }
            "devices" => {
                let mut devices = lock(&self.history).devices();
                let all = devices.as_array_mut().map(std::mem::take).unwrap_or_default();
                let (offset, limit) = (number("offset", 0)?, number("limit", usize::MAX)?);
                let total = all.len();
                let devices: Vec<Value> = all.into_iter().skip(offset).take(limit).collect();
                let settings = self.settings.borrow().clone();
                let named = views::named(devices, Arc::clone(&settings), &self.leases).await;
                let mut devices = Value::Array(named);
                views::add_rates(&mut devices, &settings, &lock(&self.rates));
                Ok(json!({ "total": total, "devices": devices }))
            }
            "log_read" => self.log_read(text(params, "after")).await,
            "set_password" => {
                let done = password::set(&self.publish, params).await?;
                // Even if it is the same as before: the account may have been unlocked meanwhile.
                let _ = self.orders.send(Order::Look { account: text(params, "account").into() }).await;
                Ok(done)
            }
            "wake" => {
                let reason: String = params.get("reason").and_then(Value::as_str).unwrap_or("asked").into();
                // It appears in the log: one word is enough.
                let reason: String = reason.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
                self.order(|answer| Order::Wake { cause: Cause::of(&reason), reason, answer }).await?;
                Ok(json!({}))
            }
            "test" => {
                let settings = self.settings.borrow().clone();
                self.tests.start(&settings, text(params, "account"), text(params, "to"), works(self.orders.clone()))
            }
            "job" => self.tests.job(text(params, "id")),
            "providers" => Ok(json!({ "providers": providers::entries(), "services": services::entries() })),
            "reload" => {
                let warnings = self.reload.read().await.map_err(CallError::Failed)?;
                Ok(json!({ "warnings": warnings }))
            }
            "login_start" | "login_poll" => self.login(method == "login_start", params).await,
            _ => Err(unknown()),
        }
    }

    /// The state of everything, so that one look says why mail is not sent.
    async fn status(&self, params: &Value) -> Result<Value, CallError> {
        let mut health = self.order(|answer| Order::Health { answer }).await?;
        let settings = self.settings.borrow().clone();
        let accounts = settings.accounts.clone();
        let mut left = settings.left.clone();
        let spool = Arc::clone(&self.spool);
        let looked = task::blocking(move || {
            left.retain(Left::is_there);
            (accounts.iter().map(views::secret).collect::<Vec<_>>(), left, spool.wear())
        });
        let (secrets, left, wear) = looked.await.unwrap_or_default();
        health.paused = health.paused.or_else(|| views::locked_out(&settings, &health.general, &secrets));
        let (bytes, _, limit) = self.spool.usage_now();
        let (endangered, endangered_bytes) = self.spool.in_danger();
        let safe = settings.relay.safe_spool.as_ref().map(|path| {
            json!({
                "path": path.display().to_string(),
                "files_written": wear.files,
                "bytes_written": wear.bytes,
                "bytes_programmed": wear.programmed
            })
        });
        let unreachable = self.reload().unreachable();
        let history = lock(&self.history);
        let names: Vec<&str> = settings.accounts.iter().map(|account| account.name.as_str()).collect();
        let own = settings.devices.iter().filter(|device| !device.is_default());
        let sections: Vec<&str> = own.map(|device| device.name.as_str()).filter(|name| !name.is_empty()).collect();
        let known = settings.accounts.iter().zip(secrets);
        let view = |(account, secret)| views::account(account, secret, &health, &history);
        let accounts: Vec<Value> = known.map(view).collect();
        Ok(json!({
            "version": VERSION,
            "running": self.started.elapsed().as_secs(),
            "started": clock::since(self.started),
            "health": unreachable.before(views::health_sentence(&settings, &health)),
            "state": views::health_word(&settings, &health),
            "settings": self.reload().settings(&settings, &left, params),
            "reachable": unreachable.word(),
            "listeners": self.reload().listeners(),
            "clock": { "set": clock::is_set(), "now": clock::now() },
            "accounts": accounts,
            "queue": {
                "messages": health.waiting,
                "held": health.held,
                "oldest": health.oldest.and_then(clock::age),
                "reporting": health.reporting,
                "bytes": bytes,
                "limit": limit,
                "recovering": health.recovering,
            },
            "expected": health.expected.iter().map(views::expected).collect::<Vec<_>>(),
            "safe_spool": safe,
            "power_cut": {
                "messages": endangered,
                "bytes": endangered_bytes,
                "meaning": settings.relay.promise(),
            },
            "last": history.last(None),
            "today": history.today(clock::now()),
            "counters": history.counters(&names, &sections),
        }))
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, CallError> {
        let ending = || CallError::Failed("the gateway is shutting down".into());
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| ending())?;
        answered.await.map_err(|_| ending())
    }

    /// Starts a login at a provider, or reports its state.
    fn login<'a>(&'a self, begin: bool, params: &'a Value) -> Later<'a, Result<Value, CallError>> {
        Box::pin(async move {
            if begin {
                let (name, settings) = (text(params, "account"), self.settings.borrow().clone());
                let account = settings.accounts.iter().find(|account| account.name == name);
                let missing = || CallError::NotFound(format!("no enabled account is named '{name}'"));
                let done = wake(self.orders.clone());
                return self.logins.start(account.ok_or_else(missing)?, done).await.map_err(CallError::Failed);
            }
            let (job, address) = (text(params, "job"), text(params, "address"));
            let answer = self.logins.poll(job, address).await;
            let answer = answer.ok_or_else(|| CallError::NotFound(format!("there is no login '{job}' in progress")))?;
            if !address.is_empty() && answer.get("state").is_some_and(|state| state == "done") {
                wake(self.orders.clone()).await;
            }
            Ok(answer)
        })
    }

    async fn queue(&self, offset: usize, from: From, limit: usize) -> Result<Value, CallError> {
        let Page { total, messages, more } = self.order(|answer| Order::List { from, limit, answer }).await?;
        let next = messages.last().filter(|_| more).map(|last| format!("{}-{}", last.entry.arrived, last.entry.id));
        let spool = Arc::clone(&self.spool);
        let listed = blocking(move || {
            let listed = messages.iter().filter_map(|waiting| described(&spool, waiting));
            Ok::<_, std::io::Error>(listed.collect::<Vec<Value>>())
        });
        let mut messages = Value::Array(listed.await.map_err(|e| CallError::Failed(e.to_string()))?);
        self.name(Some(&mut messages)).await;
        Ok(json!({ "total": total, "offset": offset, "messages": messages, "next": next }))
    }

    /// Adds the names of devices to `list`.
    async fn name(&self, list: Option<&mut Value>) {
        let Some(list) = list.and_then(Value::as_array_mut) else { return };
        let clients: Vec<&str> = list.iter().map(|entry| text(entry, "client")).collect();
        let sections = lock(&self.history).sections(&clients);
        let settings = self.settings.borrow().clone();
        views::add_names(list, sections, &settings, &self.leases).await;
    }

    /// What is new in the log since `after`, the `cursor` of an earlier answer.
    async fn log_read(&self, after: &str) -> Result<Value, CallError> {
        let known = after.strip_prefix(&self.run).and_then(|rest| rest.strip_prefix('-')).and_then(|rest| {
            let (verdict, line) = rest.split_once('-')?;
            Some((verdict.parse::<u32>().ok()?, line.parse::<u64>().ok()?))
        });
        let (verdict, line) = known.unwrap_or_default();
        let (entries, next, more) = lock(&self.history).news(verdict, NEWS);
        let mut entries = Value::Array(entries);
        self.name(Some(&mut entries)).await;
        let (lines, more_lines) = logging::recent(line, NEWS_TEXT);
        let last = lines.last().map_or(line, |last| last.number);
        let lines: Vec<Value> = lines
            .iter()
            .map(|line| json!({ "number": line.number, "time": line.time, "level": line.level, "text": line.text }))
            .collect();
        Ok(json!({
            "cursor": format!("{}-{next}-{last}", self.run),
            "reset": known.is_none(),
            "more": more || more_lines,
            "entries": entries,
            "lines": lines,
        }))
    }

    async fn message(&self, id: MessageId) -> Result<Value, CallError> {
        let missing = || CallError::NotFound(format!("there is no message {id} in the queue"));
        let waiting = self.order(|answer| Order::Find { id, answer }).await?.ok_or_else(missing)?;
        let spool = Arc::clone(&self.spool);
        let read = blocking(move || whole(&spool, &waiting));
        let found = read.await.map_err(|error| match error {
            // It has left the queue meanwhile.
            SpoolError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => missing(),
            error => CallError::Failed(error.to_string()),
        })?;
        let mut list = Value::Array(vec![found]);
        self.name(Some(&mut list)).await;
        list.as_array_mut().and_then(Vec::pop).ok_or_else(missing)
    }

    /// A message as `message` describes it, with the beginning of its text in `body`; `cut` says whether there is more.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn body(&self, params: &Value) -> Result<Value, CallError> {
        let id = one(params)?;
        let mut message = self.message(id).await?;
        let missing = || CallError::NotFound(format!("there is no message {id} in the queue"));
        let waiting = self.order(|answer| Order::Find { id, answer }).await?.ok_or_else(missing)?;
        let spool = Arc::clone(&self.spool);
        let failed = |error: SpoolError| CallError::Failed(error.to_string());
        let mut stored = blocking(move || spool.open_message(&waiting.entry)).await.map_err(failed)?;
        let (mut body, cut) = (Vec::new(), stored.body_size > BODY_SHOWN as u64);
        while body.len() < BODY_SHOWN {
            let chunk = stored.next().await.map_err(failed)?;
            if chunk.is_empty() {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        body.truncate(BODY_SHOWN);
        let body = String::from_utf8_lossy(&body).into_owned();
        if let Some(fields) = message.as_object_mut() {
            put(fields, "body", &body);
            put(fields, "cut", &cut);
        }
        spell_out(&mut message);
        Ok(message)
    }

    async fn change(&self, params: &Value, change: Change) -> Result<Value, CallError> {
        let which = match text(params, "id") {
            "all" => Which::All,
            _ => Which::One(one(params)?),
        };
        let named = which.clone();
        let done = self.order(|answer| Order::Change { which, change, answer }).await?;
        if let Which::One(id) = named
            && done.count == 0
        {
            let held = || match change {
                Change::Hold => format!("message {id} is already held"),
                Change::Release => format!("message {id} is not held"),
                _ => format!("message {id} is held: release it with smtprelay queue release {id}"),
            };
            return Err(match (done.in_hand, done.failed) {
                (0, 0) if done.after > 0 => {
                    CallError::NotFound(format!("message {id} may not be sent yet (option after)"))
                }
                (0, 0) if done.already + done.held > 0 => CallError::NotFound(held()),
                (0, 0) => CallError::NotFound(format!("there is no message {id} in the queue to which this applies")),
                (0, _) => CallError::Failed(format!("message {id} could not be changed; the log says why")),
                _ => CallError::Busy(format!("message {id} is being sent right now; try again")),
            });
        }
        Ok(json!({
            "count": done.count,
            "in_hand": done.in_hand,
            "failed": done.failed,
            "already": done.already,
            "held": done.held,
            "over_rate": done.over_rate,
            "after": done.after,
        }))
    }
}

/// Makes characters that change the writing direction visible, everywhere in the value.
fn spell_out(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(is_deceptive) => *text = spelled_out(text),
        Value::Array(values) => values.iter_mut().for_each(spell_out),
        Value::Object(fields) => fields.values_mut().for_each(spell_out),
        _ => {}
    }
}

/// Mail that waits for a login is retried.
fn wake(orders: mpsc::Sender<Order>) -> Later<'static, ()> {
    Box::pin(async move {
        let (answer, _) = oneshot::channel();
        // Without a dispatcher the gateway is shutting down.
        let _ = orders.send(Order::Wake { cause: Cause::Owner, reason: "login".into(), answer }).await;
    })
}

/// An account has accepted a test mail: it is no longer paused.
fn works(orders: mpsc::Sender<Order>) -> Works {
    Box::new(move |account| {
        // Without a dispatcher the gateway is shutting down.
        Box::pin(async move { drop(orders.send(Order::Works { account }).await) })
    })
}

/// A text among the parameters; empty if there is none.
fn text<'a>(params: &'a Value, name: &str) -> &'a str {
    params.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The position in the list that an earlier page returned as `next`.
fn position(text: &str) -> Result<Position, CallError> {
    let parts = text.rsplit_once('-').and_then(|(arrived, id)| Some((arrived.parse().ok()?, id.parse().ok()?)));
    parts.ok_or_else(|| CallError::Wrong(format!("after must be the value of next from an earlier page, not '{text}'")))
}

/// The message that is meant.
fn one(params: &Value) -> Result<MessageId, CallError> {
    let text = text(params, "id");
    text.to_ascii_uppercase().parse().map_err(|error| CallError::Wrong(format!("'{text}': {error}")))
}

/// A message as every answer describes it.
fn view(waiting: &Waiting, stored: &Stored) -> Value {
    let Entry { id, size, .. } = waiting.entry;
    let now = Some((waiting.standing, waiting.paused.as_deref()));
    let mut value = views::message(id.as_str(), &stored.meta, &stored.state, &stored.header, size, now);
    if let Some(fields) = value.as_object_mut() {
        put(fields, "accounts", &waiting.accounts);
        if let Some(plan) = &waiting.planned {
            put(fields, "escalation", &views::planned(plan));
        }
    }
    value
}

/// A message of a list; `None` if it has left the queue meanwhile.
fn described(spool: &Spool, waiting: &Waiting) -> Option<Value> {
    let Entry { id, size, .. } = waiting.entry;
    match spool.open_message(&waiting.entry) {
        Ok(stored) => Some(view(waiting, &stored)),
        Err(SpoolError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(json!({ "id": id.as_str(), "size": size, "error": error.to_string() })),
    }
}

/// Everything that is known about a message.
fn whole(spool: &Spool, waiting: &Waiting) -> Result<Value, SpoolError> {
    let stored = spool.open_message(&waiting.entry)?;
    let mut value = view(waiting, &stored);
    let shown = stored.header.get(..HEADER_SHOWN).unwrap_or(&stored.header);
    if let Some(fields) = value.as_object_mut() {
        put(fields, "header", &*String::from_utf8_lossy(shown));
        put(fields, "history", &views::notes(&spool.notes(&waiting.entry)?));
    }
    Ok(value)
}
