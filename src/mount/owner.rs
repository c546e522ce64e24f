//! Whose the presented files are, and who may read them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use rustix::process::{getegid, geteuid};

/// Those who own a `.upg` file, and may read it.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Who may read it, as in a mode.
    pub readable: u16,
    /// When the `.upg` file was last changed; the mount's files never change.
    pub modified: SystemTime,
}

/// Of each model, and of the directory that they are in.
#[derive(Debug, Clone)]
pub struct Owners {
    models: Vec<Owner>,
    above: Owner,
}

impl Owner {
    pub fn of(image: &Metadata) -> Owner {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(image.mtime().max(0) as u64);
        Owner { uid: image.uid(), gid: image.gid(), readable: image.mode() as u16 & 0o444, modified }
    }

    /// Of an object, which belongs to whoever mounts it; whom else he lets in may read it.
    pub fn of_object(modified: Option<SystemTime>) -> Owner {
        let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        Owner { uid: geteuid().as_raw(), gid: getegid().as_raw(), readable: 0o444, modified }
    }
}

impl Owners {
    /// Of one file, whatever it holds.
    pub fn of_file(owner: Owner) -> Owners {
        Owners { models: Vec::new(), above: owner }
    }

    /// Of several files, each with the number of its models: in the directory above them anybody
    /// whom the mount lets in may look around; it belongs to whoever mounts.
    pub fn of_files(files: &[(Owner, usize)]) -> Owners {
        let models = files.iter().flat_map(|&(owner, models)| std::iter::repeat_n(owner, models)).collect();
        let modified = files.iter().map(|(owner, _)| owner.modified).max().unwrap_or(SystemTime::UNIX_EPOCH);
        let above = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw(), readable: 0o444, modified };
        Owners { models, above }
    }

    /// Of what is part of this model.
    pub fn of(&self, model: Option<usize>) -> &Owner {
        model.and_then(|model| self.models.get(model)).unwrap_or(&self.above)
    }
}
