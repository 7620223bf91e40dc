//! The table of captures.

use super::{parse, problems};

#[test]
fn a_capture_has_its_defaults() {
    let config = parse("[rudp]\n[capture]\nring = \"16MiB\"\n");
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let capture = config.capture.expect("it is there");
    assert_eq!((capture.file, capture.ring), (None, 16 << 20));
    assert_eq!(capture.crashes, config.state_dir.join("captures"));
    let config = parse(
        "[rudp]\n[capture]\nfile = \"lab.pcapng\"\nmax_size = \"1GiB\"\nmax_files = 7\n\
         roles = [\"dns\", \"rudp\"]\ndata_bytes = \"0\"\n",
    );
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let capture = config.capture.expect("it is there");
    let file = capture.file.expect("a file");
    assert!(
        file.is_absolute() && file.ends_with("lab.pcapng"),
        "{file:?}"
    );
    let bounds = (capture.max_size, capture.max_files, capture.data_bytes);
    assert_eq!(bounds, (1 << 30, 7, 0));
    assert_eq!(
        (capture.roles, capture.ring),
        (vec!["dns".into(), "rudp".into()], 0)
    );
}

#[test]
fn every_mistake_in_a_capture_has_its_file_line_and_key() {
    let text = "[rudp]\n[capture]\nfile = 3\nmax_size = \"1kB\"\nmax_files = 0\n\
                roles = [\"dns\", \"client\", \"smtp\"]\ndata_bytes = \"64KiB\"\n\
                ring = \"5GiB\"\nrings = 1\n";
    let found = problems(text);
    for (line, key, part) in [
        (3, "capture.file", "text"),
        (4, "capture.max_size", "64"),
        (5, "capture.max_files", "1"),
        (6, "capture.roles", "`client` is no role of the service"),
        (6, "capture.roles", "`smtp` is no role of the service"),
        (7, "capture.data_bytes", "65"),
        (8, "capture.ring", "4"),
        (9, "capture.rings", "no such key; did you mean `ring`?"),
    ] {
        let fits = |problem: &&labnet::config::Problem| {
            problem.line == Some(line)
                && problem.key.starts_with(key)
                && problem.message.contains(part)
        };
        let problem = found.iter().find(fits);
        let problem = problem.unwrap_or_else(|| panic!("{line} {key} {part}: {found:#?}"));
        assert!(problem.file.ends_with("test.toml"), "{problem}");
    }
    assert_eq!(found.len(), 8, "{found:#?}");
    let [one] = &problems("[rudp]\n[capture]\nmax_files = 3\n")[..] else {
        panic!("one problem");
    };
    assert_eq!((one.line, one.key.as_str()), (Some(2), "capture"));
    assert!(one.message.contains("captures nothing"), "{one}");
}
