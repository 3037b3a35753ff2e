// SPDX-License-Identifier: Apache-2.0
//! Fair shares: how many connections a client may have open, and which of them are served at the same time.
//!
//! Two limits work together. [`connect`] counts the connections of the whole process, because each one costs file
//! descriptors, and these must suffice for the queue, the upstream connections and the control socket as well: beyond
//! its limit a client is refused. [`Places`] counts the sessions of one listener: a client gets a quarter of them, and
//! its further connections wait for one of its own sessions to end. Places that become free go to the waiting clients
//! in turn, so that no client waits behind the crowd of another one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::queue::Client;
use crate::system::lock;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::oneshot;

/// File descriptors reserved from client connections: listening sockets and runtime (40), the control socket (16),
/// upstream connections and name resolution (40), the queue's own files and moves (24), clients that are being refused
/// (32), log, ubus and hook (8).
const RESERVE: u64 = 160;
/// File descriptors of one connection: its socket, and the file of the message it is sending.
const EACH: u64 = 2;
/// The share of all places, and of all connections, that one client may have: a quarter.
const PART: u32 = 4;
/// Places that one client may always have, however few there are in total.
const LEAST: u32 = 4;

/// The share of one client in `all`.
fn share(all: u32) -> u32 {
    (all / PART).max(LEAST)
}

/// The connections of the process.
#[derive(Debug, Default)]
struct Connections {
    all: u32,
    clients: Option<HashMap<Client, u32>>,
}

static CONNECTIONS: Mutex<Connections> = Mutex::new(Connections { all: 0, clients: None });

/// A connection, counted until this is dropped.
#[derive(Debug)]
pub struct CountedConnection(Client);

impl CountedConnection {
    /// From now on it counts as one of `client`, of which it is known better who that is; as with [`connect`].
    pub fn of(self, client: Client, limit: u32) -> Option<Self> {
        if self.0 == client {
            return Some(self);
        }
        drop(self);
        connect(client, limit)
    }
}

/// Connections that the process may have, given the number of file descriptors it may open.
fn limit_of(descriptors: u64) -> u32 {
    // If there are few descriptors, half of them are reserved.
    let free = descriptors.saturating_sub(RESERVE).max(descriptors / 2);
    u32::try_from(free / EACH).unwrap_or(u32::MAX)
}

/// Counts another connection of `client`, which may have `limit` of them and at most a quarter of what the process may
/// have. `None` if it has reached that, or if no descriptors are left for connections.
pub fn connect(client: Client, limit: u32) -> Option<CountedConnection> {
    // Queried each time, since the limit can be changed from outside (prlimit); it is one cheap system call.
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(u32::MAX, |(soft, _)| limit_of(soft));
    let mut connections = lock(&CONNECTIONS);
    if connections.all >= most {
        return None;
    }
    let count = connections.clients.get_or_insert_default().entry(client).or_insert(0);
    if *count >= limit.min(share(most)) {
        return None;
    }
    *count += 1;
    connections.all += 1;
    Some(CountedConnection(client))
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut connections = lock(&CONNECTIONS);
        connections.all = connections.all.saturating_sub(1);
        let Some(clients) = &mut connections.clients else { return };
        if let Some(count) = clients.get_mut(&self.0) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                clients.remove(&self.0);
            }
        }
    }
}

/// The places of one listener: one per session.
#[derive(Debug, Clone)]
pub struct Places(Arc<Mutex<ShareState>>);

#[derive(Debug, Default)]
struct ShareState {
    /// Total number of places.
    most: u32,
    taken: u32,
    clients: HashMap<Client, ShareCount>,
    /// The waiting clients, each listed once.
    turns: VecDeque<Client>,
}

#[derive(Debug, Default)]
struct ShareCount {
    taken: u32,
    waiting: VecDeque<oneshot::Sender<SessionSlot>>,
}

/// A place for one session; passed on when dropped.
#[derive(Debug)]
pub struct SessionSlot {
    places: Places,
    client: Client,
}

impl Places {
    /// So many places.
    pub fn new(most: u32) -> Self {
        Self(Arc::new(Mutex::new(ShareState { most, ..ShareState::default() })))
    }

    /// From now on there are so many. Further ones go to those who are waiting; if there are fewer, no session ends
    /// because of that.
    pub fn resize(&self, most: u32) {
        self.state().most = most;
        self.give();
    }

    fn state(&self) -> MutexGuard<'_, ShareState> {
        lock(&self.0)
    }

    /// A place for `client`. Waits for one for up to `timeout`.
    pub async fn enter(&self, client: Client, timeout: Duration) -> Option<SessionSlot> {
        let waiting = {
            let mut state = self.state();
            let is_free = state.is_free(client);
            let entry = state.clients.entry(client).or_default();
            entry.waiting.retain(|waiting| !waiting.is_closed());
            if is_free && entry.waiting.is_empty() {
                entry.taken += 1;
                state.taken += 1;
                return Some(self.place(client));
            }
            let (give, given) = oneshot::channel();
            entry.waiting.push_back(give);
            if !state.turns.contains(&client) {
                state.turns.push_back(client);
            }
            given
        };
        tokio::time::timeout(timeout, waiting).await.ok()?.ok()
    }

    fn place(&self, client: Client) -> SessionSlot {
        SessionSlot { places: self.clone(), client }
    }

    /// Assigns free places to waiting clients.
    fn give(&self) {
        loop {
            // Bound to a variable first: a place must not be dropped while the state is locked.
            let next = self.state().next();
            let Some((client, waiting)) = next else { return };
            // If the receiver has gone, the place is returned at once.
            drop(waiting.send(self.place(client)));
        }
    }
}

