// SPDX-License-Identifier: Apache-2.0
//! The object `smtprelay`: how its methods are listed and called.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use crate::control::methods::{ArgumentType, METHODS, Method};
use crate::control::{Api, REQUEST_LIMIT};
use crate::ubus::blobmsg::{self, Writer, kind};
use crate::ubus::connection::Link;
use crate::ubus::message::{Body, MessageFields, MessageHead, attribute, status};

/// The object's name.
pub const PATH: &str = "smtprelay";
/// Size in bytes at which the list in an answer is cut off: uhttpd turns it into JSON, which is larger.
const PAGE: usize = 48 << 10;
/// Maximum size of an answer in bytes.
const ANSWER_LIMIT: usize = 256 << 10;
/// Timeout for a call; by default the `ubus` command waits 30 s, LuCI 20.
const PATIENCE: Duration = Duration::from_secs(60);

/// The attributes of the request that publishes the object.
pub fn published() -> Vec<u8> {
    let mut signature = Writer::default();
    for method in METHODS {
        let table = signature.open(kind::TABLE, method.name);
        for (name, argument) in method.arguments {
            signature.member(name, &wire(*argument).into());
        }
        signature.close(table);
    }
    // A table of our own: far below every limit.
    let signature = signature.finish().unwrap_or_default();
    Body::default().text(attribute::OBJPATH, PATH).nested(attribute::SIGNATURE, &signature).finish()
}

/// The type of an argument as ubus names it.
fn wire(argument: ArgumentType) -> u8 {
    match argument {
        ArgumentType::Text => kind::STRING,
        ArgumentType::Number => kind::INT32,
        ArgumentType::Flag => kind::INT8,
    }
}

/// A received call.
pub struct Call {
    /// The caller.
    pub head: MessageHead,
    /// The called object, which is ours.
    pub object: u32,
    /// The name of the method.
    pub method: String,
    /// The arguments as received; `None` if they are too large.
    pub data: Option<Vec<u8>>,
}

impl Call {
    /// A call from the attributes of its message; `None` if they are not those of a call.
    pub fn new(head: MessageHead, fields: &MessageFields<'_>) -> Option<Self> {
        let data = fields.data.unwrap_or_default();
        let data = (data.len() <= REQUEST_LIMIT).then(|| data.to_vec());
        Some(Self { head, object: fields.object?, method: fields.method?.to_string(), data })
    }

    /// Executes the call and answers. `place` is released when the answer has been sent.
    pub async fn serve(self, link: Arc<Link>, api: Arc<Api>, place: Option<OwnedSemaphorePermit>) {
        let Some(method) = METHODS.iter().find(|method| method.name == self.method) else {
            link.reply(self.head, self.object, None, status::METHOD_NOT_FOUND).await;
            return;
        };
        let Some(Ok(mut arguments)) = self.data.as_deref().map(blobmsg::decode) else {
            link.reply(self.head, self.object, None, status::INVALID_ARGUMENT).await;
            return;
        };
        let failure = |text: &str, kind: &str| json!({ "error": text, "kind": kind });
        let answer = if place.is_some() {
            lenient(method, &mut arguments);
            match tokio::time::timeout(PATIENCE, api.call(&self.method, &arguments)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(refusal)) => failure(&refusal.to_string(), refusal.kind()),
                Err(_) => failure("this is taking longer than a minute; check again later", "failed"),
            }
        } else {
            failure("too many calls at once; try again", "busy")
        };
        let data = page(&answer).or_else(|| blobmsg::encode(&failure("the answer is too large", "failed")).ok());
        link.reply(self.head, self.object, Some(&data.unwrap_or_default()), status::OK).await;
        drop(place);
    }
}

