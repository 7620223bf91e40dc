//! Numbers as people read them.

/// `50,000,000`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `50 MB`, `1.6 MB`, `812 B`: powers of ten, two digits at least unless they are zeros.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let bytes = u128::from(bytes);
    let mut scale = 1000;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while rounded(bytes, scale) >= 1000 {
        scale *= 1000;
        unit = units.next();
    }
    // 2^64 bytes are 18 EB: there always is a unit.
    let unit = unit.unwrap_or(&"");
    let tenths = rounded(bytes * 10, scale);
    if tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{} {unit}", rounded(bytes, scale))
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

fn rounded(number: u128, scale: u128) -> u128 {
    (number + scale / 2) / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(50_000_000), "50,000,000");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (1_550, "1.6 kB"),
            (9_949, "9.9 kB"),
            (12_345, "12 kB"),
            (999_499, "999 kB"),
            (999_999, "1 MB"),
            (50_000_000, "50 MB"),
            (1_556_000, "1.6 MB"),
            (4_000_000_000, "4 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
