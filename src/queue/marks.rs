//! What device policy says of a message: whose it is, and whether it may leave at once. Written into its record when it
//! is accepted, each field only where it is set; records of earlier versions have none of them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::id::MessageId;

/// The marks of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Name of the section `device` that its client is. What the section says is looked up when it is needed, so that a
    /// change of the settings counts.
    pub device: Option<String>,
    /// Name of the login with which it came, where logins are verified.
    pub login: Option<String>,
    /// What it has to wait for, since its device had sent too many.
    pub over: Option<Over>,
    /// What it takes the place of, if it is a digest.
    pub replaces: Option<Replaces>,
}

/// A message beyond the rate of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// When its waiting ends, in time since the start of the system in which it was accepted; to the millisecond.
    pub until: Duration,
    /// Whether it goes into a digest then; otherwise it is its turn.
    pub digest: bool,
    /// The rate, as people write it.
    pub rate: String,
}

/// What a digest takes the place of. A digest may have several mails: those with further attachments are written first,
/// and the one with `last` when all others are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaces {
    /// The messages that are in it; for a further mail, those that are attached to it.
    pub of: Vec<MessageId>,
    /// The messages that it lists and that are sent as they are.
    pub alone: Vec<MessageId>,
    /// Whether all mails of the digest are in the queue when this one is.
    pub last: bool,
}

impl Marks {
    /// Adds what is set to the fields of a record.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) {
        let mut add = |name: &str, value: Option<Value>| value.map(|value| fields.insert(name.into(), value));
        add("device", self.device.as_deref().map(Value::from));
        add("login", self.login.as_deref().map(Value::from));
        add("over", self.over.as_ref().map(Over::to_json));
        add("replaces", self.replaces.as_ref().map(Replaces::to_json));
    }

    /// Reads them from the fields of a record; `None` when one can't be read.
    pub(super) fn from_json(record: &Value) -> Option<Self> {
        /// Absent is fine, unreadable is not.
        fn field<T>(record: &Value, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
            record.get(name).map_or(Some(None), |value| read(value).map(Some))
        }
        let text = |value: &Value| value.as_str().map(str::to_string);
        Some(Self {
            device: field(record, "device", text)?,
            login: field(record, "login", text)?,
            over: field(record, "over", Over::from_json)?,
            replaces: field(record, "replaces", Replaces::from_json)?,
        })
    }
}

impl Over {
    fn to_json(&self) -> Value {
        let until = u64::try_from(self.until.as_millis()).unwrap_or(u64::MAX);
        json!({ "until": until, "digest": self.digest, "rate": self.rate })
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            until: Duration::from_millis(value.get("until")?.as_u64()?),
            digest: value.get("digest")?.as_bool()?,
            rate: value.get("rate")?.as_str()?.to_string(),
        })
    }
}

impl Replaces {
    fn to_json(&self) -> Value {
        let names = |ids: &[MessageId]| ids.iter().map(|id| Value::from(id.as_str())).collect::<Vec<_>>();
        json!({ "of": names(&self.of), "alone": names(&self.alone), "last": self.last })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let names = |key: &str| {
            let names = value.get(key)?.as_array()?.iter();
            names.map(|name| name.as_str()?.parse().ok()).collect::<Option<Vec<MessageId>>>()
        };
        Some(Self { of: names("of")?, alone: names("alone")?, last: value.get("last")?.as_bool()? })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    /// Any marks that there can be.
    pub fn marks() -> impl Strategy<Value = Marks> {
        let id = || "[0-9A-HJKMNP-TV-Z]{10}".prop_map(|text| text.parse::<MessageId>().unwrap());
        let over = (any::<u32>(), any::<bool>(), "\\PC{0,8}").prop_map(|(until, digest, rate)| Over {
            until: Duration::from_millis(until.into()),
            digest,
            rate,
        });
        let replaces = (vec(id(), 0..4), vec(id(), 0..2), any::<bool>()).prop_map(|(of, alone, last)| Replaces {
            of,
            alone,
            last,
        });
        (of("\\PC{0,9}"), of(".{0,9}"), of(over), of(replaces)).prop_map(|(device, login, over, replaces)| Marks {
            device,
            login,
            over,
            replaces,
        })
    }

    #[test]
    fn what_can_not_be_read_is_not_passed_over() {
        for wrong in [
            r#"{"device":7}"#,
            r#"{"over":{"until":-1,"digest":true,"rate":"1/h"}}"#,
            r#"{"over":{"until":1}}"#,
            r#"{"replaces":{"of":["short"],"alone":[],"last":true}}"#,
        ] {
            assert_eq!(Marks::from_json(&serde_json::from_str(wrong).unwrap()), None, "{wrong}");
        }
        assert_eq!(Marks::from_json(&json!({})), Some(Marks::default()));
    }
}
