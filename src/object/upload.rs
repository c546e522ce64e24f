//! Writing an object that appears whole or not at all.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use super::address::Address;
use super::client::Client;
use super::failure::Failure;
use crate::error::{Error, Result};

/// Least bytes of a part.
const PART: u64 = 16 << 20;
/// Parts that an object may have: 10,000 in S3, with some to spare.
const MOST_PARTS: u64 = 9000;
/// Parts that are on their way at once, of the least size.
const AT_ONCE: u64 = 4;

/// How long giving up may take.
const GIVING_UP: Duration = Duration::from_secs(10);

/// Parts of an object, written one after the other. Dropped before [`Upload::finish`], they are given up;
/// of a process that is killed they stay, unseen, until the store's rules for such parts remove them.
pub struct Upload {
    address: Address,
    client: Client,
    upload: Box<dyn object_store::MultipartUpload>,
    buffer: Vec<u8>,
    part: usize,
    at_once: usize,
    flying: Vec<JoinHandle<object_store::Result<()>>>,
    /// Bytes.
    sent: u64,
    finished: bool,
}

/// Whether something lies at an address that can be written to.
pub fn exists(address: &Path) -> Result<bool> {
    let address = &Address::parse(address)?;
    check_parts(address)?;
    let client = Client::for_writing(address.clone());
    let head = client.wait_for(|store| async move { store.head(address.path()).await })?;
    match head {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(Failure::from(error).into_error(address.name())),
    }
}

fn check_parts(address: &Address) -> Result<()> {
    if address.takes_parts() {
        return Ok(());
    }
    let name = address.name();
    Err(Error::Invalid(format!("{name}: a web server takes no large files; write to s3://, gs:// or az://")))
}

/// Writes a small object.
pub fn put(address: &Path, bytes: Vec<u8>) -> Result<()> {
    let address = &Address::parse(address)?;
    let client = Client::for_writing(address.clone());
    let put = client.wait_for(|store| async move { store.put(address.path(), PutPayload::from(bytes)).await })?;
    put.map(|_| ()).map_err(|error| Failure::from(error).into_error(address.name()))
}

impl Upload {
    /// `most`: bytes that it will not have more of, as far as can be known.
    pub fn create(address: &Path, most: u64) -> Result<Upload> {
        let address = Address::parse(address)?;
        check_parts(&address)?;
        let client = Client::for_writing(address.clone());
        let begun = client.wait_for(|store| {
            let path = address.path().clone();
            async move { store.put_multipart(&path).await }
        })?;
        let upload = begun.map_err(|error| Failure::from(error).into_error(address.name()))?;
        let part = PART.max(most.div_ceil(MOST_PARTS));
        let at_once = (AT_ONCE * PART / part).max(1);
        Ok(Upload {
            address,
            client,
            upload,
            buffer: Vec::new(),
            part: part as usize,
            at_once: at_once as usize,
            flying: Vec::new(),
            sent: 0,
            finished: false,
        })
    }

    fn send(&mut self) -> Result<(), Failure> {
        while self.flying.len() >= self.at_once {
            self.land()?;
        }
        self.sent += self.buffer.len() as u64;
        let part = self.upload.put_part(PutPayload::from(std::mem::take(&mut self.buffer)));
        let spawned = self.client.spawn(|_| part).map_err(|error| Failure::Final(error.to_string()))?;
        self.flying.push(spawned);
        Ok(())
    }

    /// Waits for the part that was sent first.
    fn land(&mut self) -> Result<(), Failure> {
        let first = self.flying.remove(0);
        let landed = self.client.wait_for(|_| first).map_err(|error| Failure::Final(error.to_string()))?;
        landed.map_err(|error| Failure::Final(error.to_string()))?.map_err(Failure::from)
    }

    /// Sends the rest, and gives the object its name.
    pub fn finish(&mut self) -> Result<()> {
        let name = self.address.name().to_owned();
        let mut send_all = || {
            if !self.buffer.is_empty() {
                self.send()?;
            }
            while !self.flying.is_empty() {
                self.land()?;
            }
            let (complete, path, sent) = (self.upload.complete(), self.address.path(), self.sent);
            let done = self.client.wait_for(|store| async move {
                match complete.await {
                    // It was done, and the answer was lost.
                    Err(error @ object_store::Error::NotFound { .. }) => match store.head(path).await {
                        Ok(there) if there.size == sent => Ok(()),
                        _ => Err(error),
                    },
                    done => done.map(|_| ()),
                }
            });
            done.map_err(|error| Failure::Final(error.to_string()))?.map_err(Failure::from)
        };
        send_all().map_err(|failure| failure.into_error(&name))?;
        self.finished = true;
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(self.part);
        }
        let taken = bytes.len().min(self.part - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == self.part {
            self.send().map_err(|failure| io::Error::other(failure.text().to_owned()))?;
        }
        Ok(taken)
    }

    /// Parts have a size; what is short of it waits.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished {
            // A part that arrives after the end would stay.
            for part in self.flying.drain(..) {
                part.abort();
                let _ = self.client.wait_for(|_| part);
            }
            let abort = self.upload.abort();
            let _ = self.client.wait_for(|_| async { tokio::time::timeout(GIVING_UP, abort).await });
        }
    }
}
