// SPDX-License-Identifier: Apache-2.0
//! What the disk refuses is remembered, also by the next run, and written down when the disk accepts it.

use super::super::disk::Disk;
use super::super::disk::probe::{Fault, Probe};
use super::*;

fn fault() -> Fault {
    Fault { after: 0, error: nix::errno::Errno::EROFS, part: false, for_good: false }
}

struct Bench {
    dir: tempfile::TempDir,
    relay: Relay,
    probe: Arc<Probe>,
    disk: Disk,
}

impl Bench {
    fn new() -> Self {
        let dir = scratch();
        let relay = relay(dir.path(), Durability::Always, 1 << 20);
        let (disk, probe) = Disk::watched();
        Self { dir, relay, probe, disk }
    }

    fn start(&self) -> Arc<Spool> {
        Spool::open_on(&self.relay, self.disk.clone()).unwrap()
    }

    /// The files `owed` that there are.
    fn files(&self) -> Vec<&'static str> {
        ["ram", "flash"].into_iter().filter(|place| self.dir.path().join(place).join("owed").exists()).collect()
    }
}

#[tokio::test]
async fn a_removal_that_failed_is_done_later() {
    let bench = Bench::new();
    let spool = bench.start();
    let entry = put(&spool, b"x", &["a@b.c"]).await.unwrap();
    bench.probe.fail(fault());
    let told = spool.remove_for_good(&entry).unwrap_err();
    assert!(told.contains("this survives a restart of the program") && spool.owes(), "{told}");
    assert_eq!((bench.files(), books(&spool)), (vec!["ram", "flash"], on_disk(bench.dir.path())));
    spool.pay();
    assert_eq!((bench.files(), books(&spool)), (vec![], (0, 0)));
    assert!(!spool.owes() && on_disk(bench.dir.path()) == (0, 0));
}

#[tokio::test]
async fn the_next_run_knows_what_is_done_while_the_disk_takes_nothing() {
    let bench = Bench::new();
    let spool = bench.start();
    let entry = put(&spool, b"x", &["a@b.c"]).await.unwrap();
    let other = put(&spool, b"y", &["a@b.c", "d@e.f"]).await.unwrap();
    bench.probe.fail(fault());
    spool.remove_for_good(&entry).unwrap_err();
    bench.probe.fail(fault());
    spool.record_for_good(&other, attempt(0, Progress::Delivered)).unwrap_err();
    // In the order in which it came.
    spool.record_for_good(&other, Note::Warned(2)).unwrap_err();
    // A safe_spool that cannot be written to has only what it had.
    fs::remove_file(bench.dir.path().join("flash/owed")).unwrap();
    let next = bench.start();
    bench.probe.fail(Fault { for_good: true, ..fault() });
    let found = next.recover();
    assert_eq!(found.iter().map(|entry| entry.id).collect::<Vec<_>>(), [other.id]);
    let state = next.open_message(&other).unwrap().state;
    assert_eq!((state.recipients[0].progress, state.warned), (Progress::Delivered, true));
    assert_eq!(state.recipients[1].progress, Progress::Waiting);
    bench.probe.heal();
    let next = bench.start();
    assert_eq!(next.recover().len(), 1);
    assert_eq!((bench.files(), next.notes(&other).unwrap().len()), (vec![], 2));
    assert_eq!(books(&next), on_disk(bench.dir.path()));
    assert_eq!(books(&next).1, 1);
}

#[tokio::test]
async fn without_a_running_program_the_queue_is_listed_as_the_next_run_will_see_it() {
    // One file is enough, whichever it is.
    for lost in ["ram", "flash"] {
        let bench = Bench::new();
        let spool = bench.start();
        let entry = put(&spool, b"x", &["a@b.c"]).await.unwrap();
        let other = put(&spool, b"y", &["a@b.c", "d@e.f"]).await.unwrap();
        bench.probe.fail(fault());
        spool.remove_for_good(&entry).unwrap_err();
        bench.probe.fail(fault());
        spool.record_for_good(&other, attempt(0, Progress::Delivered)).unwrap_err();
        fs::remove_file(bench.dir.path().join(lost).join("owed")).unwrap();
        let listed = Spool::list(&bench.relay).unwrap();
        assert_eq!(listed.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [other.id.as_str()], "{lost}");
        let (_, state, _) = listed[0].1.as_ref().unwrap();
        let progress: Vec<_> = state.recipients.iter().map(|recipient| recipient.progress).collect();
        assert_eq!(progress, [Progress::Delivered, Progress::Waiting], "{lost}");
        assert_eq!(on_disk(bench.dir.path()).1, 2);
    }
}

#[tokio::test]
async fn a_file_that_is_torn_or_foreign_is_passed_over() {
    let bench = Bench::new();
    let spool = bench.start();
    let entry = put(&spool, b"x", &["a@b.c", "d@e.f"]).await.unwrap();
    let note = attempt(0, Progress::Failed).encode();
    let line = [entry.id.as_str().as_bytes(), b" ", note.trim_ascii(), b"\n"].concat();
    let gone = format!("{} gone", entry.id);
    for end in 0..gone.len() {
        fs::write(bench.dir.path().join("ram/owed"), &gone[..end]).unwrap();
        assert_eq!(bench.start().recover().len(), 1, "{end}");
    }
    let junk = [b"\0\0\0\n0123456789 gone\n".as_slice(), &line[..20], b"\n", &line].concat();
    fs::write(bench.dir.path().join("ram/owed"), junk).unwrap();
    let next = bench.start();
    assert_eq!(next.recover().len(), 1);
    assert_eq!(next.notes(&entry).unwrap(), [attempt(0, Progress::Failed)]);
}

#[tokio::test]
async fn a_drive_that_was_taken_out_may_come_back() {
    let bench = Bench::new();
    let spool = bench.start();
    let entry = put(&spool, b"x", &["a@b.c"]).await.unwrap();
    let (flash, away) = (bench.dir.path().join("flash"), bench.dir.path().join("away"));
    fs::rename(&flash, &away).unwrap();
    fs::create_dir(&flash).unwrap();
    spool.remove_for_good(&entry).unwrap_err();
    spool.pay();
    fs::remove_file(flash.join("owed")).unwrap();
    fs::remove_dir(&flash).unwrap();
    fs::rename(&away, &flash).unwrap();
    assert_eq!(bench.start().recover(), []);
    assert_eq!(on_disk(bench.dir.path()), (0, 0));
}
