//! What the rest of the world hears: one event type for the log (and later ubus and LuCI), and failure notices.

mod event;
mod notice;

pub use event::{Event, Reason, TlsFacts};
pub use notice::{Failure, Notice};
