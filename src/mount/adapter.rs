//! Between fuser and the [`Vfs`]: a thin wrapper.
//!
//! A panic in a handler would end the mount with "Transport endpoint is not
//! connected" for every user, so each handler is guarded: the panic is logged,
//! and the reply, dropped on the way out, sends EIO.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyXattr, Request,
};
use signal_hook::iterator::Handle;

use super::options::MountOptions;
use super::owner::Owners;
use super::reply;
use super::xattr;
use crate::vfs::{Attributes, Failed, Vfs};

/// Nothing in a mount ever changes, so the kernel may remember everything.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Requests that the kernel may have waiting: more than any loader has in flight.
const MAX_BACKGROUND: u16 = 64;
/// What programs should read at a time.
const BLOCK_SIZE: u32 = 1 << 20;

/// Bytes of a name, as the format limits them.
const LONGEST_NAME: u32 = 255;

/// More than a kernel asks for at a time.
const LARGEST_READ: usize = 16 << 20;

pub struct Adapter {
    vfs: Arc<Vfs>,
    owners: Owners,
    refuse_direct: bool,
    /// Zeros to answer with in place of content, if wanted.
    null: Option<Vec<u8>>,
    /// /dev/fuse, once there is a session.
    device: Arc<OnceLock<OwnedFd>>,
    /// Where somebody waits for signals, until fuser lets go of the file system.
    signals: Handle,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.signals.close();
    }
}

impl Adapter {
    /// `signals` is closed when the session is over; `device` is to be /dev/fuse before that begins.
    pub fn new(
        vfs: Arc<Vfs>,
        owners: Owners,
        options: &MountOptions,
        device: Arc<OnceLock<OwnedFd>>,
        signals: Handle,
    ) -> Adapter {
        let null = options.null.then(|| vec![0; LARGEST_READ]);
        Adapter { vfs, owners, refuse_direct: options.refuse_direct, null, device, signals }
    }

    fn attr(&self, a: &Attributes) -> FileAttr {
        let owner = self.owners.of(self.vfs.model(a.ino));
        FileAttr {
            ino: INodeNo(a.ino),
            size: a.size,
            // du shows what the model costs on the disk. A file of 0 blocks would
            // be a hole to tar -S and cp --sparse.
            blocks: if a.directory { 0 } else { a.stored.div_ceil(512).max(1) },
            atime: owner.modified,
            mtime: owner.modified,
            ctime: owner.modified,
            crtime: owner.modified,
            kind: if a.directory { FileType::Directory } else { FileType::RegularFile },
            // A directory that can be read can be searched.
            perm: owner.readable | if a.directory { owner.readable >> 2 } else { 0 },
            nlink: a.links,
            uid: owner.uid,
            gid: owner.gid,
            rdev: 0,
            blksize: BLOCK_SIZE,
            flags: 0,
        }
    }
}

fn guard(operation: &str, handler: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(handler)).is_err() {
        tracing::error!("{operation} panicked; it was answered with EIO");
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Without the first, O_DIRECT readers have one request in flight; without the last, a file
        // handle (of NFS, or open_by_handle_at) is stale once the kernel has forgotten the inode.
        for wanted in [InitFlags::FUSE_ASYNC_DIO, InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_EXPORT_SUPPORT] {
            if let Err(missing) = config.add_capabilities(wanted) {
                tracing::info!("the kernel does not offer {missing:?}");
            }
        }
        let background = config.set_max_background(MAX_BACKGROUND);
        tracing::debug!("max_background {background:?}");
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        guard("lookup", || {
            if name.len() > LONGEST_NAME as usize {
                return reply.error(Errno::ENAMETOOLONG);
            }
            let ino = name.to_str().and_then(|name| self.vfs.lookup(parent.0, name));
            match ino.and_then(|ino| self.vfs.attributes(ino)) {
                Some(attributes) => reply.entry(&FOREVER, &self.attr(&attributes), Generation(0)),
                None => reply.error(Errno::ENOENT),
            }
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        guard("getattr", || match self.vfs.attributes(ino.0) {
            Some(attributes) => reply.attr(&FOREVER, &self.attr(&attributes)),
            None => reply.error(Errno::ENOENT),
        });
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        guard("open", || {
            if flags.acc_mode() != OpenAccMode::O_RDONLY {
                reply.error(Errno::EROFS);
            } else if self.refuse_direct && flags.0 & libc::O_DIRECT != 0 {
                reply.error(Errno::EINVAL);
            } else {
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        guard("read", || {
            let Some(file) = self.vfs.file(ino.0) else { return reply.error(Errno::EISDIR) };
            if let Some(zeros) = &self.null {
                self.vfs.requests().count(u64::from(size));
                let left = self.vfs.archive().file(file).size.saturating_sub(offset);
                return reply.data(&zeros[..left.min(u64::from(size)).min(LARGEST_READ as u64) as usize]);
            }
            // A short reply would make the kernel shrink the file for everybody:
            // it is the exact length or an error.
            let mut reply = Some(reply);
            let cached = flags.0 & libc::O_DIRECT == 0;
            let done = self.vfs.read(file, offset, u64::from(size), cached, |parts| {
                reply.take().into_iter().for_each(|to| reply::data(self.device.get(), request, to, parts));
            });
            if let (Err(Failed { at, error }), Some(reply)) = (done, reply) {
                let (path, tensor) = self.vfs.place(file, at);
                tracing::error!(file = path, tensor, offset = at, "read of {size} bytes at {offset}: {error}");
                // Whatever went wrong: nothing that a reader could do differs.
                reply.error(Errno::EIO);
            }
        });
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        guard("readdir", || {
            let Some(entries) = self.vfs.entries(ino.0, offset) else { return reply.error(Errno::ENOTDIR) };
            for (next, ino, directory, name) in entries {
                let kind = if directory { FileType::Directory } else { FileType::RegularFile };
                if reply.add(INodeNo(ino), next, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        guard("statfs", || {
            let block = 4096;
            let blocks = self.vfs.archive().size().div_ceil(block);
            let files = self.vfs.archive().index().files.len() as u64;
            reply.statfs(blocks, 0, 0, files, 0, block as u32, LONGEST_NAME, block as u32);
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        guard("getxattr", || match name.to_str().and_then(|name| xattr::value(&self.vfs, ino.0, name)) {
            Some(value) => reply_xattr(reply, size, value.as_bytes()),
            None => reply.error(Errno::ENODATA),
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        guard("listxattr", || reply_xattr(reply, size, &xattr::names(&self.vfs, ino.0)));
    }
}

/// A size of 0 asks for the length.
fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    if size == 0 {
        reply.size(value.len() as u32);
    } else if value.len() > size as usize {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_handler_stays_there() {
        let mut after = false;
        guard("test", || panic!("on purpose"));
        guard("test", || after = true);
        assert!(after);
    }
}
