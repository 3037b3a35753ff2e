// SPDX-License-Identifier: Apache-2.0
//! Simulated time for a relay: a week passes in seconds.
//!
//! The relay runs with a library in front of the C library (`tests/timewarp/timewarp.c`, where it says how), in which time
//! passes as always while the program works and jumps ahead while it sleeps, as far as the test allows. So "30 s" in such
//! a test are seconds as the relay sees them, whatever the machine is like.
//!
//! ```ignore
//! let Some(time) = TimeWarp::new(NOON) else { return };   // says why, where it cannot be
//! let relay = time.around(Relay::builder().account("p", &provider)).start().await;
//! if !time.rule(&relay) { return }
//! time.advance(HOUR, Duration::ZERO).await;
//! ```

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::libc;
use nix::sys::stat::Mode;
use tempfile::TempDir;
use tokio::net::unix::pipe;

use super::relay::{Relay, RelayBuilder};
use super::watch::Watched;

/// How the name service answers the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// As it really does.
    Real = 0,
    /// It fails at once: the forwarder on the router has no uplink.
    Fail = 1,
    /// It says nothing, until the resolver gives up after 20 s.
    Silent = 2,
}

/// Members of `struct control`, by their place.
#[derive(Clone, Copy)]
enum Member {
    Wall,
    Mono,
    Skipped,
    Horizon,
    Quiet,
    Owner,
    Names,
    Lookups,
    Loaded,
    Jumps,
    Reached,
}

/// How many members there are.
const MEMBERS: u64 = 11;

/// How long, in real time, a stretch of simulated time may take: for ever, except when something is wrong.
const LIMIT: Duration = Duration::from_secs(240);

/// The time of one relay.
pub struct TimeWarp {
    dir: TempDir,
    library: PathBuf,
    control: File,
    order: pipe::Sender,
    done: tokio::sync::Mutex<pipe::Receiver>,
    /// How far the log of the relay has come.
    told: Mutex<Option<Watched<i64>>>,
}

impl TimeWarp {
    /// A time of its own, whose wall clock shows `unix` seconds now. None, with the reason printed, where no library can
    /// be put in front of the program. Must be called inside of a tokio runtime.
    pub fn new(unix: i64) -> Option<TimeWarp> {
        if std::env::var_os("SMTPRELAY_RUNNER").is_some() {
            println!("skipped: simulated time needs a dynamically linked program of this machine");
            return None;
        }
        let library = library()?.to_owned();
        let dir = tempfile::Builder::new().prefix("smtprelay-time-").tempdir().expect("temp folder for the time");
        let control = dir.path().join("control");
        fs::write(&control, vec![0; usize::try_from(8 * MEMBERS).expect("a small number")]).expect("write control");
        let control = OpenOptions::new().read(true).write(true).open(control).expect("open control");
        for name in ["order", "done"] {
            nix::unistd::mkfifo(&dir.path().join(name), Mode::S_IRWXU).expect("make a pipe");
        }
        // For reading and writing, so that the pipe exists before and after the relay.
        let mut both = pipe::OpenOptions::new();
        both.read_write(true);
        let order = both.open_sender(dir.path().join("order")).expect("open a pipe");
        let done = both.open_receiver(dir.path().join("done")).expect("open a pipe");
        let time =
            TimeWarp { dir, library, control, order, done: tokio::sync::Mutex::new(done), told: Mutex::new(None) };
        time.boot();
        time.set_wall(unix);
        Some(time)
    }

    /// Gives this time to a relay that is to be started.
    pub fn around(&self, builder: RelayBuilder) -> RelayBuilder {
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        builder.env("LD_PRELOAD", &path(&self.library)).env("SMTPRELAY_TIMEWARP", &path(self.dir.path()))
    }

    /// From now on the sleep of this relay makes time jump. To be called after each start. False, with the reason
    /// printed, when the program does not take libraries.
    pub fn rule(&self, relay: &Relay) -> bool {
        if self.get(Member::Loaded) == 0 {
            println!("skipped: simulated time needs a dynamically linked program");
            return false;
        }
        *self.told.lock().expect("no panic while it was held") = Some(relay.told_until());
        self.set(Member::Owner, i64::from(relay.pid()));
        true
    }