/// Accepts numbers sent as text or as a boolean, as old Lua programs and the shell do.
fn lenient(method: &Method, arguments: &mut Value) {
    for (name, kind) in method.arguments {
        let Some(value) = arguments.get_mut(*name) else { continue };
        let number = match (&*value, kind) {
            (Value::String(text), ArgumentType::Number) => text.trim().parse::<u64>().ok(),
            (Value::Bool(flag), ArgumentType::Number) => Some(u64::from(*flag)),
            _ => None,
        };
        if let Some(number) = number {
            *value = number.into();
        }
    }
}

/// An answer as bytes. A list in it is cut off where the answer would become too large; its `total` shows that there is
/// more. `None` if it is still too large.
fn page(answer: &Value) -> Option<Vec<u8>> {
    let members = answer.as_object()?;
    let mut out = Writer::default();
    // Lists come last, when the size of the rest is known. The `next` of a complete list would be wrong for one that is
    // cut off.
    let others = members.iter().filter(|(name, value)| !value.is_array() && *name != "next");
    others.for_each(|(name, value)| out.member(name, value));
    for (name, items) in members.iter().filter_map(|(name, value)| Some((name, value.as_array()?))) {
        let list = out.open(kind::ARRAY, name);
        for (n, item) in items.iter().enumerate() {
            let before = out.len();
            out.member("", item);
            // At least one, or a client that requests page after page would never get to the next one.
            if n > 0 && out.len() > PAGE {
                out.truncate(before);
                break;
            }
        }
        out.close(list);
    }
    out.finish().ok().filter(|bytes| bytes.len() <= ANSWER_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_ends_where_the_answer_gets_too_large_and_the_rest_can_be_asked_for() {
        let all: Vec<Value> = (0..300).map(|n| json!({ "id": n, "text": "x".repeat(1000) })).collect();
        let mut offset = 0;
        while offset < all.len() {
            let bytes = page(&json!({ "messages": all[offset..], "total": 300 })).unwrap();
            assert!(bytes.len() < 64 << 10);
            let answer = blobmsg::decode(&bytes).unwrap();
            assert_eq!(answer["total"], json!(300));
            let got = answer["messages"].as_array().unwrap();
            assert!(!got.is_empty());
            assert_eq!(got[..], all[offset..offset + got.len()]);
            offset += got.len();
        }
    }

    #[test]
    fn what_is_larger_than_a_page_by_itself_goes_alone_and_what_is_larger_than_an_answer_does_not() {
        let item = "x".repeat(PAGE + 1);
        let answer = blobmsg::decode(&page(&json!({ "messages": [item, item] })).unwrap()).unwrap();
        assert_eq!(answer, json!({ "messages": [item] }));
        assert_eq!(page(&json!({ "text": "x".repeat(ANSWER_LIMIT) })), None);
        assert_eq!(page(&json!([])), None);
    }

    #[test]
    fn numbers_may_come_as_text_and_other_arguments_stay() {
        let queue = METHODS.iter().find(|method| method.name == "queue").unwrap();
        let mut arguments = json!({ "offset": "7", "limit": true, "ubus_rpc_session": "0123" });
        lenient(queue, &mut arguments);
        assert_eq!(arguments, json!({ "offset": 7, "limit": 1, "ubus_rpc_session": "0123" }));
        let mut wrong = json!({ "offset": "x", "limit": -1 });
        lenient(queue, &mut wrong);
        assert_eq!(wrong, json!({ "offset": "x", "limit": -1 }));
    }

    #[test]
    fn each_method_is_listed_once_and_explained() {
        let mut names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
        assert!(published().len() > 16 * names.len());
        let reference = include_str!("../../../docs/reference/ubus.md");
        for Method { name, arguments } in METHODS {
            assert!(reference.contains(&format!("`{name}`")), "docs/reference/ubus.md does not explain {name}");
            assert!(reference.contains(&format!("\t\"{name}\":{{")), "docs/reference/ubus.md does not list {name}");
            for (argument, _) in *arguments {
                assert!(
                    reference.contains(&format!("`{argument}`")),
                    "docs/reference/ubus.md does not explain {argument}"
                );
            }
        }
    }
}
