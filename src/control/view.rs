// SPDX-License-Identifier: Apache-2.0
//! How a waiting message is described to people and programs: the same for every interface.

use serde_json::{Value, json};

use crate::dispatch::Standing;
use crate::queue::{Attempt, Meta, Note, Progress, State};
use crate::system::clock;

/// The word for the state of a recipient.
fn word(progress: Progress) -> &'static str {
    match progress {
        Progress::Waiting => "waiting",
        Progress::Delivered => "delivered",
        Progress::Failed => "failed",
    }
}

/// The word for the state of a message.
pub fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Due => "due",
        Standing::In(_) | Standing::Resting(_) => "later",
        Standing::Held => "held",
        Standing::InHand => "sending",
    }
}

/// A message. `now` says where it is in the schedule and why nothing is being sent, if the gateway is running.
pub fn message(id: &str, meta: &Meta, state: &State, size: u64, now: Option<(Standing, Option<&str>)>) -> Value {
    let arrived = state.arrived.unwrap_or(meta.arrived);
    let recipients: Vec<Value> = state
        .recipients
        .iter()
        .map(|r| json!({ "address": r.address, "state": word(r.progress), "reply": r.text }))
        .collect();
    let mut value = json!({
        "id": id,
        "arrived": arrived,
        "age": clock::age(arrived),
        "size": size,
        "client": meta.client,
        "from": meta.envelope.from,
        "recipients": recipients,
        "attempts": state.attempts,
        "held": state.held,
        "doubts": state.doubts,
        "notice": meta.notice,
        "why": why(meta, state, now),
    });
    if let Some(((at, _), fields)) = now.zip(value.as_object_mut()) {
        fields.insert("standing".into(), standing(at).into());
        if let Standing::In(wait) | Standing::Resting(wait) = at {
            fields.insert("next".into(), wait.as_secs().into());
        }
    }
    value
}

/// Why it is still in the queue, in one sentence.
fn why(meta: &Meta, state: &State, now: Option<(Standing, Option<&str>)>) -> String {
    let last = state.recipients.iter().find(|r| r.progress == Progress::Waiting && !r.text.is_empty());
    let last = last.map(|r| r.text.clone());
    match now {
        _ if state.held && state.is_doubtful() => state.doubt(),
        _ if state.held => "it is held: release it with smtprelay queue release".into(),
        Some((Standing::InHand, _)) => "it is being sent right now".into(),
        Some((Standing::Resting(left), _)) if let Some(over) = &meta.marks.over => {
            over.why(meta.marks.device.as_deref().unwrap_or_default(), left)
        }
        Some((_, Some(paused))) => paused.to_string(),
        Some((Standing::Due, None)) => last.unwrap_or_else(|| "it is ready to be sent".into()),
        Some(_) => last.unwrap_or_else(|| "it waits for its next attempt".into()),
        None => last.unwrap_or_else(|| "smtprelay is not running; the message will be sent at the next start".into()),
    }
}

/// What has happened to a message so far.
pub fn notes(notes: &[Note]) -> Vec<Value> {
    notes
        .iter()
        .map(|note| match note {
            Note::Attempt(Attempt { at, results, .. }) => {
                let results: Vec<Value> = results
                    .iter()
                    .map(|(recipient, progress, text)| {
                        json!({ "recipient": recipient, "state": word(*progress), "reply": text })
                    })
                    .collect();
                json!({ "what": "tried", "at": at, "results": results })
            }
            Note::Held(true) => json!({ "what": "held" }),
            Note::Held(false) => json!({ "what": "released" }),
            Note::Arrived(at) => json!({ "what": "time of arrival corrected", "to": at }),
            Note::Warned(at) => json!({ "what": "sender notified of the delay", "at": at }),
            Note::Told(at) => json!({ "what": "failure reported", "at": at }),
            Note::Doubt(at) => json!({ "what": "sent, outcome unknown", "at": at }),
            Note::Alone(at) => json!({ "what": "sent by itself", "at": at }),
        })
        .collect()
}
