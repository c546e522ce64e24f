//! One tensor planned by itself, whose blocks are then encoded at will: for measuring.

use std::sync::mpsc::{channel, sync_channel};

use super::Options;
use super::budget::Account;
use super::encode::{PatternTable, encode};
use super::plan::Plan;
use super::planner::plan_all;
use super::planning::Planning;
use super::tree::SourceTree;
use crate::codec::isa::Isa;
use crate::error::{Error, Result};
use crate::ops::progress::Progress;

/// What a conversion needs to encode the blocks of its first tensor.
pub struct BlockEncoder {
    plan: Plan,
    patterns: PatternTable,
}

impl BlockEncoder {
    /// Plans a source as `convert` does and keeps the plan of the first tensor. The source
    /// is one small file: everything planned waits in a channel.
    pub fn new(options: &Options, progress: &dyn Progress) -> Result<BlockEncoder> {
        let tree = SourceTree::scan(&options.source, Some(&options.output))?;
        let Planning { pool, names, budget } = Planning::new(options, &tree, progress)?;
        let (_taken_sender, taken) = channel();
        let account = budget.map(|budget| Account::new(budget, taken));
        // A header and an end per file, and the tensors.
        let (sender, plans) = sync_channel(2 * tree.files.len() + tree.tensors().count());
        plan_all(options, &names, account, &pool, &tree, sender, progress)?;
        let plan = plans.into_iter().find_map(|(planned, _)| planned.filter(|p| p.tensor.is_some())?.plan);
        let plan = plan.ok_or_else(|| Error::Invalid(format!("{}: nothing to encode", options.source.display())))?;
        let patterns = PatternTable::new(&plan);
        Ok(BlockEncoder { plan, patterns })
    }

    /// Bytes of every block but the last.
    pub fn block_bytes(&self) -> usize {
        (u64::from(self.plan.block_elems) * self.plan.width()) as usize
    }

    /// All that a conversion does with block number `i` of the tensor once it is read; the
    /// bytes that would be written.
    pub fn encode(&self, isa: Isa, i: u64, bytes: &[u8]) -> Result<Vec<u8>> {
        encode(isa, &self.plan, &self.patterns, i, bytes).map(|encoded| encoded.stored)
    }
}
