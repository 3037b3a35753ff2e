// SPDX-License-Identifier: Apache-2.0

use std::os::unix::fs::PermissionsExt;
use std::thread;

use super::*;

/// The output of a script that was run with this request; and the answer to the gateway.
fn told(script: &str, request: &[u8]) -> (Option<String>, String) {
    let dir = tempfile::tempdir().unwrap();
    let (program, said) = (dir.path().join("hook"), dir.path().join("said"));
    std::fs::write(&program, format!("#!/bin/sh\n{}\n", script.replace("SAID", said.to_str().unwrap()))).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let (mut gateway, theirs) = UnixStream::pair().unwrap();
    let helper = thread::spawn(move || serve(&program, theirs));
    gateway.write_all(request).unwrap();
    let mut answer = String::new();
    BufReader::new(&gateway).read_line(&mut answer).unwrap();
    drop(gateway);
    helper.join().unwrap().unwrap();
    (std::fs::read_to_string(said).ok(), answer)
}

#[test]
fn it_runs_the_program_with_what_it_is_told() {
    let script =
        "{ echo \"$0 $*\"; env | grep -v '^_=\\|^PWD=\\|^SHLVL=\\|^OLDPWD=' | sort; } | sed 's,.*/hook,hook,' >SAID";
    let (said, answer) = told(script, b"ACTION=paused\0SMTPRELAY_REASON=no 'uplink'; $(x) = y\0SMTPRELAY_COUNT=1\n");
    assert_eq!(answer, "\n");
    assert_eq!(
        said.unwrap(),
        "hook smtprelay\nACTION=paused\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nSMTPRELAY_COUNT=1\nSMTPRELAY_REASON=no 'uplink'; $(x) = y\n"
    );
}

#[test]
fn it_does_nothing_else() {
    for request in [
        &b"LD_PRELOAD=/tmp/x.so\n"[..],
        b"ACTION=paused\0PATH=/tmp\n",
        b"ACTION=paused\0SMTPRELAY_OTHER=1\n",
        b"ACTION=a\rb\n",
        b"ACTION\n",
        b"\n",
        b"ACTION=\xff\n",
    ] {
        let (said, answer) = told("echo run >SAID", request);
        assert_eq!(
            (said, answer.as_str()),
            (None, "the gateway requested something other than a hook\n"),
            "{request:?}"
        );
    }
}

#[test]
fn a_program_that_is_not_there_is_no_trouble() {
    let (mut gateway, theirs) = UnixStream::pair().unwrap();
    let helper = thread::spawn(move || serve(Path::new("/no/such/program"), theirs));
    gateway.write_all(b"ACTION=paused\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&gateway).read_line(&mut answer).unwrap();
    assert_eq!(answer, "\n");
    drop(gateway);
    helper.join().unwrap().unwrap();
}

#[test]
fn the_script_ends_with_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let (program, said) = (dir.path().join("hook"), dir.path().join("said"));
    nix::unistd::mkfifo(&said, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\necho begun >{}\nsleep 1000\n", said.display())).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let (mut gateway, theirs) = UnixStream::pair().unwrap();
    let helper = thread::spawn(move || serve(&program, theirs));
    gateway.write_all(b"ACTION=paused\n").unwrap();
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "begun\n");
    drop(gateway);
    // It would run for a thousand seconds otherwise.
    assert_eq!(helper.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_program_that_was_killed_is_no_zombie() {
    let dir = tempfile::tempdir().unwrap();
    let (program, said) = (dir.path().join("hook"), dir.path().join("said"));
    std::fs::write(&program, format!("#!/bin/sh\necho $$ >{}\nexec sleep 1000\n", said.display())).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let (mut gateway, theirs) = UnixStream::pair().unwrap();
    let helper = thread::spawn(move || serve_within(&program, theirs, Duration::from_secs(3)));
    gateway.write_all(b"ACTION=paused\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&gateway).read_line(&mut answer).unwrap();
    assert_eq!(answer, "did not end within 3 s and was killed\n");
    let process = std::fs::read_to_string(&said).unwrap();
    assert!(!Path::new("/proc").join(process.trim()).exists(), "{process}");
    drop(gateway);
    helper.join().unwrap().unwrap();
}
