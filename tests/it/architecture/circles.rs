//! Finds the circles among files: one that, over others, takes something from itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{Source, sources};

/// Where a file's module stands: `["rudp", "actor", "door"]`.
fn module(source: &Source) -> Vec<String> {
    let mut path: Vec<String> = source
        .path
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

/// The paths of a `use` tree, as in `a::{b, c::{self, d}}`, each from its first word on.
fn paths(tree: &str) -> Vec<Vec<String>> {
    fn read<'a>(mut tree: &'a str, before: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
        let mut path = before.to_vec();
        loop {
            tree = tree.trim_start();
            if let Some(mut group) = tree.strip_prefix('{') {
                loop {
                    group = group.trim_start();
                    if let Some(rest) = group.strip_prefix('}') {
                        return rest;
                    }
                    if group.is_empty() {
                        return group;
                    }
                    group = read(group, &path, found).trim_start();
                    group = group.strip_prefix(',').unwrap_or(group);
                }
            }
            let end = tree
                .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*')
                .unwrap_or(tree.len());
            let (word, rest) = tree.split_at(end);
            if word != "self" || path.is_empty() {
                path.push(word.to_owned());
            }
            match rest.strip_prefix("::") {
                Some(rest) if !word.is_empty() => tree = rest,
                _ => {
                    found.push(path);
                    // Of `a as b` the rest, too.
                    let end = rest.find([',', '}', ';']).unwrap_or(rest.len());
                    return &rest[end..];
                }
            }
        }
    }
    let mut found = Vec::new();
    read(tree, &[], &mut found);
    found
}

/// What a file names: by `use`, and by paths in the code that begin with `crate` or `super`.
fn named_paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let begins = statement.match_indices("use ").find(|(at, _)| {
            let line = statement[..*at].rsplit('\n').next().unwrap_or_default();
            line.trim().is_empty() || line.trim_start().starts_with("pub")
        });
        let (before, used) = statement.split_at(begins.map_or(statement.len(), |(at, _)| at));
        rest.push_str(before);
        if let Some(tree) = used.strip_prefix("use ") {
            found.extend(paths(tree));
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(start) {
            let before = rest[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                found.extend(paths(&rest[at..]));
            }
        }
    }
    found
}

/// Which files each file takes something from. A file and the folder that holds it are one family: what a
/// parent hands on is the child's, and what it owns itself draws no arrow.
fn arrows(sources: &[Source]) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let files: BTreeMap<Vec<String>, &Path> = sources
        .iter()
        .map(|source| (module(source), source.path.as_path()))
        .collect();
    // A path from the crate's root, as far as it leads through modules, and what is left of it.
    let absolute = |own: &[String], path: &[String]| -> Vec<String> {
        let (mut base, mut path) = match path.first().map(String::as_str) {
            Some("crate") => (Vec::new(), &path[1..]),
            Some("self") => (own.to_vec(), &path[1..]),
            Some("super") => (own.to_vec(), path),
            // A child's, or another crate's.
            _ => (own.to_vec(), path),
        };
        while path.first().is_some_and(|word| word == "super") {
            base.pop();
            path = &path[1..];
        }
        base.extend_from_slice(path);
        base
    };
    // Nothing is left of the shortest, which is no module.
    let depth = |path: &[String]| {
        let is_module = |depth: &usize| files.contains_key(&path[..*depth]);
        (0..=path.len()).rev().find(is_module).unwrap_or(0)
    };
    // What each module hands on, by name.
    let mut handed: BTreeMap<(Vec<String>, String), Vec<String>> = BTreeMap::new();
    for source in sources {
        let own = module(source);
        for path in named_paths(&source.code) {
            let name = path.last().cloned().unwrap_or_default();
            handed.insert((own.clone(), name), absolute(&own, &path));
        }
    }
    let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for source in sources {
        let own = module(source);
        for path in named_paths(&source.code) {
            let mut path = absolute(&own, &path);
            for _ in 0..4 {
                let (to, left) = path.split_at(depth(&path));
                let apart = !own.starts_with(to) && !to.starts_with(&own);
                if let Some(to) = files.get(to).filter(|_| apart) {
                    let found = arrows.entry(source.path.clone()).or_default();
                    found.insert(PathBuf::from(to));
                }
                // Handed on by that one.
                let Some(next) = left
                    .first()
                    .and_then(|name| handed.get(&(to.to_vec(), name.clone())))
                else {
                    break;
                };
                if own == to {
                    break;
                }
                path = next.clone();
            }
        }
    }
    arrows
}

#[test]
fn no_file_leads_back_to_itself() {
    let sources = sources();
    let arrows = arrows(&sources);
    let none = BTreeSet::new();
    let mut circles = BTreeSet::new();
    for start in arrows.keys() {
        // The shortest way back, if there is one.
        let mut ways = vec![vec![start]];
        let mut seen = BTreeSet::new();
        'search: while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                for to in arrows.get(way[way.len() - 1]).unwrap_or(&none) {
                    if to == start {
                        let least = (0..way.len()).min_by_key(|at| way[*at]).unwrap_or(0);
                        let (first, second) = way.split_at(least);
                        let circle = [second, first].concat();
                        let names = circle.iter().map(|path| path.display().to_string());
                        circles.insert(names.collect::<Vec<_>>().join(" -> "));
                        break 'search;
                    }
                    if seen.insert(to) {
                        longer.push([&way[..], &[to]].concat());
                    }
                }
            }
            ways = longer;
        }
    }
    let circles: Vec<String> = circles.into_iter().collect();
    assert!(
        circles.is_empty(),
        "circles of files:\n{}",
        circles.join("\n")
    );
}

#[test]
fn the_finder_of_circles_reads_every_form() {
    let source = |path: &str, code: &str| Source {
        path: path.into(),
        room: "a".to_owned(),
        code: code.to_owned(),
    };
    let sources = [
        source(
            "a/mod.rs",
            "mod b;\nmod c;\npub use b::{B, deep::D};\nstruct Own;",
        ),
        source(
            "a/b.rs",
            "mod deep;\nuse super::{Own, c::{self, C as Other}};",
        ),
        source("a/b/deep.rs", "use super::super::e;\nfn f() {}"),
        source(
            "a/c.rs",
            "use std::fmt;\nuse crate::a::B;\nfn g() { super::e::f() }",
        ),
        source("a/e.rs", "use super::D;"),
    ];
    let arrows = arrows(&sources);
    let to = |from: &str| -> Vec<String> {
        let found = arrows.get(Path::new(from)).into_iter().flatten();
        found.map(|path| path.display().to_string()).collect()
    };
    assert_eq!(to("a/b.rs"), ["a/c.rs"]);
    assert_eq!(to("a/b/deep.rs"), ["a/e.rs"]);
    assert_eq!(to("a/c.rs"), ["a/b.rs", "a/e.rs"]);
    assert_eq!(to("a/e.rs"), ["a/b/deep.rs"]);
    assert!(to("a/mod.rs").is_empty());
}
