// SPDX-License-Identifier: Apache-2.0
//! JSON objects and arrays, written as with serde_json's own `json!`, but each field is one call. There, each place
//! contains how a name is copied, a value is serialized, and both are inserted: some 150 bytes of the program a field.

use serde_json::{Map, Value};

/// What can be the value of a field.
pub trait ToJson {
    /// The value in JSON.
    fn to_json(&self) -> Value;
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

impl<T: ToJson + ?Sized> ToJson for Box<T> {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

/// `None` is null.
impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map(T::to_json).unwrap_or_default()
    }
}

impl<T: ToJson> ToJson for [T] {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(T::to_json).collect())
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
}

impl ToJson for Value {
    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl ToJson for Map<String, Value> {
    fn to_json(&self) -> Value {
        Value::Object(self.clone())
    }
}

impl ToJson for str {
    fn to_json(&self) -> Value {
        Value::String(self.to_owned())
    }
}

impl ToJson for String {
    fn to_json(&self) -> Value {
        self.as_str().to_json()
    }
}

/// Those that serde_json has a `From` for.
macro_rules! simple {
    ($($kind:ty)*) => { $(
        impl ToJson for $kind {
            fn to_json(&self) -> Value {
                Value::from(*self)
            }
        }
    )* };
}

simple!(bool u8 u16 u32 u64 usize i32 i64);

/// Adds a field to `object`, or replaces it.
#[inline(never)]
pub fn put<T: ToJson + ?Sized>(object: &mut Map<String, Value>, name: &str, value: &T) {
    object.insert(name.to_owned(), value.to_json());
}

/// An object with fields (`json!({ "name": value, … })`, where a value may be an object again), or an array
/// (`json!([value, …])`), or one value. Values are [`ToJson`] and are not moved.
#[macro_export]
macro_rules! json {
    // Further fields of $object.
    (@fields $object:ident) => {};
    (@fields $object:ident $name:literal: { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $object.insert($name.to_owned(), $crate::json!({ $($inner)* }));
        $crate::json!(@fields $object $($($rest)*)?);
    };
    (@fields $object:ident $name:literal: $value:expr $(, $($rest:tt)*)?) => {
        $crate::system::json::put(&mut $object, $name, &$value);
        $crate::json!(@fields $object $($($rest)*)?);
    };
    ({}) => { ::serde_json::Value::Object(::serde_json::Map::new()) };
    ({ $($fields:tt)* }) => {{
        let mut object = ::serde_json::Map::new();
        $crate::json!(@fields object $($fields)*);
        ::serde_json::Value::Object(object)
    }};
    ([ $($value:expr),* $(,)? ]) => {
        ::serde_json::Value::Array(vec![$($crate::system::json::ToJson::to_json(&$value)),*])
    };
    ($value:expr) => { $crate::system::json::ToJson::to_json(&$value) };
}

pub use crate::json;

#[cfg(test)]
mod tests {
    #[test]
    fn the_same_as_with_serde_json() {
        let (name, list, none) = ("n".to_string(), vec![1_u64, 2], None::<&str>);
        let ours = json!({
            "text": name, "part": name[..1], "list": list, "none": none, "yes": true, "below": -1_i64,
            "object": { "empty": {}, "mixed": json!([1_u16, "x", Some(2_u32)]) },
        });
        let theirs = serde_json::json!({
            "text": name, "part": name[..1], "list": list, "none": none, "yes": true, "below": -1_i64,
            "object": { "empty": {}, "mixed": [1_u16, "x", Some(2_u32)] },
        });
        assert_eq!(ours, theirs);
    }
}
