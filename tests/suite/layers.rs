//! What each module uses lies above it in the table of docs/architecture.md.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the table with their rows, from the top.
struct Table(Vec<(String, usize)>);

impl Table {
    fn read(root: &Path) -> Table {
        let text = fs::read_to_string(root.join("docs/architecture.md")).expect("a document");
        let rows = text.lines().filter(|line| line.starts_with("| `")).enumerate();
        let modules = rows.flat_map(|(i, row)| {
            let first = row.split('|').nth(1).expect("a column");
            let names = first.split('`').skip(1).step_by(2);
            names.map(|name| (name.trim_end_matches('/').to_owned(), i)).collect::<Vec<_>>()
        });
        Table(modules.collect())
    }

    /// The row that a module, or what is in one, is in.
    fn find(&self, path: &str) -> Option<&(String, usize)> {
        let within =
            |module: &str| path == module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with('/'));
        self.0.iter().filter(|(module, _)| within(module)).max_by_key(|(module, _)| module.len())
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// All that a source names as `crate::...`, with slashes; of `crate::a::{b, c}` both. Tests at its
/// end may use anything.
fn named(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.concat();
    let mut paths = Vec::new();
    for text in code.split("crate::").skip(1) {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
        let (stem, rest) = text.split_at(end);
        let path = stem.trim_end_matches(':').replace("::", "/");
        let group = rest.strip_prefix('{').filter(|_| stem.ends_with("::"));
        for name in group.into_iter().flat_map(|group| group.split('}').next().unwrap_or_default().split(',')) {
            paths.push(format!("{path}/{}", name.trim()));
        }
        paths.push(path);
    }
    paths
}

#[test]
fn dependencies_point_up_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (table, source) = (Table::read(root), root.join("src"));
    let mut files = Vec::new();
    sources(&source, &mut files);
    let mut looked_at = 0;
    for file in files {
        let path = file.strip_prefix(&source).expect("below").with_extension("");
        let path = path.to_str().expect("UTF-8");
        if path == "lib" || path.starts_with("bin/") || path.ends_with("tests") {
            continue;
        }
        let (own, row) = table.find(path.trim_end_matches("/mod")).unwrap_or_else(|| panic!("{path} is in no row"));
        for used in named(&fs::read_to_string(&file).expect("a source")) {
            // What is not in it is a macro's, or an item of the crate itself.
            let Some((other, above)) = table.find(&used) else { continue };
            let related = other.starts_with(own.as_str()) || own.starts_with(other.as_str());
            assert!(related || above <= row, "{path} uses {used}, which the table has below it");
            looked_at += 1;
        }
    }
    assert!(looked_at > 500, "{looked_at} uses found");
}
