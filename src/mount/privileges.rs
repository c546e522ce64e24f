//! What a daemon of root's gives up before it looks at anybody's request.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use crate::error::{Error, Result};

/// To mount and to unmount, and to find the mount point below whatever directories.
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::DAC_READ_SEARCH);
/// More than any kernel has.
const CAPABILITIES: u32 = 64;

/// Keeps what mounting and unmounting take, and nothing else, now or through any program that is
/// started later. Must be called while there is one thread: others keep what they have.
///
/// An ordinary user has nothing to give up, and needs the rights of fusermount3.
pub fn keep_what_mounting_takes() -> Result<()> {
    if rustix::process::geteuid().is_root() { keep_only(NEEDED) } else { Ok(()) }
}

/// Gives up everything.
pub fn keep_none() -> Result<()> {
    keep_only(CapabilitySet::empty())
}

fn keep_only(needed: CapabilitySet) -> Result<()> {
    let failed = |e: rustix::io::Errno| Error::io("cannot give up capabilities", e.into());
    set_no_new_privs(true).map_err(failed)?;
    let held = capabilities(None).map_err(failed)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for unneeded in (0..CAPABILITIES).map(|i| CapabilitySet::from_bits_retain(1 << i) - needed) {
            // A kernel refuses what it does not know, and the empty set is none.
            let _ = remove_capability_from_bounding_set(unneeded);
        }
    }
    let kept = held.permitted & needed;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed)
}
