//! Models as the hub's client has them in its cache:
//! `models--ORG--NAME/snapshots/REVISION/`, and `refs/main` with the revision in it.

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::archive::Shown;
use crate::error::Error;
use crate::format::Model;

/// Most characters of an organisation, a name or a revision.
const LONGEST: usize = 96;

/// A repository of models at a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `microsoft/phi-4`, or a name alone.
    pub repository: String,
    /// A commit, where it is known.
    pub revision: Option<String>,
}

/// What the metadata of a model say.
#[derive(Deserialize)]
struct Metadata {
    source: Option<Snapshot>,
}

impl Snapshot {
    /// Of a directory in a cache of the hub's client.
    pub fn at(location: &Path) -> Option<Snapshot> {
        fn name(path: Option<&Path>) -> Option<&str> {
            path?.file_name()?.to_str()
        }
        let mut ancestors = location.ancestors();
        let revision = name(ancestors.next());
        name(ancestors.next()).filter(|name| *name == "snapshots")?;
        let repository = name(ancestors.next())?.strip_prefix("models--")?.replace("--", "/");
        let snapshot = Snapshot { repository, revision: revision.map(str::to_owned) };
        snapshot.is_valid().then_some(snapshot)
    }

    /// What a model was converted from, if it says so.
    pub fn of(model: &Model) -> Option<Snapshot> {
        let metadata: Metadata = serde_json::from_str(&model.metadata).ok()?;
        metadata.source.filter(Snapshot::is_valid)
    }

    /// `microsoft/phi-4` is called `phi-4`.
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// What the client looks for. `unnamed`: the revision of one that has none.
    pub fn shown(&self, unnamed: &str) -> Shown {
        let revision = self.revision.as_deref().unwrap_or(unnamed);
        Shown {
            directory: format!("models--{}", self.repository.replace('/', "--")),
            prefix: format!("snapshots/{revision}/"),
            added: vec![("refs/main".to_owned(), revision.as_bytes().to_vec())],
        }
    }

    /// By the hub's rules, which leave nothing that would lead out of a directory.
    fn is_valid(&self) -> bool {
        self.repository.split('/').count() <= 2
            && self.repository.split('/').chain(self.revision.as_deref()).all(is_name)
    }
}

fn is_name(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=LONGEST).contains(&text.len())
        && text.chars().all(inside)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
}

impl FromStr for Snapshot {
    type Err = Error;

    /// `ORG/NAME` or `ORG/NAME@REVISION`.
    fn from_str(text: &str) -> Result<Snapshot, Error> {
        let (repository, revision) = text.split_once('@').map_or((text, None), |(r, v)| (r, Some(v.to_owned())));
        let snapshot = Snapshot { repository: repository.to_owned(), revision };
        if snapshot.is_valid() {
            return Ok(snapshot);
        }
        Err(Error::Invalid(format!("{text:?} is no repository of the hub: ORG/NAME or ORG/NAME@REVISION")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_tells_repository_and_revision() {
        let at = |path: &str| Snapshot::at(Path::new(path));
        let snapshot = at("/c/models--microsoft--phi-4/snapshots/187ef0").expect("a snapshot");
        assert_eq!((&*snapshot.repository, snapshot.name()), ("microsoft/phi-4", "phi-4"));
        assert_eq!(snapshot.revision.as_deref(), Some("187ef0"));
        assert_eq!(at("/c/models--gpt2/snapshots/1").map(|s| s.repository).as_deref(), Some("gpt2"));
        for other in ["/c/models--a--b/blobs/1", "/c/datasets--a--b/snapshots/1", "/c/phi-4", "/", "/snapshots/1"] {
            assert_eq!(at(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_shown_lies_where_the_client_looks() {
        let snapshot: Snapshot = "microsoft/phi-4@187ef0".parse().expect("a repository");
        let shown = snapshot.shown("unused");
        assert_eq!((&*shown.directory, &*shown.prefix), ("models--microsoft--phi-4", "snapshots/187ef0/"));
        assert_eq!(shown.added, [("refs/main".to_owned(), b"187ef0".to_vec())]);
        let snapshot: Snapshot = "gpt2".parse().expect("a repository");
        assert_eq!(snapshot.shown("00ab").prefix, "snapshots/00ab/");
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for text in ["", "/", "a/", "/a", "a/b/c", "..", "a/..", ".a", "a-", "a--b", "a b", "a@", "a@..", "a@b/c", "é"]
        {
            assert!(text.parse::<Snapshot>().is_err(), "{text:?}");
        }
    }
}
