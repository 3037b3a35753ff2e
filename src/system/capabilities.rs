// SPDX-License-Identifier: Apache-2.0
//! Drops all capabilities (capabilities(7)) of the calling thread.
//!
//! The C library has no function for this, so the kernel is called directly.

use nix::Result;
use nix::errno::Errno;
use nix::libc::{
    PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAPBSET_DROP, PR_CAPBSET_READ, SYS_capset, c_int, c_ulong, prctl,
    syscall,
};

/// More than any kernel knows; asking for a capability beyond the kernel's last one is an error that ends the search.
const BEYOND: c_ulong = 64;
/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 bits for each set.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn control(option: c_int, argument: c_ulong) -> Result<c_int> {
    let none: c_ulong = 0;
    // SAFETY: the options used here take only numbers, no addresses.
    Errno::result(unsafe { prctl(option, argument, none, none, none) })
}

/// Empties the bounding set: no program that is run from now on can gain a capability, set-uid root or not.
///
/// # Errors
/// Without CAP_SETPCAP.
pub fn drop_bounding() -> Result<()> {
    for capability in 0..BEYOND {
        match control(PR_CAPBSET_READ, capability) {
            Ok(1) => _ = control(PR_CAPBSET_DROP, capability)?,
            Ok(_) => {}
            // Beyond the last one that this kernel knows.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Empties the ambient, effective, permitted and inheritable sets.
///
/// # Errors
/// None are expected: dropping capabilities is always allowed.
pub fn drop_all() -> Result<()> {
    // Kernels before 4.3 have no ambient set.
    match control(PR_CAP_AMBIENT, c_ulong::try_from(PR_CAP_AMBIENT_CLEAR_ALL).unwrap_or_default()) {
        Ok(_) | Err(Errno::EINVAL) => {}
        Err(error) => return Err(error),
    }
    let header = Header { version: VERSION_3, pid: 0 };
    let sets = [Sets { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both are laid out as the kernel expects, live until the call returns, and are only read by it: with a
    // version that it knows, it writes nothing back.
    Errno::result(unsafe { syscall(SYS_capset, &raw const header, &raw const sets) }).map(drop)
}
