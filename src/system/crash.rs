// SPDX-License-Identifier: Apache-2.0
//! What is said when the program ends because of a fault in it.
//!
//! The packages are built with `panic = "immediate-abort"`: a panic is a single instruction that the processor refuses, and
//! the texts of all panics and what prints them, 40 KB of the package for mipsel_24kc, are absent. The kernel says where
//! that instruction is, and the file of symbols next to the package (scripts/symbols.py) says in which function.

use std::fmt::{self, Write};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

/// What the processors of the packages raise for the instruction of a panic.
const SIGNALS: [Signal; 2] = [Signal::SIGILL, Signal::SIGTRAP];
/// For the thread of the log, which may still have lines to write.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Has a crash reported on standard error, which procd forwards to the log. Call it before threads are started.
pub fn report() {
    let action =
        SigAction::new(SigHandler::SigAction(crashed), SaFlags::SA_RESETHAND | SaFlags::SA_ONSTACK, SigSet::empty());
    for signal in SIGNALS {
        // SAFETY: the handler allocates nothing, takes no lock and calls only nanosleep, write and tgkill.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Returns to the instruction that failed. The signal then has its default action, which ends the program.
extern "C" fn crashed(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid structure, and for these signals its address is that of the instruction, unless
    // another process has sent the signal (then the code is not positive).
    let place = unsafe { info.as_ref().filter(|info| info.si_code > 0).map(|info| info.si_addr() as usize) };
    let mut line = Line::default();
    let _ = describe(&mut line, signal, place.map(|place| place.wrapping_sub(start())));
    std::thread::sleep(LAST_LINES);
    // SAFETY: standard error is open for as long as the program runs, if it ever was; otherwise this fails.
    let stderr = unsafe { std::os::fd::BorrowedFd::borrow_raw(2) };
    while nix::unistd::write(stderr, line.written()) == Err(Errno::EINTR) {}
    if place.is_none() {
        // There is no instruction that fails again.
        if let Ok(signal) = Signal::try_from(signal) {
            let _ = raise(signal);
        }
    }
}

fn describe(line: &mut impl Write, signal: c_int, place: Option<usize>) -> fmt::Result {
    write!(line, "smtprelay: error: event=crashed signal={signal} ")?;
    match place {
        Some(place) => writeln!(
            line,
            "address={place:#x} text=\"internal error at address {place:#x}; the file of symbols of version {} names the function\"",
            env!("CARGO_PKG_VERSION")
        ),
        None => writeln!(line, "text=\"another process has sent this signal\""),
    }
}

/// Where the program begins in memory. The linker sets the symbol, and the file of symbols counts from it.
fn start() -> usize {
    unsafe extern "C" {
        static __ehdr_start: u8;
    }
    &raw const __ehdr_start as usize
}

/// One line of text without the heap, which may be what has failed. What does not fit is cut off.
struct Line {
    text: [u8; 256],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { text: [0; 256], length: 0 }
    }
}

impl Line {
    fn written(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (place, byte) in self.text.iter_mut().skip(self.length).zip(text.bytes()) {
            *place = byte;
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Set in the process that is to crash.
    const CRASH: &str = "SMTPRELAY_TEST_CRASH";

    /// Runs the test `crashes` of this program in a process of its own: its signal, and its last line on standard error.
    fn crash(how: &str) -> (Option<i32>, String) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "system::crash::tests::crashes", "--nocapture"]).env(CRASH, how);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.signal(), said.lines().last().unwrap_or_default().to_string())
    }

    #[test]
    fn crashes() {
        let how = std::env::var(CRASH).unwrap_or_default();
        if how.is_empty() {
            return;
        }
        report();
        #[cfg(target_arch = "x86_64")]
        if how == "instruction" {
            // SAFETY: what a panic is in the packages; it does not return.
            unsafe { std::arch::asm!("ud2") };
        }
        raise(Signal::SIGTRAP).unwrap();
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_crash_is_reported_with_the_address_of_its_instruction() {
        let (signal, said) = crash("instruction");
        assert_eq!(signal, Some(4), "{said}");
        let start = "smtprelay: error: event=crashed signal=4 address=0x";
        let address = said.strip_prefix(start).and_then(|rest| rest.split(' ').next()).expect(&said);
        let address = usize::from_str_radix(address, 16).unwrap();
        let here = (crashes as fn() as usize).wrapping_sub(super::start());
        assert!(address.abs_diff(here) < 4096, "{address:#x}, but the function is at {here:#x}");
    }

    #[test]
    fn a_signal_of_another_process_has_no_address() {
        let (signal, said) = crash("signal");
        let expected = "smtprelay: error: event=crashed signal=5 text=\"another process has sent this signal\"";
        assert_eq!((signal, said.as_str()), (Some(5), expected));
    }

    #[test]
    fn a_line_fits_and_what_does_not_is_cut_off() {
        let mut line = Line::default();
        describe(&mut line, 4, Some(usize::MAX)).unwrap();
        assert_eq!(line.written().last(), Some(&b'\n'));
        let _ = line.write_str(&"x".repeat(1000));
        assert_eq!(line.written().len(), 256);
    }
}
