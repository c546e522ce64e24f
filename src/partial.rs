//! What is being written: its name until it is finished, and what becomes of it if it never is.
//!
//! A process that is killed leaves what it was writing, under a name that nobody takes for a
//! result, but taking room. So whoever writes holds a lock (flock) on it for as long as he lives,
//! and who next writes into the same directory removes what is locked by nobody. Files without
//! a name (O_TMPFILE) would need no removal; but directories cannot be without, and such a file
//! cannot replace another without having had a temporary name first.
//!
//! File systems that do not tell other machines of locks have one weakness: a writer there may
//! lose its file to one here. It notices when the file gets its name, and fails.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::{Error, Result};

const PREFIX: &str = ".upg-";
const SUFFIX: &str = ".partial";
/// Characters between them.
const RANDOM: usize = 6;
/// Of what a finished directory replaces, while neither has the name.
const SET_ASIDE: &str = "old";
/// How often a name is tried that somebody takes for a dead writer's.
const ATTEMPTS: usize = 100;

/// What to do with what has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Replace,
    Keep,
}

/// A file or directory under a temporary name, locked; removed when dropped.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    /// Open for as long as its writer lives: it has the lock.
    handle: File,
    /// What lies at `path` is nobody's business any more.
    gone: bool,
}

impl Partial {
    pub fn file_in(directory: &Path) -> Result<Partial> {
        let partial = Partial::another_file_in(directory)?;
        partial.remove_dead_siblings(directory);
        Ok(partial)
    }

    /// The same where one was made just before: nobody looks for what dead writers left.
    pub fn another_file_in(directory: &Path) -> Result<Partial> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path);
        Partial::create_in(directory, open).map_err(|e| Error::io(directory, e))
    }

    pub fn directory_in(directory: &Path) -> Result<Partial> {
        let make = |path: &Path| {
            DirBuilder::new().mode(0o755).create(path)?;
            File::open(path)
        };
        let partial = Partial::create_in(directory, make).map_err(|e| Error::io(directory, e))?;
        partial.remove_dead_siblings(directory);
        Ok(partial)
    }

    fn create_in(directory: &Path, make: impl Fn(&Path) -> io::Result<File>) -> io::Result<Partial> {
        let mut names = tempfile::Builder::new();
        names.prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM);
        for _ in 0..ATTEMPTS {
            let (handle, path) = match names.make_in(directory, &make) {
                // A new directory was taken for a dead writer's before it could be opened.
                Err(error) if error.kind() == io::ErrorKind::NotFound && directory.is_dir() => continue,
                made => made?.keep().map_err(|e| e.error)?,
            };
            // Until it was locked it looked like a dead writer's. Whoever took it for that
            // holds its lock, or has removed it.
            let taken = matches!(handle.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&path, &handle);
            if !taken {
                return Ok(Partial { path, handle, gone: false });
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "every new file is taken away"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &File {
        &self.handle
    }

    /// Takes from group and others what `mode`, that of what it is made of, does not give them.
    pub fn limit_mode(&self, mode: u32) -> Result<()> {
        let failed = |e| Error::io(&self.path, e);
        let own = self.handle.metadata().map_err(failed)?.mode() & 0o777;
        let limited = own & (mode | 0o700);
        if limited == own {
            Ok(())
        } else {
            self.handle.set_permissions(Permissions::from_mode(limited)).map_err(failed)
        }
    }

    /// For writing. The lock lives on until both handles are closed.
    pub fn handle(&self) -> io::Result<File> {
        self.handle.try_clone()
    }

    /// Makes what it is durable, gives it its name, and makes that durable. What it replaces is
    /// removed; the name is at every moment that of the one or the other, whole, where the file
    /// system can do that.
    pub fn publish(mut self, name: &Path, existing: Existing) -> Result<()> {
        let failed = |e| Error::io(name, e);
        self.handle.sync_all().map_err(|e| cannot_write(name, e))?;
        if !is_at(&self.path, &self.handle) {
            let what = format!("{}: somebody removed it while it was being written", self.path.display());
            return Err(Error::Invalid(what));
        }
        let replaced = match existing {
            Existing::Keep => rename_new(&self.path, name).map(|()| false),
            Existing::Replace if self.handle.metadata().map_err(failed)?.is_dir() => exchange(&self.path, name),
            Existing::Replace => fs::rename(&self.path, name).map(|()| false),
        };
        self.gone = !replaced.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => created_meanwhile(name.display()),
            _ => failed(e),
        })?;
        sync_directory(directory_of(name))
    }

    /// Removes what killed writers of the same user left. What cannot be removed stays.
    fn remove_dead_siblings(&self, directory: &Path) {
        let (Ok(own), Ok(entries)) = (self.handle.metadata(), fs::read_dir(directory)) else { return };
        for entry in entries.flatten().filter(|entry| is_temporary(&entry.file_name())) {
            let _ = remove_if_dead(&entry.path(), &own);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.gone {
            let _ = remove(&self.path);
        }
    }
}

