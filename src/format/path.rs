//! Names that may appear in a mount (`docs/format.md`, 4.4).

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

const MAX_COMPONENT: usize = 255;
const MAX_PATH: usize = 4095;

/// One component of a path: a file, directory or model name.
pub fn check_component(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_COMPONENT {
        return Err("a name must have 1 to 255 bytes");
    }
    if name == "." || name == ".." {
        return Err("a name must not be . or ..");
    }
    if name.contains(['/', '\\']) {
        return Err("a name must not contain / or \\");
    }
    if name.chars().any(char::is_control) {
        return Err("a name must not contain control characters");
    }
    Ok(())
}

/// A relative path of such components.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > MAX_PATH {
        return Err("a path must have at most 4095 bytes");
    }
    if path.starts_with('/') {
        return Err("a path must be relative");
    }
    path.split('/').try_for_each(check_component)
}

/// Two paths that cannot lie in one directory tree on every system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clash {
    Twice(String),
    /// The first is a directory of the second.
    Directory(String, String),
    /// Names that differ only in the case of ASCII letters.
    Case(String, String),
}

impl Clash {
    /// The paths that clash.
    pub fn names(&self) -> [&String; 2] {
        match self {
            Clash::Twice(a) => [a, a],
            Clash::Directory(a, b) | Clash::Case(a, b) => [a, b],
        }
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clash::Twice(a) => write!(f, "two of the name {a:?}"),
            Clash::Directory(a, b) => write!(f, "{a:?} is a file, and a directory of {b:?}"),
            Clash::Case(a, b) => write!(f, "{a:?} and {b:?} differ only in the case of letters"),
        }
    }
}

/// The first two of these paths that clash: the names in a directory must differ, and not
/// only in the case of ASCII letters.
pub fn clash<'a>(paths: impl Iterator<Item = &'a str>) -> Option<Clash> {
    let mut paths: Vec<&str> = paths.collect();
    // Without regard to case, what is in a directory stands together, right behind what
    // would be a file of the directory's name.
    paths.sort_unstable_by(|a, b| folded(a).cmp(folded(b)).then_with(|| a.cmp(b)));
    paths.windows(2).find_map(|pair| clash_of(pair[0], pair[1]))
}

/// The bytes in an order in which `/` comes first, small letters for capital ones.
fn folded(path: &str) -> impl Iterator<Item = u8> {
    path.bytes().map(|b| if b == b'/' { 0 } else { b.to_ascii_lowercase() })
}

/// Whether neighbours in that order clash.
fn clash_of(a: &str, b: &str) -> Option<Clash> {
    let mut names = (a.split('/'), b.split('/'));
    loop {
        match (names.0.next(), names.1.next()) {
            (Some(x), Some(y)) if x == y => {}
            (Some(x), Some(y)) if x.eq_ignore_ascii_case(y) => return Some(Clash::Case(a.to_owned(), b.to_owned())),
            (None, None) => return Some(Clash::Twice(a.to_owned())),
            (None, Some(_)) => return Some(Clash::Directory(a.to_owned(), b.to_owned())),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_mount() {
        for good in ["a", "config.json", "unet/model.safetensors", "...", "ä ö", "a b"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a\0", "a\nb", "a\\b", "\u{85}", "\x7f"] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
        assert!(check_component(&"x".repeat(256)).is_err());
        assert!(check_path(&["x"; 2049].join("/")).is_err());
    }

    #[test]
    fn names_differ_on_every_system() {
        let of = |paths: &[&str]| clash(paths.iter().copied());
        for good in [
            &["a", "b", "c/a", "c/b", "c.d", "c-d/a"][..],
            &["a", "a.b", "a-b", "a b", "ab/a"],
            &["x/a/b", "x/a/c", "x/b", "y/a/b"],
            // Letters beyond ASCII are as they are.
            &["ä", "Ä"],
        ] {
            assert_eq!(of(good), None, "{good:?}");
        }
        let case = |a: &str, b: &str| Some(Clash::Case(a.into(), b.into()));
        assert_eq!(of(&["b", "a", "c", "a"]), Some(Clash::Twice("a".into())));
        assert_eq!(of(&["a.b", "a/x/y", "a-", "a"]), Some(Clash::Directory("a".into(), "a/x/y".into())));
        assert_eq!(of(&["config.json", "b", "Config.json"]), case("Config.json", "config.json"));
        assert_eq!(of(&["d/a", "e", "D/b"]), case("d/a", "D/b"));
        assert_eq!(of(&["x/d/a", "x/D/a"]), case("x/D/a", "x/d/a"));
        assert_eq!(of(&["A", "a/b"]), case("A", "a/b"));
        assert_eq!(of(&["a", "A/b"]), case("a", "A/b"));
        // What lies between them in the order of bytes does not hide them.
        assert_eq!(of(&["D/z", "a", "Z", "d-/a", "d.x", "d/a", "e"]), case("d/a", "D/z"));
    }
}
