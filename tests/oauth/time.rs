// SPDX-License-Identifier: Apache-2.0
//! Tokens end by a clock that nobody sets, however wrong the other one is.

use std::time::Duration;

use super::bench::{Bench, relay_to, send, servers};
use super::support::timewarp::TimeWarp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: i64 = 365 * 86_400;
/// 2027-03-01 12:00 UTC.
const TRUE: i64 = 1_803_902_400;
/// Longer than an answer takes on a busy machine, in real time.
const QUIET: Duration = Duration::from_millis(50);
const STEP: Duration = Duration::from_millis(500);

async fn bench(wall: i64) -> Option<(Bench, TimeWarp)> {
    let time = TimeWarp::new(wall)?;
    let (provider, login) = servers().await;
    let relay = time.around(relay_to(&provider, &login)).start().await;
    let bench = Bench { provider, login, relay };
    if !time.rule(&bench.relay) {
        return None;
    }
    bench.sign_in().await;
    Some((bench, time))
}

async fn mail(bench: &Bench, time: &TimeWarp, count: usize) {
    send(&bench.relay).await;
    let took = time.advance_until(5 * MINUTE, STEP, QUIET, || bench.provider.messages().len() >= count).await;
    assert!(took.is_some(), "message {count} did not arrive");
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_whatever_the_clock_shows() {
    let Some((bench, time)) = bench(TRUE).await else { return };
    mail(&bench, &time, 1).await;
    let renewals = || bench.login.grants("refresh_token");
    assert_eq!(renewals(), 1);
    // A token of an hour is renewed when 48 minutes are over.
    for (count, wall) in [(2, TRUE + 10 * YEAR), (3, TRUE - YEAR), (4, TRUE)] {
        time.set_wall(wall);
        time.advance(10 * MINUTE, QUIET).await;
        mail(&bench, &time, count).await;
        assert_eq!(renewals(), 1, "with a clock that jumped to {wall}");
    }
    for (count, wall) in [(5, TRUE - YEAR), (6, TRUE + 10 * YEAR), (7, TRUE)] {
        time.set_wall(wall);
        time.advance(50 * MINUTE, QUIET).await;
        mail(&bench, &time, count).await;
        assert_eq!(renewals(), count - 3, "with a clock that jumped to {wall}");
    }
    // The server was never shown one that it no longer takes.
    assert!(bench.logins().iter().all(|login| !login.ends_with('!')), "{:?}", bench.logins());
    // It is of no harm that the login server is away while the token is good.
    bench.login.stop().await;
    time.advance(50 * MINUTE, QUIET).await;
    mail(&bench, &time, 8).await;
    bench.login.resume();
    bench.finish();
}

#[tokio::test]
async fn nothing_is_renewed_before_the_clock_is_set() {
    let Some((bench, time)) = bench(TRUE).await else { return };
    time.set_wall(60);
    send(&bench.relay).await;
    time.advance(10 * MINUTE, QUIET).await;
    assert_eq!((bench.login.grants("refresh_token"), bench.provider.messages().len()), (0, 0));
    time.set_wall(TRUE);
    mail(&bench, &time, 2).await;
    bench.finish();
}

#[tokio::test]
async fn a_login_that_no_mail_uses_is_kept_alive_and_its_end_is_told() {
    let Some((bench, time)) = bench(TRUE).await else { return };
    time.advance(72 * HOUR, QUIET).await;
    let renewals = bench.login.grants("refresh_token");
    assert!((2..=4).contains(&renewals), "{renewals} renewals in three days");
    bench.login.revoke();
    time.advance(26 * HOUR, QUIET).await;
    let told = bench
        .relay
        .log()
        .into_iter()
        .find(|line| line.contains("event=advice") && line.contains("smtprelay login acme"));
    assert!(told.is_some(), "{:?}", bench.relay.log());
    bench.finish();
}
