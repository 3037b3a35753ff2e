//! What the rest of the world hears.
//!
//! | part | who hears |
//! |---|---|
//! | [`Event`] | the log: everything that happens, a line each |
//! | [`observe`] | the other parts of the program: the same events |
//! | [`Notice`] | the sender of one message that failed or is late |
//! | [`Summary`] | the same when there are many |
//! | [`BootMail`], [`boot_reason`] | the owner, after a start of the router |
//! | [`History`] | who looks later: last verdicts, devices, counters |
//! | [`Hook`] | a script of the owner's, when mail itself is no way to tell |

mod boot;
mod event;
pub mod history;
pub mod hook;
mod hub;
pub(crate) mod letter;
mod notice;
pub mod readable;
pub mod repeats;
mod summary;

pub use boot::{BootFacts, BootMail, boot_reason};
pub use event::{Event, Field, Fields, Reason, TlsFacts};
pub use history::History;
pub use hook::{DEFAULT_PROGRAM, Hook};
pub use hub::{OBSERVER_LIMIT, observe};
pub use letter::Kind;
pub use notice::{Failure, Notice};
pub use summary::{Summary, SummaryItem};
