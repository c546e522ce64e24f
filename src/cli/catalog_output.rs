//! Text for people: what a model is made of.

use std::fmt::Write as _;

use super::output::escape;
use super::size::display;
use crate::ops::catalog::{Catalog, Total};

pub fn catalogs(catalogs: &[Catalog], tensors: bool) -> String {
    catalogs.iter().map(|catalog| one(catalog, tensors)).collect()
}

fn one(catalog: &Catalog, tensors: bool) -> String {
    let mut out = String::new();
    let (name, count) = (escape(&catalog.model), catalog.tensors.len());
    let _ = writeln!(out, "{name}: {count} tensors, {} parameters, {}", catalog.parameters, display(catalog.bytes));
    for kind in &catalog.kinds {
        total(&mut out, kind.name.name(), kind);
    }
    for (first, last, each) in alike(&catalog.layers) {
        match last.rsplit('.').next() {
            Some(number) if first != last => total(&mut out, &format!("{} to {number}, each", escape(first)), each),
            _ => total(&mut out, &escape(first), each),
        }
    }
    for tensor in catalog.tensors.iter().filter(|_| tensors) {
        let (size, dtype, shape) = (display(tensor.bytes), tensor.dtype, &tensor.shape);
        let (name, file) = (escape(&tensor.name), escape(&tensor.file));
        let _ = writeln!(out, "  {size:>9}  {:<9}  {name}  {dtype} {shape:?}  {file}", tensor.kind.name());
    }
    out
}

fn total<Part>(out: &mut String, name: &str, total: &Total<Part>) {
    let (tensors, parameters, size) = (total.tensors, total.parameters, display(total.bytes));
    let _ = writeln!(out, "  {size:>9}  {parameters:>15} parameters in {tensors:>5} tensors  {name}");
}

/// Layers that follow each other and amount to the same: the first, the last, and what each has.
fn alike(layers: &[Total<String>]) -> Vec<(&str, &str, &Total<String>)> {
    let stack = |total: &Total<String>| total.name.rsplit_once('.').map(|(stack, _)| stack.to_owned());
    let of = |total: &Total<String>| (stack(total), total.tensors, total.parameters, total.bytes);
    let chunks = layers.chunk_by(|a, b| of(a) == of(b));
    chunks.map(|chunk| (chunk[0].name.as_str(), chunk[chunk.len() - 1].name.as_str(), &chunk[0])).collect()
}
