//! The planner: what becomes of each extent, decided in the order of the files.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::analyse::{Survey, count_symbols, survey};
use super::budget::Account;
use super::exact::{Reason, reason};
use super::matrix::Matrix;
use super::plan::{Coding, Geometry, Plan, ZSTD_FOR_MUCH, array_dtype};
use super::roles::{Names, Role, is_post_norm};
use super::tree::{SourceFile, SourceKind, SourceTree};
use super::{Columns, GridChoice, Options};
use crate::codec::float;
use crate::codec::histogram::Histogram;
use crate::codec::manifold::Grid;
use crate::codec::trellis::ungerboeck;
use crate::error::Result;
use crate::format::{Extent, ExtentKind};
use crate::ops::progress::Progress;
use crate::ops::quality::Quality;
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// A budget that is exceeded by no more than this factor is met: a later tensor gets the difference off.
const LITTLE_OVER: f64 = 1.001;
/// How often a budget that an F32 tensor turned out to exceed is lowered.
const RECOUNTS: usize = 4;

/// An extent with its plan, on the way from planner to encoder.
pub struct Planned<'a> {
    pub extent: Extent,
    /// Where its bytes lie in the source.
    pub source: Arc<LocalFile>,
    pub at: u64,
    pub plan: Option<Plan>,
    pub tensor: Option<&'a ShardTensor>,
    /// What it is given per weight, if it is to be stored lossily; its size goes to the account then.
    pub bits: Option<f64>,
    /// Why it is stored exactly, if it is a tensor and is.
    pub exact: Option<Reason>,
    /// Added up as blocks are encoded.
    pub quality: Quality,
    pub spent: Duration,
}

