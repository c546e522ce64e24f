//! What a mount tells monitors: `/metrics` for Prometheus, `/healthz` for whoever restarts it.
//!
//! One thread serves all clients and waits for none of them: whoever is slow, or sends without end,
//! holds up neither other clients nor the mount.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::exposition::{CONTENT_TYPE, metrics};
use super::http::{Connection, Question};
use super::probe::{Outcome, Probe};
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// Clients at a time; one more, and one has to go.
const MOST_CONNECTIONS: usize = 64;
/// Without descriptors nobody can be let in: how long until the next try.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// An address that is listened on.
#[derive(Debug, Clone)]
pub struct Endpoint(Arc<TcpListener>);

impl Endpoint {
    /// Binds it, which has to be done before the process gives up its rights.
    pub fn bind(address: SocketAddr) -> Result<Endpoint> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let failed = |e| Error::Invalid(format!("--metrics {address}: cannot listen there: {e}"));
        Ok(Endpoint(Arc::new(bound.map_err(failed)?)))
    }

    /// Starts the thread that serves it, as long as the process lives. `device`: the mount's.
    pub(super) fn serve(&self, vfs: Arc<Vfs>, mountpoint: &Path, device: &str) -> Result<()> {
        let failed = |e| Error::io("metrics", e);
        // With port 0 nobody knows before.
        tracing::info!("metrics at http://{}/metrics", self.0.local_addr().map_err(failed)?);
        let probe = Probe::new(mountpoint, device);
        let mut server = Server { listener: self.0.clone(), vfs, probe, connections: Vec::new(), full: None };
        let thread = std::thread::Builder::new().name("metrics".into());
        thread.spawn(move || server.run()).map(drop).map_err(failed)
    }
}

struct Server {
    listener: Arc<TcpListener>,
    vfs: Arc<Vfs>,
    probe: Probe,
    connections: Vec<Connection>,
    /// Until when nobody is let in.
    full: Option<Instant>,
}

impl Server {
    fn run(&mut self) {
        loop {
            self.wait();
            self.let_in();
            self.connections.retain_mut(Connection::proceed);
            if self.answer() {
                self.connections.retain_mut(Connection::proceed);
            }
        }
    }

    /// Until something can be done.
    fn wait(&self) {
        let mut all = Vec::with_capacity(MOST_CONNECTIONS + 2);
        if self.full.is_none() {
            all.push(PollFd::new(&*self.listener, PollFlags::IN));
        }
        for (descriptor, reads, writes) in self.connections.iter().map(Connection::wants) {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, reads);
            events.set(PollFlags::OUT, writes);
            // Of one that waits for the probe nothing is wanted, not even its end.
            if !events.is_empty() {
                all.push(PollFd::from_borrowed_fd(descriptor, events));
            }
        }
        all.extend(self.probe.end().map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)));
        let now = Instant::now();
        let waits = self.connections.iter().any(|connection| connection.question().is_some());
        let deadlines = self.connections.iter().map(Connection::deadline);
        let deadlines = deadlines.chain(self.full).chain(self.probe.deadline().filter(|_| waits));
        let timeout = deadlines.min().map(|deadline| deadline.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // Whatever it says, everything is tried.
        let _ = poll(&mut all, timeout.as_ref());
    }

    fn let_in(&mut self) {
        self.full = self.full.filter(|until| *until > Instant::now());
        while self.full.is_none() {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if self.connections.len() == MOST_CONNECTIONS {
                        // The oldest of those that have asked for nothing, or have been answered.
                        let idle = self.connections.iter().position(Connection::is_idle);
                        self.connections.remove(idle.unwrap_or(0));
                    }
                    self.connections.extend(Connection::new(stream).ok());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // It went again, or there are no descriptors left.
                Err(_) => self.full = Some(Instant::now() + TRY_AGAIN),
            }
        }
    }

    /// Answers what can be answered; whether anything was.
    fn answer(&mut self) -> bool {
        const PLAIN: &str = "text/plain; charset=utf-8";
        let asks = |connection: &Connection| connection.question() == Some(Question::Health);
        let asked = if self.connections.iter().any(asks) { self.probe.ask() } else { Ok(()) };
        // Looked at even if whoever asked has gone: it would be found to have ended again and again.
        let health = if asked.is_ok() { self.probe.outcome() } else { Outcome::Fails };
        let mut answered = false;
        for connection in &mut self.connections {
            match (connection.question(), health) {
                (None, _) | (Some(Question::Health), Outcome::Waiting) => continue,
                (Some(Question::Metrics), _) => connection.answer("200 OK", CONTENT_TYPE, &metrics(&self.vfs)),
                (Some(Question::Health), Outcome::Answers) => connection.answer("200 OK", PLAIN, "ok\n"),
                (Some(Question::Health), Outcome::Fails) => {
                    connection.answer("503 Service Unavailable", PLAIN, "the mount does not answer\n");
                }
                (Some(Question::Refused(status)), _) => connection.answer(status, PLAIN, "/metrics and /healthz\n"),
            }
            answered = true;
        }
        answered
    }
}
