// SPDX-License-Identifier: Apache-2.0
//! What is recorded and reported after attempts, in the order in which the notes reach the journal.

use std::sync::Mutex;

use tokio::sync::mpsc;

use super::*;
use crate::config::{Durability, Relay, Settings, load, uci};
use crate::dispatch::notifier::Reporter;
use crate::intake::Desk;
use crate::message::{BodyForm, Encode, Envelope};
use crate::net::Trouble;
use crate::queue::{Client, Marks, Place, Plan};

const SETTINGS: &str = "config relay\n option admin 'admin@x.org'\n
config account 'a'\n option host 'x.org'\n option from 'a@x.org'\n";

/// A queue with one message, whose reports are collected for a summary.
struct Bench {
    _dir: tempfile::TempDir,
    settings: Arc<Settings>,
    spool: Arc<Spool>,
    desk: Desk,
    reporter: Arc<Mutex<Reporter>>,
    entry: Entry,
}

impl Bench {
    async fn new(to: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (settings, _) = load::settings(&uci::parse(SETTINGS.as_bytes()).unwrap());
        let relay = Relay {
            spool: dir.path().join("ram"),
            safe_spool: None,
            durability: Durability::Memory,
            ..settings.relay.clone()
        };
        let spool = Spool::open(&relay).unwrap();
        let meta = Meta {
            // Not an address, so that admin is notified.
            envelope: Envelope {
                from: "plc".into(),
                to: to.iter().map(ToString::to_string).collect(),
                smtputf8: false,
            },
            form: BodyForm { eight_bit: false, encode: Encode::Verbatim },
            arrived: clock::now(),
            client: "10.0.0.7".into(),
            notice: false,
            undated: None,
            marks: Marks::default(),
        };
        let draft = spool.draft(meta.owner()).unwrap();
        let entry = draft.commit(b"Subject: x\r\n".to_vec(), meta).await.unwrap();
        let desk = Desk::new(Arc::clone(&spool), mpsc::unbounded_channel().0, mpsc::channel(1).0);
        let mut reporter = Reporter::default();
        // So many single mails have been sent already that what follows is collected.
        let (admin, now) = (vec!["admin@x.org".to_string()], Instant::now());
        for kind in [ReportKind::Failed, ReportKind::Doubtful, ReportKind::Delayed] {
            while reporter.single(&admin, kind, now) {}
        }
        let (settings, reporter) = (Arc::new(Settings { relay, ..settings }), Arc::new(Mutex::new(reporter)));
        Self { _dir: dir, settings, spool, desk, reporter, entry }
    }

    fn settle(&self) -> Settle {
        let ways = Ways::new(&self.settings);
        let (spool, routes) = (Arc::clone(&self.spool), Arc::clone(&ways.routes));
        let (desk, settings, reporter) = (self.desk.clone(), Arc::clone(&self.settings), Arc::clone(&self.reporter));
        let teller = Teller { desk, settings, ways, earlier: false, reporter };
        Settle {
            spool,
            routes,
            teller,
            account: "a".into(),
            wait: Duration::ZERO,
            follows: false,
            aside: false,
            last: false,
        }
    }

    fn item(&self) -> Item {
        Item::new(self.entry.clone(), Instant::now())
    }

    /// The message as an attempt finds it.
    fn known(&self) -> Known {
        Known::of(&self.spool.open_message(&self.entry).unwrap(), &self.item())
    }

    async fn refused(&self, known: Known, recipient: usize) -> Option<Item> {
        let results = vec![(recipient, Verdict::Failed("550 5.1.1 no such user".to_string().into()))];
        self.settle().apply(self.item(), &Outcome { results, ..Outcome::default() }, known).await
    }

    async fn delivered(&self, recipient: usize) {
        let results = vec![(recipient, Verdict::Delivered("250 2.0.0 Ok".to_string()))];
        self.settle().apply(self.item(), &Outcome { results, ..Outcome::default() }, self.known()).await;
    }

    /// That a recipient was refused reaches the journal, and nothing else of that attempt yet.
    fn note_refusal(&self, recipient: usize) {
        let results = vec![(recipient, Progress::Failed, "550 5.1.1 no such user".into())];
        self.spool.record(&self.entry, &Note::Attempt(Attempt { at: 1, early: false, results })).unwrap();
    }

    /// The summary that is due, after all the time for which reports are collected.
    fn due(&self) -> Option<Batch> {
        self.settle().teller.reporter().take_due(Instant::now() + Duration::from_secs(3600))
    }

    /// The failures that a summary is to name.
    fn collected(&self) -> Vec<usize> {
        let settle = self.settle();
        let reporter = settle.teller.reporter();
        (0..9).filter(|recipient| reporter.knows(self.entry.id, ReportKind::Failed, *recipient)).collect()
    }

    /// The failures that another start would find unreported.
    fn untold(&self) -> Vec<usize> {
        self.known().state.untold().map(|(index, _)| index).collect()
    }
}

