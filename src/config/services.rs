// SPDX-License-Identifier: Apache-2.0
//! Services that a channel can use: how a request to each looks. `docs/guide/channels.md` explains how to add one.

use serde_json::{Map, Value};

use crate::system::json::put;

use super::presets;
use super::reader::Keyword;
use crate::push::short::Unit;

/// Name of the service whose request the settings describe.
pub const CUSTOM: &str = "custom";
/// The services as data, so that one can be added with one line; each with the page that documents its request, and
/// the date on which that was read.
const SERVICES: &str = include_str!("services.json");
/// Maximum length of a title where a service names no other.
const TITLE: usize = 250;

/// What the token of a channel is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenUse {
    /// It may be missing.
    #[default]
    Optional,
    /// Nothing is accepted without it.
    Required,
    /// It is the whole address, and must not be missing either.
    Address,
}

impl Keyword for TokenUse {
    const WORDS: &'static [(&'static str, Self)] =
        &[("optional", Self::Optional), ("required", Self::Required), ("address", Self::Address)];
}

/// A service.
pub struct Service {
    /// The address of its server; empty if everyone has another.
    pub base: String,
    /// What follows it: a template.
    pub path: String,
    /// The method of the request.
    pub method: String,
    /// Templates of header fields. Those with a token are left out if there is none.
    pub headers: Vec<String>,
    /// The body: a template, an object for JSON or a text for a form; null if there is none.
    pub body: Value,
    /// What is added to the body for each priority, from `low` to `urgent`; empty if it has no priorities.
    pub priorities: Vec<Value>,
    /// What its token is.
    pub token: TokenUse,
    /// What `option to` is; empty if it needs none.
    pub to: String,
    /// Maximum length of a title.
    pub title: usize,
    /// Maximum length of a text.
    pub text: usize,
    /// The unit of both.
    pub unit: Unit,
    /// Whether it requires `&`, `<` and `>` as entities.
    pub entities: bool,
    /// How it takes a picture with the message, if it does.
    pub picture: Option<PictureRequest>,
    /// Where its token comes from, and what has to be done there.
    pub help: String,
}

/// How a request with a picture differs from one without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PictureRequest {
    /// What follows the address of the server, a template; for a [`Channel`](super::Channel) the whole address. Empty:
    /// the same as without a picture.
    pub path: String,
    /// Templates of further header fields, whose values become encoded words. `{picture}` is the name of the file.
    pub headers: Vec<String>,
    /// The fields of a form with parts (RFC 7578), as `name=template` with `&` between them.
    pub form: String,
    /// The field of that form for the body of the request without a picture; empty if there is none.
    pub json: String,
    /// The field of that form for the picture; empty if the picture is the body.
    pub file: String,
    /// What is added to the form, or the further header field, for each priority.
    pub priorities: Vec<String>,
    /// Maximum length of a text.
    pub text: usize,
    /// Maximum size of a picture in bytes.
    pub limit: u64,
}

fn text(entry: &Value, key: &str) -> String {
    entry.get(key).and_then(Value::as_str).unwrap_or_default().into()
}

