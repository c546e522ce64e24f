//! What the user wants to be stored exactly, by name.

use globset::{Glob, GlobSet};

use crate::error::{Error, Result};

/// Patterns that names of tensors match.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    globs: Vec<Glob>,
    set: GlobSet,
}

impl Keep {
    pub fn new(globs: Vec<Glob>) -> Result<Keep> {
        let set = GlobSet::new(&globs).map_err(|e| Error::Invalid(e.to_string()))?;
        Ok(Keep { globs, set })
    }

    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    pub fn is_match(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// The first pattern that none of these names matches.
    pub fn without_match<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<&str> {
        let mut matched = vec![false; self.globs.len()];
        names.flat_map(|name| self.set.matches(name)).for_each(|i| matched[i] = true);
        let first = matched.iter().position(|matched| !matched)?;
        Some(self.globs[first].glob())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_match_is_named() {
        let globs = ["lm_head.*", "model.*.bias", "norm"].map(|glob| Glob::new(glob).expect("a glob"));
        let keep = Keep::new(globs.into()).expect("globs");
        assert!(keep.is_match("lm_head.weight") && !keep.is_match("head.weight"));
        assert_eq!(keep.without_match(["lm_head.weight", "norm"].into_iter()), Some("model.*.bias"));
        assert_eq!(keep.without_match(["lm_head.weight", "norm", "model.0.bias"].into_iter()), None);
        assert!(Keep::default().is_empty() && Keep::default().without_match([].into_iter()).is_none());
    }
}
