//! Connections to a store, and the threads that serve them.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::{ObjectStore, RetryConfig};
use tokio::runtime::Runtime;

use super::address::Address;
use crate::error::{Error, Result};

/// Threads of the runtime: what they do is mostly waiting.
const THREADS: usize = 2;
/// How long its threads may take to end before a fork.
const END: Duration = Duration::from_secs(5);

/// The longest that a part of an object may take to be written.
const PART: Duration = Duration::from_secs(600);
/// After so long what fails is not tried again. Longer, credentials might end.
const RETRIES: Duration = Duration::from_secs(240);

/// Started when first needed, and again after [`Client::rest`].
pub struct Client {
    address: Address,
    deadline: Duration,
    retry: RetryConfig,
    running: Mutex<Option<Arc<Running>>>,
}

pub struct Running {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    store: Arc<dyn ObjectStore>,
}

impl Client {
    /// Its requests end after the deadline. Retrying is up to whoever reads, who has a deadline of his own.
    pub fn for_reading(address: Address, deadline: Duration) -> Client {
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        Client { address, deadline, retry, running: Mutex::new(None) }
    }

    /// A part may take long.
    pub fn for_writing(address: Address) -> Client {
        let retry = RetryConfig { max_retries: 100, retry_timeout: RETRIES, ..RetryConfig::default() };
        Client { address, deadline: PART, retry, running: Mutex::new(None) }
    }

    fn running(&self) -> Result<Arc<Running>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return Ok(running.clone());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("object")
            .enable_all()
            .build()
            .map_err(|e| Error::io(self.address.name(), e))?;
        // Refused if another part of the program has chosen already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Some of it wants to know the runtime that it will be used in.
        let store = {
            let _inside = runtime.enter();
            self.address.store(self.deadline, self.retry.clone())?
        };
        let started = Arc::new(Running { runtime: Some(runtime), store: store.into() });
        *running = Some(started.clone());
        Ok(started)
    }

    /// Has `work` done, and waits for it. Must not be called by the runtime's threads.
    pub fn wait_for<T, F: Future<Output = T>>(&self, work: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> Result<T> {
        let running = self.running()?;
        match &running.runtime {
            Some(runtime) => Ok(runtime.block_on(work(running.store.clone()))),
            None => Err(Error::Cancelled),
        }
    }

    /// Has `work` done meanwhile.
    pub fn spawn<T, F>(&self, work: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> Result<tokio::task::JoinHandle<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let running = self.running()?;
        match &running.runtime {
            Some(runtime) => Ok(runtime.spawn(work(running.store.clone()))),
            None => Err(Error::Cancelled),
        }
    }

    /// Ends threads and connections; what comes next starts others. No work may be under way.
    pub fn rest(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut running) = running.and_then(Arc::into_inner)
            && let Some(runtime) = running.runtime.take()
        {
            runtime.shutdown_timeout(END);
        }
    }
}

/// A thread that looks up a name may wait for long; nobody waits for it.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