fn list(entry: &Value, key: &str) -> Vec<Value> {
    entry.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn texts(entry: &Value, key: &str) -> Vec<String> {
    list(entry, key).iter().filter_map(Value::as_str).map(String::from).collect()
}

fn picture(entry: &Value) -> Option<PictureRequest> {
    let picture = entry.get("picture")?;
    // A service that has a form anyway takes the same fields with a picture.
    let (form, own) = (text(picture, "form"), picture.get("priorities").is_some());
    let form = if form.is_empty() { text(entry, "body") } else { form };
    Some(PictureRequest {
        path: text(picture, "path"),
        headers: texts(picture, "headers"),
        form,
        json: text(picture, "json"),
        file: text(picture, "file"),
        priorities: texts(if own { picture } else { entry }, "priorities"),
        text: picture.get("text").and_then(Value::as_u64).and_then(|text| usize::try_from(text).ok())?,
        limit: picture.get("limit").and_then(Value::as_u64)?,
    })
}

/// The names of all services, in the order of the data.
pub fn names() -> Vec<String> {
    presets::all(SERVICES).map(|service| text(&service, "id")).collect()
}

/// What has to be known to set up a channel of each service, for the command line and the pages: `id`, `name`, `docs`;
/// `base`, the address of its server; `own`, whether a server of one's own is possible, or needed where `base` is empty;
/// `to` and `help` in words, empty where there is nothing to enter; `token`: `optional`, `required`, or `address`.
pub fn entries() -> Vec<Value> {
    const TOLD: [&str; 6] = ["id", "name", "docs", "base", "to", "help"];
    let entry = |service: Value| {
        let mut entry = Map::new();
        TOLD.iter().for_each(|key| put(&mut entry, key, &text(&service, key)));
        let token = text(&service, "token");
        let own = text(&service, "base").is_empty() && TokenUse::of(&token) != Some(TokenUse::Address);
        put(&mut entry, "own", &(own || service.get("own") == Some(&Value::Bool(true))));
        put(&mut entry, "token", &token);
        Value::Object(entry)
    };
    presets::all(SERVICES).map(entry).collect()
}

/// The service with this name.
pub fn find(id: &str) -> Option<Service> {
    let entry = presets::find(SERVICES, id)?;
    let number = |key: &str| entry.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    let flag = |key: &str| entry.get(key).and_then(Value::as_bool).unwrap_or(false);
    let method = Some(text(&entry, "method")).filter(|method| !method.is_empty());
    Some(Service {
        base: text(&entry, "base"),
        path: text(&entry, "path"),
        method: method.unwrap_or_else(|| "POST".into()),
        headers: texts(&entry, "headers"),
        body: entry.get("body").cloned().unwrap_or_default(),
        priorities: list(&entry, "priorities"),
        token: TokenUse::of(&text(&entry, "token"))?,
        to: text(&entry, "to"),
        title: number("title").unwrap_or(TITLE),
        text: number("text")?,
        unit: if flag("bytes") { Unit::Bytes } else { Unit::Characters },
        entities: flag("entities"),
        picture: picture(&entry),
        help: text(&entry, "help"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::template;
    use crate::push::url::Url;

    #[test]
    fn every_service_can_be_used() {
        const KEYS: &str = " id name docs base own path method headers body priorities token to title text bytes entities picture help ";
        const PICTURE_KEYS: &str = " docs path headers form json file priorities text limit ";
        let all: Vec<Value> = presets::all(SERVICES).collect();
        let whole: Value = serde_json::from_str(SERVICES).unwrap();
        assert_eq!(whole["services"].as_array(), Some(&all));
        assert_eq!(names().join(" "), "ntfy telegram gotify pushover slack teams discord matrix homeassistant custom");
        for entry in &all {
            let id = text(entry, "id");
            for key in entry.as_object().unwrap().keys() {
                assert!(KEYS.contains(&format!(" {key} ")), "{id}: {key}");
            }
            let service = find(&id).unwrap();
            assert!([0, 4].contains(&service.priorities.len()), "{id}");
            assert!(!service.help.is_empty() && service.text <= 8000, "{id}");
            if id == CUSTOM {
                continue;
            }
            assert!(text(entry, "docs").starts_with("https://"), "{id}");
            let base = if service.base.is_empty() { "https://own.example/sub" } else { &service.base };
            let address = format!("{base}{}", service.path);
            assert!(Url::parse(&address).is_some() && template::is_fixed(&address), "{id}: {address}");
            let body = service.body.as_str().map_or_else(|| service.body.to_string(), String::from);
            let templates = [address, body].into_iter().chain(service.headers.iter().cloned()).collect::<Vec<_>>();
            assert_eq!(templates.iter().find_map(|text| template::unknown(text)), None, "{id}");
            let has = |name| templates.iter().any(|text| template::has(text, name));
            assert_eq!(has("token"), service.token != TokenUse::Address, "{id}");
            assert_eq!(has("to"), !service.to.is_empty(), "{id}");
            assert!(has("subject") && has("text"), "{id}");
            let Some(picture) = &service.picture else { continue };
            for key in entry["picture"].as_object().unwrap().keys() {
                assert!(PICTURE_KEYS.contains(&format!(" {key} ")), "{id}: {key}");
            }
            assert!(text(&entry["picture"], "docs").starts_with("https://"), "{id}");
            assert!(picture.text <= service.text && picture.limit >= 1 << 20, "{id}");
            let templates = [&picture.path, &picture.form].into_iter().chain(&picture.headers);
            let templates: Vec<String> = templates.map(|text| text.replace("{picture}", "x.jpg")).collect();
            assert_eq!(templates.iter().find_map(|text| template::unknown(text)), None, "{id}");
            let has = |name| !picture.json.is_empty() || templates.iter().any(|text| template::has(text, name));
            assert!(has("subject") && has("text") && (has("to") || service.to.is_empty()), "{id}");
            let level = picture.priorities.len();
            assert!(level == 4 || picture.priorities.is_empty() && !picture.json.is_empty(), "{id}: {level}");
            assert!(picture.form.is_empty() && picture.json.is_empty() || !picture.file.is_empty(), "{id}");
        }
        assert_eq!(text(&whole, "checked").len(), "2026-01-01".len());
    }
}
