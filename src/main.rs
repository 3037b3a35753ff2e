// SPDX-License-Identifier: Apache-2.0
//! The command line.

// A device, a provider, a file or a full disk must not be able to end the program.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod cli;

#[global_allocator]
static HEAP: smtprelay::system::heap::Heap = smtprelay::system::heap::Heap;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use cli::{
    Asked, Command, ask, ask_running_only, complain, exit, login, mounts, parse, password, print, reload, spool_in_use,
    spool_of, test, wait_for,
};
use smtprelay::config::{self, ConfigError, Loaded, Settings, Severity, TlsMode};
use smtprelay::control::socket::ControlClient;
use smtprelay::daemon;
use smtprelay::daemon::startup::{self, prepare};
use smtprelay::inbound;
use smtprelay::inbound::accept::LOCAL_SOCKET;
use smtprelay::inbound::listener;
use smtprelay::net;
use smtprelay::report::hook;
use smtprelay::submit::{self, Request};
use smtprelay::system::logging::{self, Target};
use smtprelay::system::{self, task};

fn main() -> ExitCode {
    // Before anything is opened or started.
    system::keep_descriptors();
    let asked = match parse(std::env::args_os().collect()) {
        Ok(asked) => asked,
        Err(error) => {
            complain(&format!("{error}\ntry 'smtprelay --help'"));
            return ExitCode::from(exit::USAGE);
        }
    };
    match asked {
        Asked::Print(text) => print(&text),
        Asked::Password { account, delete, file } => password(&account, delete, &file),
        Asked::Do(command, file) => execute(command, &file),
        Asked::Hook(program) => run_hooks(&program),
    }
}

/// The gateway is connected to standard input.
fn run_hooks(program: &Path) -> ExitCode {
    let input = std::io::stdin().as_fd().try_clone_to_owned();
    match input.and_then(|input| hook::serve(program, input.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn execute(command: Command, file: &Path) -> ExitCode {
    if matches!(command, Command::Reload) {
        return reload(file);
    }
    let mut loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            if let Command::Send(request) = command {
                return send_blindly(request, file, &error);
            }
            complain(&error.to_string());
            if let Command::Run { foreground } = command {
                // The stderr of a service is not visible.
                logging::init(open_log(foreground), log::LevelFilter::Info);
                log::error!(target: "smtprelay", "event=not_started text=\"{}\"", error.to_string().replace('"', "'"));
                log::logger().flush();
            }
            if let Command::Ask { question, json } = &command
                && let Some(code) = ask_running_only(question, *json, &spool_of(file, &error), file)
            {
                return code;
            }
            return ExitCode::FAILURE;
        }
    };
    if matches!(command, Command::Ask { .. } | Command::Login(_) | Command::Test(_) | Command::Send(_)) {
        // A gateway that is running keeps its directory until its next start.
        loaded.settings.relay.spool = spool_in_use(&loaded.settings.relay.spool, file);
    }
    match command {
        Command::Run { foreground } => run(file, loaded, foreground),
        // Handled above: it reports more about settings that are not valid.
        Command::Reload => ExitCode::FAILURE,
        Command::Check => {
            loaded.warnings.iter().for_each(|w| complain(&config::describe(file, w)));
            check(file, &loaded.settings)
        }
        Command::JailMounts => mounts(file, &loaded.settings),
        Command::Show => print(&config::show(&loaded.settings)),
        Command::Ask { question, json } => ask(&question, json, &loaded.settings, file),
        Command::Login(account) => login(&account, &loaded.settings, runtime()),
        Command::Test(what) => test(&what, &loaded.settings, file, runtime()),
        Command::Send(request) => send(request, &loaded.settings),
    }
}

/// What can be seen of the settings only on this router: files and directories, and a gateway that is running.
fn check(file: &Path, settings: &Settings) -> ExitCode {
    let relay = &settings.relay;
    let mut said = config::advice::exposed(file, settings);
    said.extend(config::advice::directories(relay));
    said.extend(files(settings));
    said.extend(waits_for_the_next_start(relay, file));
    said.iter().for_each(|text| complain(text));
    // The init script relies on this: it does not stop a gateway for another one that would not start.
    let hindrances = config::advice::hindrances(relay);
    hindrances.iter().for_each(|text| complain(text));
    let result = match hindrances.is_empty() {
        false => "the gateway cannot start with these settings",
        true if config::advice::drives(relay).iter().any(|drive| drive.refuses) => {
            "no mail can be accepted with these settings"
        }
        true => return reachable(file, settings),
    };
    complain(&format!("{}: {result}", file.display()));
    ExitCode::FAILURE
}

/// The last question of `check`: whether devices could connect. The settings are valid all the same, and a gateway
/// with them follows its networks and tries again, so this has an exit code of its own.
fn reachable(file: &Path, settings: &Settings) -> ExitCode {
    if settings.listeners.iter().any(|listener| !listener.interfaces.is_empty()) {
        startup::learn_networks(settings);
    }
    let running = ControlClient::connect(&spool_in_use(&settings.relay.spool, file)).ok().flatten();
    let held = running.and_then(|mut client| client.call("listening", serde_json::json!({})).ok()).unwrap_or_default();
    let held = held.get("addresses").and_then(|held| held.as_array()).cloned().unwrap_or_default();
    let held: Vec<String> = held.iter().filter_map(|address| address.as_str().map(Into::into)).collect();
    let obstacles = if settings.relay.enabled { listener::obstacles(settings, &held) } else { Vec::new() };
    if obstacles.is_empty() {
        return print(&format!("{}: the settings are valid\n", file.display()));
    }
    obstacles.iter().for_each(|text| complain(text));
    complain(&format!("{}: the settings are valid, but devices cannot connect at the moment", file.display()));
    ExitCode::from(exit::TEMPORARY)
}

/// Files in the settings that cannot be used.
fn files(settings: &Settings) -> Vec<String> {
    let listeners = settings.listeners.iter().filter(|l| l.tls != TlsMode::None && l.certificate.is_some());
    let certificates = listeners.filter_map(|listener| {
        let error = inbound::tls::acceptor(listener, &settings.relay, &[]).err()?;
        Some(format!("listener '{}': {error}", listener.name))
    });
    let named = settings.accounts.iter().filter(|account| account.tls != TlsMode::None && account.ca_file.is_some());
    let authorities = named.filter_map(|account| {
        let trouble = net::tls::connector(account).err()?;
        Some(format!("account '{}': {}", account.name, trouble.why))
    });
    certificates.chain(authorities).collect()
}

/// Changes that a reload of the running gateway, if there is one, would not apply.
fn waits_for_the_next_start(relay: &config::Relay, file: &Path) -> Option<String> {
    let mut client = ControlClient::connect(&spool_in_use(&relay.spool, file)).ok()??;
    config::effect::waits(relay, &client.call("fixed", serde_json::json!({})).ok()?)
}

fn open_log(foreground: bool) -> logging::Opened {
    logging::open(if foreground { Target::Stderr } else { Target::Syslog })
}

/// One thread for everything that waits, a few for disks. Names are resolved on separate threads.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    const STACK: usize = 512 << 10;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(task::THREADS).thread_stack_size(STACK).build()
}