/// A recipient fails; while the summary with that is being recorded, another one does.
#[tokio::test]
async fn a_summary_hides_no_failure_that_comes_while_it_is_recorded() {
    let bench = Bench::new(&["a@x.org", "b@x.org", "c@x.org"]).await;
    assert!(bench.refused(bench.known(), 0).await.is_some());
    assert_eq!(bench.collected(), [0]);
    let batch = bench.due().unwrap();
    let known = bench.known();
    bench.note_refusal(1);
    bench.settle().summarize(batch).await;
    assert_eq!(bench.untold(), [1], "after a crash at this point");
    assert!(bench.refused(known, 1).await.is_some());
    assert_eq!((bench.collected(), bench.untold()), (vec![1], vec![1]));
    let batch = bench.due().unwrap();
    assert_eq!(batch.reports.items.iter().map(|item| item.recipient.as_str()).collect::<Vec<_>>(), ["b@x.org"]);
    bench.settle().summarize(batch).await;
    assert_eq!((bench.collected(), bench.untold(), bench.due().is_none()), (vec![], vec![], true));
}

/// The second one is collected before the summary with the first one is recorded: each is recorded with its own.
#[tokio::test]
async fn each_summary_records_the_failures_that_it_names() {
    let bench = Bench::new(&["a@x.org", "b@x.org", "c@x.org"]).await;
    bench.refused(bench.known(), 0).await;
    let batch = bench.due().unwrap();
    bench.refused(bench.known(), 1).await;
    bench.settle().summarize(batch).await;
    assert_eq!((bench.collected(), bench.untold()), (vec![1], vec![1]));
    bench.settle().summarize(bench.due().unwrap()).await;
    assert_eq!((bench.collected(), bench.untold()), (vec![], vec![]));
}

/// A note of an earlier version covers all failures so far: still, that of the attempt that is being settled is reported.
#[tokio::test]
async fn an_attempt_reports_its_own_failures_whatever_the_journal_says() {
    let bench = Bench::new(&["a@x.org", "b@x.org", "c@x.org"]).await;
    bench.note_refusal(0);
    let known = bench.known();
    bench.note_refusal(1);
    bench.spool.record(&bench.entry, &Note::Told(2, None)).unwrap();
    assert!(bench.untold().is_empty());
    assert!(bench.refused(known, 1).await.is_some());
    assert_eq!(bench.collected(), [1]);
}

/// The text was sent for one recipient only, whom it may have reached. The other one, which was deferred each time, expires.
#[tokio::test]
async fn only_recipients_that_may_have_got_it_are_in_doubt() {
    let bench = Bench::new(&["a@x.org", "b@x.org"]).await;
    let uncertain = || {
        let later = |index| (index, Verdict::Deferred("450 4.2.0 later".to_string().into()));
        Outcome { results: vec![later(1), later(0)], doubtful: vec![0], ..Outcome::default() }
    };
    for last in [false, false, true] {
        let item = bench.settle().apply(bench.item(), &uncertain(), bench.known()).await.unwrap();
        assert_eq!((item.held, item.doubtful), (false, last));
    }
    let reported = |batch: &Batch| batch.reports.items.iter().map(|item| item.recipient.clone()).collect::<Vec<_>>();
    let batch = bench.due().unwrap();
    assert_eq!((batch.kind, reported(&batch)), (ReportKind::Doubtful, vec!["a@x.org".to_string()]));
    bench.settle().summarize(batch).await;
    assert!(!bench.known().state.owes_report() && bench.due().is_none());
    let (item, _) = bench.settle().expire(bench.item(), None).await.unwrap();
    assert!(item.held && item.doubtful);
    assert_eq!((bench.collected(), bench.untold()), (vec![1], vec![1]));
    let batch = bench.due().unwrap();
    assert_eq!((batch.kind, reported(&batch)), (ReportKind::Failed, vec!["b@x.org".to_string()]));
    bench.settle().summarize(batch).await;
    assert!(!bench.known().state.owes_report() && !bench.known().state.is_done());
}

/// The second one comes into doubt while the first one waits for its summary.
#[tokio::test]
async fn each_recipient_in_doubt_is_reported() {
    let bench = Bench::new(&["a@x.org", "b@x.org"]).await;
    let uncertain = |of: Vec<usize>| {
        let later = |index| (index, Verdict::Deferred("450 4.2.0 later".to_string().into()));
        Outcome { results: vec![later(1), later(0)], doubtful: of, ..Outcome::default() }
    };
    // b is one attempt behind a.
    for of in [vec![0], vec![0, 1], vec![0, 1], vec![1]] {
        bench.settle().apply(bench.item(), &uncertain(of), bench.known()).await.unwrap();
    }
    assert!(bench.known().state.held);
    let mut named = Vec::new();
    while let Some(batch) = bench.due() {
        named.extend(batch.reports.items.iter().map(|item| item.recipient.clone()));
        bench.settle().summarize(batch).await;
    }
    assert_eq!(named, ["a@x.org", "b@x.org"]);
    assert!(!bench.known().state.owes_report());
}

