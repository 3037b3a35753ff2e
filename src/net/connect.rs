// SPDX-License-Identifier: Apache-2.0
//! Opens a TCP connection to one of the addresses of a host name, so that an address family that does not work (IPv6
//! through a broken tunnel) or a server that is down costs seconds, not the connection ("happy eyeballs", RFC 8305). One
//! that accepts connections and does not work then is tried after the others the next time (RFC 5321 section 5.1).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::system::lock;

/// Maximum number of addresses of a host name that are tried.
const ADDRESSES: usize = 6;
/// How long an attempt runs alone before the next one starts in parallel (RFC 8305 section 5). This is at the upper end
/// of what the RFC allows: mail can wait a second, and every additional attempt adds to the connections that a provider
/// limits.
const STAGGER: Duration = Duration::from_secs(1);

/// Why no address accepted a connection: the error of the attempt that ended last.
#[derive(Debug)]
pub struct ConnectFailure {
    /// The address that was tried.
    pub address: SocketAddr,
    /// What happened; `TimedOut` if there was no answer in time.
    pub error: io::Error,
}

/// Addresses that have accepted a connection on which nothing has worked since; the last of them at the end.
static UNPROVEN: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());
/// How many of them are remembered.
const REMEMBERED: usize = 32;

/// A connection to `address` works: the server is there, and encryption as required.
pub fn works(address: SocketAddr) {
    lock(&UNPROVEN).retain(|known| *known != address);
}

/// A connection to `address` was accepted. Whether it [works](works) is not known yet, and nobody might tell.
fn accepted(known: &mut Vec<SocketAddr>, address: SocketAddr) {
    known.retain(|other| *other != address);
    if known.len() >= REMEMBERED {
        known.remove(0);
    }
    known.push(address);
}

/// Moves the addresses that do not work behind the others, and those that were tried last to the end.
fn proven_first(addresses: &mut [SocketAddr]) {
    let known = lock(&UNPROVEN);
    addresses.sort_by_key(|address| known.iter().position(|one| one == address).map_or(0, |at| at + 1));
}

type Attempt<T> = Pin<Box<dyn Future<Output = Result<T, ConnectFailure>> + Send>>;

/// Connects to the first of `addresses` that answers, with `limit` as the timeout of each attempt. The addresses are in
/// the order of the resolver (RFC 6724); address families alternate. Those on which nothing worked after the last
/// connection come last: the caller says with [`works`] when it does. Takes at most `limit` plus one second for each
/// address after the first.
///
/// # Errors
/// If none of them accepts the connection; `None` if the list is empty.
pub async fn connect(mut addresses: Vec<SocketAddr>, limit: Duration) -> Result<TcpStream, Option<ConnectFailure>> {
    proven_first(&mut addresses);
    let mut addresses = interleaved(addresses);
    proven_first(&mut addresses);
    let stream = race(addresses, &|address| {
        Box::pin(async move {
            let connected = timeout(limit, TcpStream::connect(address)).await;
            connected
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(|error| ConnectFailure { address, error })
        })
    })
    .await?;
    let _ = stream.peer_addr().map(|address| accepted(&mut lock(&UNPROVEN), address));
    Ok(stream)
}

/// RFC 8305 section 4: the first address stays first, then address families alternate. At most [`ADDRESSES`].
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(ADDRESSES);
    while mixed.len() < ADDRESSES {
        let turn = [one.next(), other.next()];
        if turn == [None, None] {
            break;
        }
        mixed.extend(turn.into_iter().flatten());
    }
    mixed.truncate(ADDRESSES);
    mixed
}