    /// Lets time pass, and takes in what the relay said in that time. `quiet` is how long, in real time, nothing may have happened before a jump while the relay has a
    /// connection to a provider: more than an answer takes; zero when none will come.
    pub async fn advance(&self, by: Duration, quiet: Duration) {
        self.set(Member::Quiet, nanoseconds(quiet));
        let horizon = self.monotonic() + nanoseconds(by);
        self.set(Member::Horizon, horizon);
        self.notify();
        let passed = async {
            let done = self.done.lock().await;
            while self.get(Member::Reached) != horizon {
                done.readable().await.expect("a pipe");
                let _ = done.try_read(&mut [0; 64]);
            }
        };
        if tokio::time::timeout(LIMIT, passed).await.is_err() {
            panic!("{by:?} did not pass within {LIMIT:?}; {:?} were left", self.left(horizon));
        }
        let told = self.told.lock().expect("no panic while it was held").clone().expect("a relay that this time rules");
        told.wait(LIMIT, |told| (*told == horizon).then_some(())).await.expect("the log of the time that has passed");
    }

    /// Lets time pass in small steps until `there` finds what it looks for, and says how much time that took, to the
    /// precision of the steps; none when it was not there within `limit`.
    pub async fn advance_until(
        &self,
        limit: Duration,
        step: Duration,
        quiet: Duration,
        mut there: impl FnMut() -> bool,
    ) -> Option<Duration> {
        let start = self.now();
        loop {
            if there() {
                return Some(self.now() - start);
            }
            if self.now() - start >= limit {
                return None;
            }
            self.advance(step, quiet).await;
        }
    }

    /// Time since some fixed moment, as the relay sees it.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.monotonic()).expect("a time"))
    }

    /// The wall clock as the relay sees it, in seconds since 1970.
    pub fn wall(&self) -> i64 {
        (real_wall() + self.get(Member::Wall) + self.get(Member::Skipped)).div_euclid(1_000_000_000)
    }

    /// Sets the wall clock, as NTP does.
    pub fn set_wall(&self, unix: i64) {
        self.set(Member::Wall, unix * 1_000_000_000 - real_wall() - self.get(Member::Skipped));
        self.notify();
    }

    /// The time since boot begins anew, as at a reboot, and the boot gets another id. Only while no relay runs.
    pub fn reboot(&self) {
        self.boot();
        let since_boot = 20_000_000_000;
        self.set(Member::Horizon, 0);
        self.set(Member::Mono, self.get(Member::Mono) + since_boot - self.monotonic());
    }

    fn boot(&self) {
        // As the kernel writes it; the number is only to be another one each time.
        let id = format!("00000000-0000-4000-8000-{:012x}\n", self.monotonic());
        fs::write(self.dir.path().join("boot_id"), id).expect("write boot_id");
    }

    /// How the name service answers.
    pub fn set_names(&self, names: Names) {
        self.set(Member::Names, names as i64);
    }

    /// How many names were asked for.
    pub fn lookups(&self) -> u64 {
        u64::try_from(self.get(Member::Lookups)).expect("a number")
    }

    /// How often time has jumped.
    pub fn jumps(&self) -> u64 {
        u64::try_from(self.get(Member::Jumps)).expect("a number")
    }

    fn left(&self, horizon: i64) -> Duration {
        Duration::from_nanos(u64::try_from(horizon - self.monotonic()).unwrap_or(0))
    }

    fn monotonic(&self) -> i64 {
        real(libc::CLOCK_MONOTONIC) + self.get(Member::Mono) + self.get(Member::Skipped)
    }

    fn notify(&self) {
        // A full pipe has news enough.
        let _ = self.order.try_write(&[0]);
    }

    fn get(&self, member: Member) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, 8 * member as u64).expect("read control");
        i64::from_ne_bytes(bytes)
    }

    fn set(&self, member: Member, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), 8 * member as u64).expect("write control");
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).expect("less than 292 years")
}

fn real_wall() -> i64 {
    nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970"))
}

/// A clock of the system, which the standard library gives only as differences.
fn real(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives as long as the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "clock_gettime");
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Compiles the library, once for each test program.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/timewarp/timewarp.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (new, library) = (folder.join(format!("timewarp.{}", std::process::id())), folder.join("timewarp.so"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&new).arg(&source);
        match compiler.arg("-ldl").status() {
            Ok(status) => assert!(status.success(), "{} does not compile", source.display()),
            Err(error) => {
                println!("skipped: simulated time needs a C compiler: {error}");
                return None;
            }
        }
        fs::rename(&new, &library).expect("rename the library");
        Some(library)
    });
    library.as_deref()
}
