// SPDX-License-Identifier: Apache-2.0
//! Reports about what happens.
//!
//! | part | reader |
//! |---|---|
//! | [`Event`] | the log: everything that happens, one line each |
//! | [`observe`] | the other parts of the program: the same events |
//! | [`Notice`] | the sender of one message that failed or is delayed |
//! | [`Summary`] | the same for many messages |
//! | [`SilenceNotice`] | the administrator, about devices that are expected to send |
//! | [`History`] | the status pages: last verdicts, devices, counters |
//! | [`Hook`] | a script of the administrator's, for when mail cannot be used for alerts |

mod event;
pub mod history;
pub mod hook;
pub(crate) mod letter;
mod notice;
pub mod repeats;
mod silence;
pub mod subject;
mod summary;

pub use event::{Event, Field, Fields, OBSERVER_LIMIT, Reason, StepResult, TlsFacts, observe};
pub use history::History;
pub use hook::{DEFAULT_PROGRAM, Hook};
pub(crate) use letter::counted;
pub use letter::{ReportKind, brief};
pub use notice::{FailedRecipient, Notice};
pub use silence::{SilenceItem, SilenceNotice};
pub use summary::{Summary, SummaryItem};
