//! What a terminal sends for each key.

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

/// The keys in what came at once; what is none that is known here is left out. A lone ESC is the key: a
/// terminal sends a longer key's bytes together.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (key, length) = first(rest);
        keys.extend(key);
        rest = rest.get(length..).unwrap_or_default();
    }
    keys
}

/// The first key, and how many bytes it has.
fn first(bytes: &[u8]) -> (Option<Key>, usize) {
    let single = match bytes[0] {
        0x03 => Key::Interrupt,
        0x0c => Key::Redraw,
        0x1a => Key::Suspend,
        b'\r' | b'\n' => Key::Enter,
        0x7f | 0x08 => Key::Backspace,
        0x1b => return escape(bytes),
        0..0x20 => return (None, 1),
        _ => return character(bytes),
    };
    (Some(single), 1)
}

/// CSI and SS3 sequences (ECMA-48 section 5.4; xterm's cursor keys in both modes).
fn escape(bytes: &[u8]) -> (Option<Key>, usize) {
    if !matches!(bytes.get(1), Some(b'[' | b'O')) {
        return (Some(Key::Escape), 1);
    }
    let Some(last) = bytes[2..]
        .iter()
        .position(|byte| matches!(byte, 0x40..=0x7e))
    else {
        return (None, bytes.len());
    };
    let length = last + 3;
    let key = match &bytes[2..length] {
        b"A" => Key::Up,
        b"B" => Key::Down,
        b"H" | b"1~" | b"7~" => Key::Home,
        b"F" | b"4~" | b"8~" => Key::End,
        b"5~" => Key::PageUp,
        b"6~" => Key::PageDown,
        _ => return (None, length),
    };
    (Some(key), length)
}

fn character(bytes: &[u8]) -> (Option<Key>, usize) {
    let length = match bytes[0] {
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
        _ => 1,
    };
    let text = bytes
        .get(..length)
        .and_then(|text| str::from_utf8(text).ok());
    match text.and_then(|text| text.chars().next()) {
        Some(character) => (Some(Key::Char(character)), length),
        None => (None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_send_is_understood() {
        for (bytes, told) in [
            (&b"q"[..], vec![Key::Char('q')]),
            (b"\x1b", vec![Key::Escape]),
            (b"\x1b[A\x1bOB", vec![Key::Up, Key::Down]),
            (b"\x1b[5~\x1b[6~", vec![Key::PageUp, Key::PageDown]),
            (b"\x1b[1~\x1b[F", vec![Key::Home, Key::End]),
            (b"\r\n\x7f", vec![Key::Enter, Key::Enter, Key::Backspace]),
            (
                b"\x03\x1a\x0c",
                vec![Key::Interrupt, Key::Suspend, Key::Redraw],
            ),
            ("é学".as_bytes(), vec![Key::Char('é'), Key::Char('学')]),
            // Keys that mean nothing here, with and without an end.
            (b"\x1b[1;5Cx", vec![Key::Char('x')]),
            (b"\x1b[", vec![]),
            (b"\x01\xff\x80k", vec![Key::Char('k')]),
            (b"\xe5\xad", vec![]),
            (b"\x1bj", vec![Key::Escape, Key::Char('j')]),
        ] {
            assert_eq!(keys(bytes), told, "{bytes:?}");
        }
    }
}
