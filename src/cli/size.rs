//! Sizes as people type and read them.

/// Parses `2G`, `512MiB`, `1.5 GB`, `1048576`: the units are powers of 1024,
/// and of 1000 when they end in a plain B.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a size; try 2GiB or 512M"))?;
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(format!("{unit:?} is not a unit; use K, M, G or T")),
    };
    let decimal = unit.len() == 2 && unit.ends_with('b');
    let bytes = number * if decimal { 1000f64 } else { 1024f64 }.powi(power);
    if !bytes.is_finite() || bytes >= 2f64.powi(63) {
        return Err(format!("{text:?} is too large"));
    }
    Ok(bytes as u64)
}

/// Three significant digits and a decimal unit: `5.86 GB`.
pub fn display(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_meant() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("2G", 2 << 30),
            ("2GiB", 2 << 30),
            ("2gb", 2_000_000_000),
            ("1.5 K", 1536),
            ("0", 0),
            ("7b", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "-1", "1X", "1e30T", "99999999T", "1.2.3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_digits() {
        assert_eq!(display(999), "999 B");
        assert_eq!(display(5_863_802_880), "5.86 GB");
        assert_eq!(display(29_319_014_400), "29.3 GB");
        assert_eq!(display(684_000_000), "684 MB");
        assert_eq!(display(999_900), "1.00 MB");
    }
}
