// SPDX-License-Identifier: Apache-2.0
//! The clock of a running router, seen and set forward from outside.
//!
//! The memory of the machine is a file, so the kernel's clock is in it: the seconds since 1970 in its `struct timekeeper`, from
//! which it makes the wall clock, the monotonic clock and, at the next tick, the time of all timers. Adding to these
//! seconds lets that time pass for everyone in the machine at once, as if the kernel had been given no processor for so
//! long. Timers that are due meanwhile fire behind the step, in their order.
//!
//! qemu's own way of skipping idle time (`-icount sleep=off`) goes from one event of the machine to the next. This kernel
//! has a tick (`CONFIG_HZ_PERIODIC`), so that would be 250 steps for each second.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// `xtime_sec`, `ktime_sec` with what fills the gap behind it, and the seconds of `wall_to_monotonic`.
const FIELDS: usize = 24;
/// Steps at which the structure can begin.
const ALIGNED: usize = 8;
/// The clock is at most so many seconds from what the machine was told at its start.
const NEAR: u64 = 1_000_000;

/// How long the next second of a machine may take on a busy host, and how often it is looked for.
const SECOND: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The clock of a machine that has power.
pub struct Clock {
    memory: File,
    /// Where `xtime_sec` is: the kernel has the structure twice, and copies the second one over the first at each tick.
    places: Vec<u64>,
}

impl Clock {
    /// Finds the clock in the first bytes of a memory, so many. It is near `about`, in seconds since 1970.
    pub fn find(memory: &Path, bytes: u64, about: i64) -> Clock {
        let memory = OpenOptions::new().read(true).write(true).open(memory).expect("open the memory");
        let mut content = vec![0; usize::try_from(bytes).expect("a memory that fits into this one")];
        memory.read_exact_at(&mut content, 0).expect("read the memory");
        let is_clock = |at: &usize| content.get(*at..*at + FIELDS).is_some_and(|fields| is_clock(fields, about));
        let mut places: Vec<u64> = (0..content.len()).step_by(ALIGNED).filter(is_clock).map(|at| at as u64).collect();
        if places.len() > 2 {
            // A copy that somebody has made stands still.
            let seconds = |at: u64| second_at(&memory, at);
            let before: Vec<i64> = places.iter().map(|at| seconds(*at)).collect();
            let went_on = || places.iter().zip(&before).filter(|(at, before)| seconds(**at) != **before);
            let start = Instant::now();
            while went_on().count() < 2 && start.elapsed() < SECOND {
                std::thread::sleep(LOOK);
            }
            places = went_on().map(|(at, _)| *at).collect();
        }
        assert_eq!(places.len(), 2, "the clock stands in the kernel's memory at {places:?}");
        Clock { memory, places }
    }

    /// Seconds since 1970.
    pub fn wall(&self) -> i64 {
        second_at(&self.memory, self.places[1])
    }

    /// Lets so many seconds pass. They have passed for everyone after the next tick but one.
    pub fn forward(&self, seconds: i64) {
        for place in &self.places {
            let mut low = [0; 4];
            self.memory.read_exact_at(&mut low, *place).expect("read the clock");
            // The lower half in one write: until 2106 the upper one stays 0.
            let then = i64::from(u32::from_le_bytes(low)) + seconds;
            let then = u32::try_from(then).expect("a time before 2106");
            self.memory.write_all_at(&then.to_le_bytes(), *place).expect("set the clock");
        }
    }
}

fn second_at(memory: &File, place: u64) -> i64 {
    let mut seconds = [0; 8];
    memory.read_exact_at(&mut seconds, place).expect("read the clock");
    i64::from_le_bytes(seconds)
}

/// The wall clock is near that time, and together with the offset to the monotonic clock it is the monotonic clock's seconds, or
/// one less when the nanoseconds of both make another one.
fn is_clock(fields: &[u8], about: i64) -> bool {
    let long = |at: usize| fields.get(at..at + 8)?.try_into().ok().map(i64::from_le_bytes);
    let (Some(wall), Some(monotonic), Some(offset)) = (long(0), long(8), long(16)) else { return false };
    let monotonic = monotonic & i64::from(u32::MAX);
    wall.abs_diff(about) < NEAR && wall.checked_add(offset).is_some_and(|sum| sum == monotonic || sum + 1 == monotonic)
}

#[test]
fn a_clock_is_found_and_set() {
    let file = tempfile::NamedTempFile::new().expect("a memory");
    let mut memory = vec![0_u8; 4096];
    for at in [800, 1600] {
        for (place, value) in [(at, 1_803_859_210_i64), (at + 8, 10), (at + 16, -1_803_859_200)] {
            memory[place..place + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    // The same time, but nothing that fits to it.
    memory[2400..2408].copy_from_slice(&1_803_859_210_i64.to_le_bytes());
    std::fs::write(file.path(), memory).expect("write the memory");
    let clock = Clock::find(file.path(), 4096, 1_803_859_200);
    assert_eq!((clock.wall(), &clock.places[..]), (1_803_859_210, &[800, 1600][..]));
    clock.forward(86_400);
    assert_eq!(clock.wall(), 1_803_859_210 + 86_400);
}

#[test]
fn a_copy_of_the_clock_stands_still() {
    let file = tempfile::NamedTempFile::new().expect("a memory");
    let mut memory = vec![0_u8; 4096];
    // The first one is the copy.
    for at in [240, 800, 1600] {
        for (place, value) in [(at, 1_803_859_210_i64), (at + 8, 10), (at + 16, -1_803_859_200)] {
            memory[place..place + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    std::fs::write(file.path(), memory).expect("write the memory");
    let running = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for second in 1..3000 {
                let fields = [1_803_859_210 + second, 10 + second].map(i64::to_le_bytes).concat();
                for at in [800, 1600] {
                    file.as_file().write_all_at(&fields, at).expect("a second");
                }
                if !running.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(LOOK);
            }
        });
        let clock = Clock::find(file.path(), 4096, 1_803_859_200);
        running.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(clock.places, [800, 1600]);
    });
}

/// A time as `-rtc base=` wants it, in UTC.
pub(super) fn rtc(unix: i64) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // Mon, 23 Nov 2026 01:02:03 +0000
    let date = smtprelay::message::date::rfc5322(unix);
    let words: Vec<&str> = date.split(' ').collect();
    let [_, day, month, year, time, _] = words[..] else { panic!("no date: {date}") };
    let month = MONTHS.find(month).expect("a month") / 3 + 1;
    format!("{year}-{month:02}-{day}T{time}")
}

#[test]
fn times_for_qemu() {
    assert_eq!(rtc(0), "1970-01-01T00:00:00");
    assert_eq!(rtc(951_782_400), "2000-02-29T00:00:00");
    assert_eq!(rtc(1_803_859_200), "2027-03-01T00:00:00");
    assert_eq!(rtc(1_830_297_599), "2027-12-31T23:59:59");
}
