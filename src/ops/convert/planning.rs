//! What is known of a model as a whole before its tensors are planned one by one.

use super::Options;
use super::budget::Budget;
use super::roles::Names;
use super::tree::SourceTree;
use crate::error::{Error, Result};
use crate::ops::progress::Progress;

pub struct Planning<'a> {
    pub pool: rayon::ThreadPool,
    pub names: Names<'a>,
    /// None if everything is to be lossless.
    pub budget: Option<Budget>,
}

impl<'a> Planning<'a> {
    pub fn new(options: &Options, tree: &'a SourceTree, progress: &dyn Progress) -> Result<Planning<'a>> {
        let threads = options.threads_within_memory();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| Error::Invalid(format!("cannot start {threads} threads: {e}")))?;
        let config = tree.text_of("config.json");
        let names = Names::new(tree.tensors().map(|tensor| tensor.name.as_str()), config.as_deref());
        let budget = pool.install(|| Budget::new(options, tree, &names, progress))?;
        Ok(Planning { pool, names, budget })
    }
}