/// Plans every extent and sends it on; a file ends with a plan of None.
pub fn plan_all<'a>(
    options: &Options,
    names: &Names<'_>,
    mut account: Option<Account>,
    pool: &rayon::ThreadPool,
    tree: &'a SourceTree,
    plans: SyncSender<(Option<Box<Planned<'a>>>, &'a SourceFile)>,
    progress: &dyn Progress,
) -> Result<()> {
    for file in tree.converted() {
        let source = Arc::new(file.open()?);
        let bytes = |kind, length: u64| Planned {
            extent: extent(kind, 0, length),
            source: source.clone(),
            at: 0,
            plan: (length > 0).then(|| Plan::bytes(length)),
            tensor: None,
            bits: None,
            exact: None,
            quality: Quality::default(),
            spent: Duration::ZERO,
        };
        let send = |planned| plans.send((Some(Box::new(planned)), file)).is_ok();
        // A failed send means that somebody behind has an error to report.
        let going = match &file.kind {
            SourceKind::Other => send(bytes(ExtentKind::Bytes, file.size)),
            SourceKind::Shard(shard) => {
                let mut going = send(bytes(ExtentKind::Header, shard.header_len));
                for tensor in &shard.tensors {
                    let exact = reason(options, tensor);
                    let bits =
                        account.as_mut().filter(|_| exact.is_none()).map(|account| account.next(tensor.elements()));
                    let planner = Planner { options, names, tree, source: &source, tensor, progress };
                    let planned = pool.install(|| planner.plan(bits, exact))?;
                    going = going && send(planned);
                    if !going {
                        break;
                    }
                }
                going
            }
        };
        if !going || plans.send((None, file)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn extent(kind: ExtentKind, offset: u64, length: u64) -> Extent {
    Extent { offset, length, kind, name: String::new(), dtype: None, shape: Vec::new(), array: None }
}

/// Plans one tensor.
struct Planner<'a, 'b> {
    options: &'b Options,
    names: &'b Names<'b>,
    tree: &'b SourceTree,
    source: &'b Arc<LocalFile>,
    tensor: &'a ShardTensor,
    progress: &'b dyn Progress,
}

impl<'a> Planner<'a, '_> {
    /// `bits`: per weight, if it is to be stored lossily; `exact`: why it is not.
    fn plan(&self, bits: Option<f64>, exact: Option<Reason>) -> Result<Planned<'a>> {
        let (source, tensor, start) = (self.source, self.tensor, Instant::now());
        let dtype = array_dtype(tensor.dtype);
        let mut plan = None;
        if tensor.length > 0 && dtype.split().is_some() {
            let row_len = tensor.shape.last().copied().unwrap_or(1);
            let rows = bits.filter(|_| row_len <= Geometry::most_elements(dtype)).map(|_| row_len);
            let survey = survey(source, tensor, dtype, rows, self.progress)?;
            let lossless = Plan::lossless(dtype, &survey.histogram);
            plan = match bits {
                Some(bits) if !lossless.as_ref().is_some_and(|plan| plan.takes_at_most(bits)) => {
                    self.plan_lossy(bits, &survey)?
                }
                _ => None,
            };
            plan = plan.or(lossless);
        }
        if plan.is_none() && tensor.length > 0 {
            let elements = tensor.length / dtype.width_in_array() as u64;
            plan = Some(Plan::opaque(dtype, elements, zstd_helps(source, tensor)?));
        }
        let is_lossy =
            plan.as_ref().is_some_and(|plan| matches!(plan.coding, Coding::PrimeSparse(_) | Coding::Trellis(_)));
        let mut extent = extent(ExtentKind::Tensor, tensor.offset, tensor.length);
        extent.name = tensor.name.clone();
        extent.dtype = Some(tensor.dtype);
        extent.shape = tensor.shape.clone();
        Ok(Planned {
            extent,
            source: source.clone(),
            at: tensor.offset,
            plan,
            tensor: Some(tensor),
            bits,
            exact: exact.or_else(|| (!is_lossy).then_some(Reason::NoLarger)),
            quality: Quality::default(),
            spent: start.elapsed(),
        })
    }

    /// The plan that meets the bits asked for, by a trellis if there is one that does;
    /// none if nothing does.
    fn plan_lossy(&self, bits: f64, survey: &Survey) -> Result<Option<Plan>> {
        let grids: &[Grid] = match self.options.grid {
            GridChoice::Auto => &[Grid::Uniform, Grid::Prime],
            GridChoice::Only(Grid::Prime) => &[Grid::Prime],
            GridChoice::Only(Grid::Uniform) => &[Grid::Uniform],
        };
        if let Some(trellis) = ungerboeck(self.options.log2_states) {
            let matrix = Matrix {
                source: self.source,
                tensor: self.tensor,
                rms: &survey.rms,
                steps_by_row: self.names.role(&self.tensor.name) != Role::Linear,
                gains: &self.gains()?,
            };
            if let Some(plan) = matrix.plan(grids, trellis, bits)? {
                return Ok(Some(plan));
            }
        }
        self.plan_scalar(bits, grids, &survey.histogram)
    }

    fn plan_scalar(&self, bits: f64, grids: &[Grid], histogram: &Histogram) -> Result<Option<Plan>> {
        let mut wanted = bits;
        for _ in 0..RECOUNTS {
            let mut plan = Plan::scalar(self.tensor, histogram, grids, wanted);
            let Some(Plan { coding: Coding::PrimeSparse(lossy), .. }) = &mut plan else { return Ok(None) };
            if self.tensor.dtype.bits() <= 16 {
                return Ok(plan);
            }
            let counts = count_symbols(self.source, self.tensor, &lossy.quantiser, self.progress)?;
            let over = lossy.recount(counts) / lossy.budget;
            if over <= LITTLE_OVER {
                return Ok(plan);
            }
            wanted /= over;
        }
        Ok(None)
    }

    /// What the norm before this matrix multiplies its inputs by; empty if unknown.
    fn gains(&self) -> Result<Vec<f32>> {
        let columns = self.tensor.shape.last().copied().unwrap_or(0);
        let norm = self.names.norm_before(&self.tensor.name).filter(|norm| match self.options.columns {
            Columns::Auto => is_post_norm(norm),
            Columns::Gain => true,
            Columns::None => false,
        });
        let Some(norm) = norm else { return Ok(Vec::new()) };
        for file in &self.tree.files {
            let SourceKind::Shard(shard) = &file.kind else { continue };
            let Some(tensor) = shard.tensors.iter().find(|tensor| tensor.name == norm) else { continue };
            if tensor.elements() != columns || !tensor.dtype.lossy_by_default() {
                break;
            }
            let mut bytes = vec![0; tensor.length as usize];
            file.open()?.read_exact_at(&mut bytes, tensor.offset)?;
            let mut gains = Vec::new();
            float::extend_values(tensor.dtype, &bytes, &mut gains);
            if self.names.gain_less_one {
                gains.iter_mut().for_each(|gain| *gain += 1.0);
            }
            return Ok(gains);
        }
        Ok(Vec::new())
    }
}

/// Whether zstd takes 3 % or more off the beginning of a tensor.
fn zstd_helps(source: &LocalFile, tensor: &ShardTensor) -> Result<bool> {
    let mut sample = vec![0; tensor.length.min(1 << 20) as usize];
    source.read_exact_at(&mut sample, tensor.offset)?;
    let compressed = zstd::bulk::compress(&sample, ZSTD_FOR_MUCH).map_or(sample.len(), |bytes| bytes.len());
    Ok(compressed * 100 < sample.len() * 97)
}
