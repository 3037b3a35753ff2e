// SPDX-License-Identifier: Apache-2.0
//! libuci behind a safe function: a file in, its sections or the error message out.
//!
//! libuci keeps its place in a line with `strtok` and its error text in a static buffer, so [`load`] lets in one
//! caller at a time.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use libuci_sys::{
    UCI_OK, uci_alloc_context, uci_context, uci_element, uci_export, uci_free_context, uci_get_errorstr, uci_list,
    uci_load, uci_option, uci_option_type_UCI_TYPE_STRING, uci_package, uci_section,
};

use crate::uci::{Opt, Package, Section, Value};

/// `UCI_FLAG_STRICT` of `uci.h`, which `libuci-sys` keeps to itself.
const STRICT: u32 = 1;
/// `UCI_ERR_PARSE` of `uci.h`.
const ERR_PARSE: c_int = 5;

unsafe extern "C" {
    fn open_memstream(text: *mut *mut c_char, size: *mut usize) -> *mut c_void;
    fn fclose(stream: *mut c_void) -> c_int;
    fn free(memory: *mut c_void);
}

/// What libuci made of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its sections. All line numbers are 0: libuci forgets them.
    pub package: Package,
    /// The output of `uci export`, without the `package` line.
    pub export: Vec<u8>,
}

/// Has libuci load a file in strict mode. `path` is absolute, and its last component is a package name. For such
/// a path libuci does not look for uncommitted changes elsewhere.
///
/// # Errors
///
/// The message for a file that does not parse: `Parse error (REASON) at line L, byte B`.
///
/// # Panics
///
/// If libuci fails in any other way.
pub fn load(path: &Path) -> Result<Loaded, String> {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);

    assert!(path.is_absolute(), "{}", path.display());
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path without NUL");
    // SAFETY: the context is used by this call alone, and what hangs on it is copied before it is freed.
    // libuci returns with longjmp from its own frames only.
    unsafe {
        let context = uci_alloc_context();
        assert!(!context.is_null(), "no memory for libuci");
        (*context).flags |= STRICT;
        let mut package = ptr::null_mut();
        let code = uci_load(context, path.as_ptr(), &mut package);
        let result = if code == UCI_OK as c_int {
            assert!(!package.is_null(), "libuci loaded nothing from {path:?}");
            Ok(Loaded { package: copy_package(package), export: export(context, package) })
        } else {
            let message = error_message(context);
            assert_eq!(code, ERR_PARSE, "libuci failed on {path:?}: {message}");
            Err(message)
        };
        uci_free_context(context);
        result
    }
}

unsafe fn error_message(context: *mut uci_context) -> String {
    let mut message = ptr::null_mut();
    // SAFETY: libuci allocates the text, the caller frees it.
    unsafe {
        uci_get_errorstr(context, &mut message, ptr::null());
        assert!(!message.is_null(), "no memory for libuci's message");
        let copy = CStr::from_ptr(message).to_string_lossy().into_owned();
        free(message.cast());
        copy
    }
}

unsafe fn export(context: *mut uci_context, package: *mut uci_package) -> Vec<u8> {
    let mut text = ptr::null_mut();
    let mut size = 0;
    // SAFETY: `text` and `size` are valid from `fclose` on, and outlive the stream.
    unsafe {
        let stream = open_memstream(&mut text, &mut size);
        assert!(!stream.is_null(), "no memory for a stream");
        assert_eq!(uci_export(context, stream.cast(), package, false), UCI_OK as c_int);
        assert_eq!(fclose(stream), 0);
        let copy = std::slice::from_raw_parts(text.cast::<u8>(), size).to_vec();
        free(text.cast());
        copy
    }
}

unsafe fn copy_package(package: *mut uci_package) -> Package {
    // SAFETY: the elements of a package are sections.
    let sections = unsafe { elements(&raw mut (*package).sections) };
    Package { sections: sections.map(|section| unsafe { copy_section(section.cast()) }).collect() }
}

unsafe fn copy_section(section: *mut uci_section) -> Section {
    // SAFETY: the elements of a section are options.
    unsafe {
        Section {
            kind: text((*section).type_),
            name: (!(*section).anonymous).then(|| text((*section).e.name)),
            line: 0,
            options: elements(&raw mut (*section).options).map(|option| copy_option(option.cast())).collect(),
        }
    }
}

unsafe fn copy_option(option: *mut uci_option) -> Opt {
    // SAFETY: the type tells which part of the union is in use.
    unsafe {
        let value = if (*option).type_ == uci_option_type_UCI_TYPE_STRING {
            Value::One(bytes((*option).v.string))
        } else {
            let items = elements(&raw mut (*option).v.list);
            Value::Many(items.map(|item| bytes((*item).name)).collect())
        };
        Opt { name: text((*option).e.name), value, line: 0 }
    }
}

/// The elements of one of libuci's lists: a ring that begins and ends at its head.
unsafe fn elements(head: *mut uci_list) -> impl Iterator<Item = *mut uci_element> {
    // SAFETY: every link of the ring but the head is the first field of an element, and all of them live as
    // long as the context.
    let mut link = unsafe { (*head).next };
    std::iter::from_fn(move || {
        if link == head {
            return None;
        }
        let element = link.cast::<uci_element>();
        link = unsafe { (*link).next };
        Some(element)
    })
}

unsafe fn bytes(string: *const c_char) -> Vec<u8> {
    // SAFETY: libuci's strings end with NUL.
    unsafe { CStr::from_ptr(string) }.to_bytes().to_vec()
}

unsafe fn text(string: *const c_char) -> String {
    // SAFETY: as `bytes`.
    String::from_utf8(unsafe { bytes(string) }).expect("names and types are ASCII")
}
