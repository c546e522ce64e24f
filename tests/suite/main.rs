//! Tests of the library through its public interface. Mounts and clients are
//! tested in `tests/python`.

// It has a start and system calls for this machine only.
#[cfg(target_arch = "x86_64")]
mod bare;
mod bench;
mod convert;
mod corruption;
mod forms;
mod golden;
mod guard_pages;
mod hostile;
mod layers;
mod matrix;
mod odd_archives;
mod odd_tensors;
mod random_access;
mod refusal;
mod support;
mod tree;
