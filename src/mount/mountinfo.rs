//! What is mounted where, as the kernel lists it: /proc/self/mountinfo, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::options::{FS_NAME, FS_TYPE};
use crate::error::{Error, Result};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount in this process' namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Given to another once the mount has gone.
    pub id: u64,
    /// `major:minor` of the file system; given to another once no mount of it is left.
    pub device: String,
    /// Where it lies now, whatever was renamed above it.
    pub place: PathBuf,
    /// Whether upg-mount mounted it.
    pub ours: bool,
}

/// All mounts, those that cover others behind these.
pub fn mounts() -> Result<Vec<Mounted>> {
    Ok(parse(&fs::read(MOUNTINFO).map_err(|e| Error::io(MOUNTINFO, e))?))
}

/// The topmost mount at a place.
pub fn last_at<'a>(mounts: &'a [Mounted], place: &Path) -> Option<&'a Mounted> {
    mounts.iter().rfind(|mount| mount.place == place)
}

fn parse(text: &[u8]) -> Vec<Mounted> {
    text.split(|&b| b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let text = |field: usize| std::str::from_utf8(fields.get(field)?).ok();
    let (id, device) = (text(0)?.parse().ok()?, text(2)?.to_owned());
    let place = PathBuf::from(OsString::from_vec(unescape(fields.get(4)?)));
    let mut after = fields.iter().skip_while(|field| **field != b"-").skip(1);
    let ours = match (after.next()?, after.next()?) {
        (&b"fuse", source) => *source == FS_NAME.as_bytes(),
        (kind, _) => *kind == FS_TYPE.as_bytes(),
    };
    Some(Mounted { id, device, place, ours })
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_mounts_are_found() {
        let mounts = parse(
            b"22 1 0:20 / /proc rw - proc proc rw\n\
            30 1 0:40 / /mnt/a\\040b ro,nosuid shared:1 - fuse upg ro\n\
            31 1 0:41 / /mnt/c ro - fuse.upg upg ro\n\
            32 1 0:42 / /mnt/d ro - fuse.sshfs host rw\n\
            33 1 0:43 / /mnt/e ro - fuse.upg upg ro\n\
            34 1 0:44 / /mnt/e rw - tmpfs tmpfs rw\n\
            35 1 0:45 / /mnt/f ro - fuse.upg /models/f.upg ro\n\
            36 1 0:46 / /mnt/g ro - fuse /models/f.upg ro\n",
        );
        let others = ["/mnt/d", "/mnt/e", "/mnt/g", "/x"].map(|place| (place, false));
        for (place, ours) in ["/mnt/a b", "/mnt/c", "/mnt/f"].map(|place| (place, true)).into_iter().chain(others) {
            assert_eq!(last_at(&mounts, Path::new(place)).is_some_and(|mount| mount.ours), ours, "{place}");
        }
        assert_eq!((mounts[1].id, &*mounts[1].device), (30, "0:40"));
    }
}
