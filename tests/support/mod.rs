// SPDX-License-Identifier: Apache-2.0
//! What the tests share: stand-ins for everything that the relay talks to, and a way to run the relay itself.
//!
//! | module | stands in for |
//! |---|---|
//! | [`certs`] | a certificate authority: good, expired, foreign … certificates, made anew for each test |
//! | [`provider`] | the mail provider: a scriptable, strict SMTP server inside the test process |
//! | [`ask`] | the owner on the command line, and a device that sends a mail in good order |
//! | [`login_server`] | the provider's login server, which gives tokens in place of passwords |
//! | [`push_server`], [`push_services`] | a push service: HTTPS, and what each documents about its requests |
//! | [`client`] | the device on the LAN: raw bytes, in any chunking, with or without a goodbye |
//! | [`devices`] | the conversations of known devices, byte for byte |
//! | [`relay`] | nothing: it runs the real `smtprelay` program with a configuration of its own |
//! | [`servers`] | nothing: it runs real Postfix and Exim servers as providers, if they are at hand |
//! | [`mailbox`] | the place where these servers deliver to |
//! | [`mime`] | somebody who reads mail with another program |
//! | [`disk`] | a disk that is full |
//! | [`timewarp`] | time: a week passes in seconds |
//! | [`log`], [`port`], [`stream`], [`watch`] | nothing: tools of the others |
//!
//! A test says `mod support;` and picks what it needs. Nothing here uses a fixed port, waits by sleeping, or
//! talks to anything but the loopback interface.
#![allow(dead_code, unused_imports)] // each test file uses another part of it

pub mod ask;
pub mod certs;
pub mod client;
pub mod devices;
pub mod disk;
pub mod log;
pub mod login_server;
pub mod mailbox;
pub mod mime;
pub mod port;
pub mod provider;
pub mod push_server;
pub mod push_services;
pub mod relay;
pub mod servers;
pub mod stream;
pub mod timewarp;
pub mod watch;