/// Whether a name is one that only what is being written has.
pub fn is_temporary(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn remove_if_dead(path: &Path, own: &Metadata) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    // A link or a device is none of ours.
    if found.uid() == own.uid() && (found.is_file() || found.is_dir()) {
        // Some file systems lock for writing only what was opened for that.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let handle = OpenOptions::new().read(true).write(found.is_file()).custom_flags(flags).open(path)?;
        // Its writer may have finished in between: then it has another name.
        if handle.try_lock().is_ok() && is_at(path, &handle) {
            remove(path)?;
        }
    }
    Ok(())
}

/// Whether this is what has the name.
fn is_at(path: &Path, handle: &File) -> bool {
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((fs::symlink_metadata(path), handle.metadata()), (Ok(there), Ok(here)) if same(&there, &here))
}

fn remove(path: &Path) -> io::Result<()> {
    let directory = fs::symlink_metadata(path)?.is_dir();
    if directory { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Whether an error says that the file system, or the kernel, has no such rename.
fn unsupported(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(error) if unsupported(error) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        done => Ok(done?),
    }
}

/// Puts a directory in the place of whatever is there. Whether there was anything; it lies where
/// the directory was then.
fn exchange(directory: &Path, name: &Path) -> io::Result<bool> {
    match renameat_with(CWD, directory, CWD, name, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(true),
        Err(rustix::io::Errno::NOENT) => return rename_new(directory, name).map(|()| false),
        Err(error) if !unsupported(error) => return Err(error.into()),
        Err(_) => {}
    }
    // If we are killed in between, this is the only copy: nobody removes what has such a name.
    let aside = directory.with_extension(SET_ASIDE);
    match fs::rename(name, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return rename_new(directory, name).map(|()| false),
        done => done?,
    }
    if let Err(error) = fs::rename(directory, name) {
        let _ = fs::rename(&aside, name);
        return Err(error);
    }
    fs::rename(&aside, directory).map(|()| true)
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|open| open.sync_all()).map_err(|e| Error::io(directory, e))
}

/// Where a path's last component lies.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Something got the name while that was being written which is not to replace anything.
pub fn created_meanwhile(name: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("{name} was created meanwhile"))
}

/// Why something was not written, and what to do about it if it is for want of room.
pub fn cannot_write(path: &Path, error: io::Error) -> Error {
    let help = match error.kind() {
        io::ErrorKind::StorageFull => "make room there, or choose another place with -o",
        io::ErrorKind::QuotaExceeded => "your quota there is used up: make room, or choose another place with -o",
        io::ErrorKind::FileTooLarge => "a limit on the size of files (ulimit -f, or the file system's) is too low",
        _ => return Error::io(path, error),
    };
    Error::Invalid(format!("{}: {error}; it was not kept; {help}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_stay_and_the_dead_go() {
        let place = tempfile::tempdir().expect("a directory");
        let living = Partial::directory_in(place.path()).expect("a directory");
        let dead = place.path().join(".upg-Dead00.partial");
        let foreign = [".upg-Dead00.partial.txt", ".upg-Dead0.partial", ".upg-Dead0-.partial", "Dead00.partial"];
        for name in foreign.iter().map(|name| place.path().join(name)).chain([dead.clone()]) {
            fs::write(name, "half").expect("writes");
        }
        let other = Partial::file_in(place.path()).expect("a file");
        assert!(living.path().is_dir() && other.path().is_file() && !dead.exists());
        assert!(foreign.iter().all(|name| place.path().join(name).exists()));
        other.publish(&place.path().join("name"), Existing::Keep).expect("publishes");
        assert!(place.path().join("name").is_file());
    }

    #[test]
    fn what_has_the_name_is_kept_or_replaced_as_asked() {
        let place = tempfile::tempdir().expect("a directory");
        let name = place.path().join("name");
        type Make = fn(&Path) -> Result<Partial>;
        for make in [Partial::file_in as Make, Partial::directory_in as Make] {
            make(place.path()).and_then(|one| one.publish(&name, Existing::Keep)).expect("nothing is there");
            let inode = || fs::metadata(&name).expect("is there").ino();
            let first = inode();
            make(place.path()).and_then(|one| one.publish(&name, Existing::Keep)).expect_err("something is there");
            assert_eq!(inode(), first);
            make(place.path()).and_then(|one| one.publish(&name, Existing::Replace)).expect("replaces it");
            assert_ne!(inode(), first);
            assert_eq!(fs::read_dir(place.path()).expect("lists").count(), 1);
            remove(&name).expect("removes");
        }
    }

    #[test]
    fn what_somebody_else_removed_gets_no_name() {
        let place = tempfile::tempdir().expect("a directory");
        let lost = Partial::file_in(place.path()).expect("a file");
        remove(lost.path()).expect("removes");
        fs::write(lost.path(), "another's").expect("writes");
        lost.publish(&place.path().join("name"), Existing::Replace).expect_err("it is not ours");
        assert!(!place.path().join("name").exists());
    }
}
