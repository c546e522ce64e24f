//! Names that may appear in a mount (`docs/format.md`, 4.4).

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
    path.split('/').try_for_each(check_component)
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
}