/// The first attempt that succeeds. The next one starts when one has failed or has been running for [`STAGGER`].
async fn race<T>(
    addresses: Vec<SocketAddr>,
    attempt: &(dyn Fn(SocketAddr) -> Attempt<T> + Sync),
) -> Result<T, Option<ConnectFailure>> {
    let (mut waiting, mut running, mut last) = (addresses.into_iter(), Vec::new(), None);
    loop {
        if let Some(address) = waiting.next() {
            running.push(attempt(address));
        } else if running.is_empty() {
            return Err(last);
        }
        tokio::select! {
            ended = first(&mut running) => match ended {
                Ok(stream) => return Ok(stream),
                Err(failure) => last = Some(failure),
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

/// The result of the first of `running` that ends. The others keep running.
async fn first<T>(running: &mut Vec<Attempt<T>>) -> Result<T, ConnectFailure> {
    poll_fn(|context| {
        for (at, attempt) in running.iter_mut().enumerate() {
            if let Poll::Ready(ended) = attempt.as_mut().poll(context) {
                drop(running.swap_remove(at));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    fn six(n: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 465))
    }

    fn four(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 465))
    }

    #[test]
    fn families_take_turns() {
        let many: Vec<SocketAddr> = (1..=8).map(six).chain([four(1), four(2)]).collect();
        assert_eq!(interleaved(many), [six(1), four(1), six(2), four(2), six(3), six(4)]);
        assert_eq!(interleaved(vec![four(1), four(2), six(1)]), [four(1), six(1), four(2)]);
        assert_eq!(interleaved(vec![]), []);
    }

    proptest! {
        #[test]
        fn each_family_that_there_is_is_tried_and_the_first_stays_first(
            addresses in proptest::collection::vec(prop_oneof![any::<u16>().prop_map(six), any::<u8>().prop_map(four)], 0..40)
        ) {
            let mixed = interleaved(addresses.clone());
            prop_assert_eq!(mixed.first(), addresses.first());
            prop_assert_eq!(mixed.len(), addresses.len().min(ADDRESSES));
            for is_six in [false, true] {
                let of = |list: &[SocketAddr]| -> Vec<SocketAddr> {
                    list.iter().filter(|address| address.is_ipv6() == is_six).copied().collect()
                };
                // The first addresses of each family, in their original order.
                let (all, some) = (of(&addresses), of(&mixed));
                prop_assert!(all.starts_with(&some));
                prop_assert!(all.is_empty() || !some.is_empty());
            }
        }
    }

    /// Starts attempts that end as `fate` says, and records their addresses.
    async fn raced(
        addresses: Vec<SocketAddr>,
        fate: fn(SocketAddr) -> Option<bool>,
    ) -> (Result<SocketAddr, Option<SocketAddr>>, Vec<SocketAddr>) {
        let begun: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let log = Arc::clone(&begun);
        let won = race(interleaved(addresses), &move |address| {
            log.lock().unwrap().push(address);
            Box::pin(async move {
                match fate(address) {
                    Some(true) => Ok(address),
                    Some(false) => Err(ConnectFailure { address, error: io::ErrorKind::ConnectionRefused.into() }),
                    None => std::future::pending().await,
                }
            })
        })
        .await;
        let begun = begun.lock().unwrap().clone();
        (won.map_err(|failure| failure.map(|failure| failure.address)), begun)
    }

    #[tokio::test]
    async fn a_family_that_is_silent_or_refuses_does_not_stop_the_other() {
        let many = || (1..=6).map(six).chain([four(1), four(2)]).collect::<Vec<_>>();
        // The tunnel drops everything.
        let (won, begun) = raced(many(), |address| address.is_ipv4().then_some(true)).await;
        assert_eq!((won, begun), (Ok(four(1)), vec![six(1), four(1)]));
        // It refuses immediately; one server of the other family is down.
        let fate = |address: SocketAddr| if address == four(2) { Some(true) } else { Some(false) };
        let (won, begun) = raced(many(), fate).await;
        assert_eq!((won, begun), (Ok(four(2)), vec![six(1), four(1), six(2), four(2)]));
        let (won, begun) = raced(many(), |_| Some(false)).await;
        assert_eq!((won, begun.len()), (Err(Some(six(4))), ADDRESSES));
        assert_eq!(raced(vec![], |_| None).await, (Err(None), vec![]));
    }

    #[tokio::test]
    async fn an_address_that_does_not_work_comes_last() {
        let listeners = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [a, b, c] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let next = async || connect(vec![a, b, c], Duration::from_secs(60)).await.unwrap().peer_addr().unwrap();
        // None of them works: they are used one after the other.
        for expected in [a, b, c, a] {
            assert_eq!(next().await, expected);
        }
        works(b);
        assert_eq!(next().await, b);
        works(b);
        assert_eq!(next().await, b);
        assert_eq!(next().await, c);
        works(a);
        assert_eq!(next().await, a);
        // A host with one address has no other.
        assert_eq!(connect(vec![a], Duration::from_secs(60)).await.unwrap().peer_addr().unwrap(), a);
        let mut known = Vec::new();
        (0..=u8::MAX).for_each(|n| accepted(&mut known, four(n)));
        assert_eq!((known.len(), known.last()), (REMEMBERED, Some(&four(u8::MAX))));
    }

    #[tokio::test]
    async fn a_real_server_behind_one_that_is_not_there() {
        let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let address = there.local_addr().unwrap();
        let stream = connect(vec![gone, address], Duration::from_secs(60)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let failure = connect(vec![gone], Duration::from_secs(60)).await.unwrap_err().unwrap();
        assert_eq!((failure.address, failure.error.kind()), (gone, io::ErrorKind::ConnectionRefused));
    }
}