impl ShareState {
    fn is_free(&self, client: Client) -> bool {
        let has = self.clients.get(&client).map_or(0, |entry| entry.taken);
        self.taken < self.most && has < share(self.most)
    }

    /// Takes the place for the next waiting client that may have it.
    fn next(&mut self) -> Option<(Client, oneshot::Sender<SessionSlot>)> {
        for _ in 0..self.turns.len() {
            let client = self.turns.pop_front()?;
            let is_free = self.is_free(client);
            let Some(entry) = self.clients.get_mut(&client) else { continue };
            entry.waiting.retain(|waiting| !waiting.is_closed());
            let next = if is_free { entry.waiting.pop_front() } else { None };
            entry.taken += u32::from(next.is_some());
            if !entry.waiting.is_empty() {
                self.turns.push_back(client);
            } else if entry.taken == 0 {
                self.clients.remove(&client);
            }
            if let Some(next) = next {
                self.taken += 1;
                return Some((client, next));
            }
        }
        None
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        {
            let mut state = self.places.state();
            state.taken = state.taken.saturating_sub(1);
            if let Some(entry) = state.clients.get_mut(&self.client) {
                entry.taken = entry.taken.saturating_sub(1);
                if entry.taken == 0 && entry.waiting.is_empty() {
                    state.clients.remove(&self.client);
                }
            }
        }
        self.places.give();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const NOT_NOW: Duration = Duration::ZERO;

    fn client(n: u8) -> Client {
        Client::V4([10, 0, 0, n])
    }

    #[tokio::test]
    async fn one_client_gets_a_quarter_and_the_rest_is_for_others() {
        let places = Places::new(20);
        let mut held = Vec::new();
        for n in 1..=3 {
            for _ in 0..5 {
                held.push(places.enter(client(n), NOT_NOW).await.expect("a place of its share"));
            }
            assert!(places.enter(client(n), NOT_NOW).await.is_none());
        }
        held.push(places.enter(client(4), NOT_NOW).await.expect("a place for another one"));
        drop(held);
        assert!(places.state().clients.is_empty() && places.state().taken == 0);
    }

    #[tokio::test]
    async fn free_places_go_around_among_those_who_wait() {
        let places = Places::new(1);
        let first = places.enter(client(1), NOT_NOW).await.unwrap();
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for (n, name) in [(2, "2a"), (2, "2b"), (2, "2c"), (3, "3a"), (4, "4a")] {
            let (places, said) = (places.clone(), said.clone());
            tokio::spawn(async move {
                let place = places.enter(client(n), LONG).await;
                said.send(name).unwrap();
                drop(place.unwrap());
            });
            tokio::task::yield_now().await;
        }
        // A client that no longer waits is skipped.
        assert!(places.enter(client(5), NOT_NOW).await.is_none());
        drop((first, said));
        let mut order = Vec::new();
        while let Some(name) = heard.recv().await {
            order.push(name);
        }
        assert_eq!(order, ["2a", "3a", "4a", "2b", "2c"]);
        assert!(places.state().clients.is_empty() && places.state().turns.is_empty());
    }

    /// Who waits would otherwise get nothing before a session of another client ends.
    #[tokio::test]
    async fn places_that_are_added_go_to_those_who_wait() {
        let places = Places::new(1);
        let first = places.enter(client(1), NOT_NOW).await.unwrap();
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.enter(client(2), LONG).await }
        });
        tokio::task::yield_now().await;
        places.resize(2);
        assert!(waiting.await.unwrap().is_some());
        drop(first);
        assert!(places.state().clients.is_empty() && places.state().taken == 0);
    }

    #[test]
    fn a_connection_counts_for_whom_it_turns_out_to_be() {
        let (network, host) = (Client::user(4_000_001), Client::user(4_000_002));
        let first = connect(network, 1).unwrap().of(host, 1).unwrap();
        assert!(connect(network, 1).unwrap().of(host, 1).is_none());
        drop(first);
        assert!(connect(network, 1).unwrap().of(host, 1).is_some());
    }

    #[test]
    fn descriptors_are_left_for_the_rest_of_the_program() {
        assert_eq!([limit_of(4096), limit_of(1024), limit_of(256), limit_of(32)], [1968, 432, 64, 8]);
    }

    #[test]
    fn connections_of_one_client_are_counted_and_given_back() {
        let user = Client::user(4_000_000);
        let first = connect(user, 2).unwrap();
        let _second = connect(user, 2).unwrap();
        assert!(connect(user, 2).is_none());
        drop(first);
        assert!(connect(user, 2).is_some());
    }
}
