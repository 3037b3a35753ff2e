// SPDX-License-Identifier: Apache-2.0
//! What a message becomes when it leaves through a channel: [`template`] fills in the URL, the header fields and the
//! body of the request, [`short`] makes a text fit into what a service accepts, and [`url`] splits an address. Pure: no
//! files, no network.

pub mod short;
pub mod template;
pub mod url;
