//! Extended attributes: the counters of a mount, and how each file is stored.

use serde_json::{Map, Value};

use super::counters::{Counter, counters};
use crate::vfs::{Ino, Vfs};

const PREFIX: &str = "user.upg.";

/// Names of all attributes of an inode, as listxattr has them.
pub fn names(vfs: &Vfs, ino: Ino) -> Vec<u8> {
    let mut names = Vec::new();
    for (name, _) in attributes(vfs, ino) {
        names.extend_from_slice(PREFIX.as_bytes());
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    names
}

/// The value of an attribute, or None if there is none of this name.
pub fn value(vfs: &Vfs, ino: Ino, name: &str) -> Option<String> {
    let name = name.strip_prefix(PREFIX)?;
    attributes(vfs, ino).into_iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
}

fn attributes(vfs: &Vfs, ino: Ino) -> Vec<(&'static str, String)> {
    let counters = counters(vfs);
    let requests: Vec<String> = vfs
        .requests()
        .counts()
        .map(|(bound, count)| bound.map_or(format!("larger:{count}"), |bound| format!("<={bound}:{count}")))
        .collect();
    let mut all = vec![("requests", requests.join(" ")), ("stats", stats(vfs, &counters))];
    all.extend(counters.iter().filter_map(|counter| Some((counter.name, counter.value?.to_string()))));
    if let Some(id) = vfs.file(ino) {
        let (bits, codecs) = vfs.file_coding(id);
        all.push(("codec", codecs.join("+")));
        if let Some(bits) = bits {
            all.push(("bits_per_weight", format!("{bits:.4}")));
        }
    }
    if let Some(attributes) = vfs.attributes(ino) {
        all.push(("stored_bytes", attributes.stored.to_string()));
    }
    all
}

/// All counters as a JSON object, with an object for each group: null if nothing in it is counted.
fn stats(vfs: &Vfs, counters: &[Counter]) -> String {
    let mut all = Map::new();
    for &Counter { name, value, .. } in counters {
        let value = Value::from(value);
        match name.split_once('.') {
            None => {
                all.insert(name.to_owned(), value);
            }
            Some((group, _)) if value.is_null() => {
                all.entry(group).or_insert(Value::Null);
            }
            Some((group, name)) => {
                if let Value::Object(group) = all.entry(group).or_insert_with(|| Map::new().into()) {
                    group.insert(name.to_owned(), value);
                }
            }
        }
    }
    let counts = vfs.requests().counts();
    let requests = counts.map(|(bound, count)| (bound.map_or("larger".to_owned(), |b| b.to_string()), count.into()));
    all.insert("requests".to_owned(), Value::Object(requests.collect()));
    Value::Object(all).to_string()
}
