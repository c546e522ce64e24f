//! One model of an archive.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::format::Model;

/// The model that is asked for by `name`. If none is: the one that is called `usual`, or the only
/// one. `option`: how one is asked for.
pub fn choose<'a>(archive: &'a Archive, name: Option<&str>, usual: Option<&str>, option: &str) -> Result<&'a Model> {
    let models = archive.models();
    let called = |wanted: Option<&str>| models.iter().find(|model| Some(&*model.name) == wanted);
    let sole = models.first().filter(|_| name.is_none() && models.len() == 1);
    called(name.or(usual)).or(sole).ok_or_else(|| {
        let names: Vec<_> = models.iter().map(|model| format!("{:?}", model.name)).collect();
        let missing = name.map_or("several models".to_owned(), |name| format!("no model {name:?}"));
        Error::Invalid(format!("{}: {missing}; choose with {option} one of {}", archive.name(), names.join(", ")))
    })
}