/// A summary that says that delivery is still attempted would contradict what has happened since it was collected.
#[tokio::test]
async fn a_recipient_that_is_finished_is_not_called_delayed() {
    let bench = Bench::new(&["a@x.org", "b@x.org", "c@x.org"]).await;
    let attempt = async |results: &[(usize, bool)]| {
        let verdict = |failed: bool| match failed {
            true => Verdict::Failed("550 5.1.1 no such user".to_string().into()),
            false => Verdict::Deferred("450 4.2.0 later".to_string().into()),
        };
        let results = results.iter().map(|(index, failed)| (*index, verdict(*failed))).collect();
        let mut item = bench.item();
        item.entry.arrived -= 7 * 86_400;
        bench.settle().apply(item, &Outcome { results, ..Outcome::default() }, bench.known()).await
    };
    assert!(attempt(&[(0, false), (1, false), (2, false)]).await.is_some());
    assert!(attempt(&[(0, true)]).await.is_some());
    bench.delivered(1).await;
    let mut named = Vec::new();
    while let Some(batch) = bench.due() {
        named.extend(batch.reports.items.iter().map(|item| (format!("{:?}", batch.kind), item.recipient.clone())));
        bench.settle().summarize(batch).await;
    }
    named.sort();
    assert_eq!(named, [("Delayed".into(), "c@x.org".into()), ("Failed".to_string(), "a@x.org".to_string())]);
    // Of a message that is over, nothing is left to say.
    let bench = Bench::new(&["a@x.org"]).await;
    let mut item = bench.item();
    item.entry.arrived -= 7 * 86_400;
    let results = vec![(0, Verdict::Deferred("450 4.2.0 later".to_string().into()))];
    bench.settle().apply(item, &Outcome { results, ..Outcome::default() }, bench.known()).await.unwrap();
    assert!(bench.settle().teller.reporter().has(bench.entry.id, ReportKind::Delayed));
    bench.delivered(0).await;
    assert!(bench.due().is_none());
}

#[tokio::test]
async fn a_damaged_message_with_a_plan_is_set_aside() {
    for expires in [false, true] {
        let bench = Bench::new(&["a@x.org"]).await;
        let file = bench._dir.path().join(format!("ram/queue/{}.msg", bench.entry.id));
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, vec![0; whole.len()]).unwrap();
        let mut item = bench.item();
        item.plan = Some(Box::new(Plan { moment: Some(Instant::now()), waits: true, ..Plan::default() }));
        let left = match expires {
            true => bench.settle().expire(item, None).await.is_some(),
            false => bench.settle().follow_plan(item, None).await.is_some(),
        };
        assert!(!left && !file.exists(), "expires: {expires}");
    }
}

/// The second one has another addressee, since the settings were changed, and a full queue refuses it.
#[tokio::test]
async fn a_refused_report_is_not_forgotten_with_the_summary_of_another() {
    let mut bench = Bench::new(&["a@x.org", "b@x.org"]).await;
    assert!(bench.refused(bench.known(), 0).await.is_some());
    assert_eq!(bench.collected(), [0]);
    let relay = Relay { admin: Some("other@x.org".into()), ..bench.settings.relay.clone() };
    bench.settings = Arc::new(Settings { relay, ..Settings::clone(&bench.settings) });
    bench.spool.set_limit(1);
    bench.refused(bench.known(), 1).await;
    bench.spool.set_limit(1 << 24);
    let mut named = Vec::new();
    while let Some(batch) = bench.due() {
        named.extend(batch.reports.items.iter().map(|item| item.recipient.clone()));
        bench.settle().summarize(batch).await;
    }
    named.sort();
    assert_eq!(named, ["a@x.org", "b@x.org"]);
}

/// Those of other routes, and those that were left out, have not been refused anything.
#[test]
fn blame_concerns_only_recipients_of_the_attempt() {
    let text = "config account 'a'\n option host 'x.org'\n option from 'a@x.org'\n
config account 'b'\n option host 'y.org'\n option from 'a@y.org'\n option default '0'\n
config route\n list account 'b'\n list recipient 'b@y.org'\n";
    let settings = load::settings(&uci::parse(text.as_bytes()).unwrap()).0;
    let ways = Ways::new(&settings);
    let to = ["a@x.org", "b@y.org", "c@x.org"].map(String::from).to_vec();
    let meta = Meta {
        envelope: Envelope { from: "plc".into(), to, smtputf8: false },
        form: BodyForm { eight_bit: false, encode: Encode::Verbatim },
        arrived: clock::now(),
        client: "10.0.0.7".into(),
        notice: false,
        undated: None,
        marks: Marks::default(),
    };
    let state = State::new(&meta.envelope);
    let entry =
        Entry { id: "0123456789".parse().unwrap(), client: Client::Own, place: Place::Spool, arrived: 0, size: 1 };
    let mut item = Item { woken: true, left_out: Box::new([2]), ..Item::new(entry, Instant::now()) };
    ways.routes.place(&mut item, &meta, &state);
    let known = Known { meta, header: Vec::new(), state, arrived: 0 };
    let mut outcome = Outcome { trouble: Some(Trouble::new(TroubleKind::Quota, "no more")), ..Outcome::default() };
    blame(&mut item, &mut outcome, &known, &ways, false);
    assert_eq!(outcome.results.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0]);
}