fn run(file: &Path, loaded: Loaded, foreground: bool) -> ExitCode {
    let (log, level) = (open_log(foreground), loaded.settings.relay.log_level);
    if !loaded.settings.relay.enabled {
        logging::init(log, level);
        log::info!(target: "smtprelay", "event=not_started text=\"option enabled in section relay is 0\"");
        log::logger().flush();
        return ExitCode::SUCCESS;
    }
    let warnings: Vec<_> = loaded.warnings.iter().map(|w| (w.severity, config::describe(file, w))).collect();
    let prepared = prepare(file, loaded);
    // Logging has a thread of its own, so it is started only after privileges have been dropped.
    logging::init(log, level);
    for (severity, text) in warnings {
        let level = if severity == Severity::Note { log::Level::Info } else { log::Level::Warn };
        log::log!(target: "smtprelay", level, "event=advice text=\"{}\"", text.replace('"', "'"));
    }
    end_on_panic();
    let result = prepared.and_then(|prepared| {
        let runtime = runtime()?;
        let result = wait_for(&runtime, daemon::run(prepared));
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        result
    });
    if let Err(error) = &result {
        log::error!(target: "smtprelay", "event=not_started text=\"{}\"", format!("{error:#}").replace('"', "'"));
    }
    log::logger().flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A panic in one task ends the process, however it was compiled: procd restarts it and it finds everything in the
/// queue, whereas a half-dead program would accept mail and send none.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |fault| {
        log::error!(target: "smtprelay", "event=crashed text=\"{}\"", fault.to_string().replace('"', "'"));
        log::logger().flush();
        print(fault);
        std::process::abort();
    }));
}

/// Sends although the settings are not valid: a running gateway continues with its previous ones. Only root may read
/// them, while every user may send; a user who may not read them looks for the gateway at its default location.
fn send_blindly(request: Request, file: &Path, error: &ConfigError) -> ExitCode {
    let closed = std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let nothing = config::uci::Package { sections: Vec::new() };
    let (mut settings, _) = config::load::settings(&nothing);
    settings.relay.spool = spool_of(file, error);
    if !closed {
        complain(&error.to_string());
    }
    if !settings.relay.spool.join(LOCAL_SOCKET).exists() {
        complain("smtprelay: not sent: the gateway is not running (or it runs with another configuration)");
        return ExitCode::from(exit::TEMPORARY);
    }
    send(request, &settings)
}

fn send(request: Request, settings: &Settings) -> ExitCode {
    let sent = match runtime() {
        Ok(runtime) => wait_for(&runtime, submit::send(request, std::io::stdin().lock(), settings)),
        Err(error) => Err(error.into()),
    };
    match sent {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("smtprelay: not sent: {error:#}"));
            ExitCode::from(exit::TEMPORARY)
        }
    }
}
