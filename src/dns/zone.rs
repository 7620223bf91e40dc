//! Zones: immutable trees of labels, made from zone files and swapped whole.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use super::{
    name::{LowerName, Name},
    rdata::RecordType,
    zone_file::{self, ReadFile, Record, ZoneError},
};

/// One zone that the server is authoritative for.
#[derive(Debug)]
pub struct Zone {
    name: Name,
    apex: LowerName,
    root: Node,
    /// The TTL of negative answers (RFC 2308 section 5).
    negative_ttl: u32,
    records: usize,
}

/// A name of the zone: its records, and the names below it. Without records it is an empty
/// non-terminal (RFC 4592 section 2.2.2): it exists and owns nothing.
#[derive(Debug, Default)]
pub(super) struct Node {
    sets: Vec<RecordSet>,
    /// By label in lower case: the canonical order of RFC 4034 section 6.1.
    children: BTreeMap<Box<[u8]>, Node>,
}

/// The records of one name and one type.
#[derive(Debug)]
pub(super) struct RecordSet {
    pub(super) rtype: RecordType,
    pub(super) ttl: u32,
    /// In wire form, uncompressed; never empty, no two alike.
    pub(super) rdatas: Vec<Box<[u8]>>,
}

/// What a zone has for a name.
pub(super) enum Found<'z> {
    /// The name exists, or a wildcard stands in for it.
    Node(&'z Node),
    /// The name belongs to a child zone: the name servers at the cut, and how many of the name's
    /// labels are left of it.
    Delegation {
        servers: &'z RecordSet,
        below: usize,
    },
    /// The name does not exist.
    Nothing,
}

impl Node {
    pub(super) fn set(&self, rtype: RecordType) -> Option<&RecordSet> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }

    pub(super) fn sets(&self) -> &[RecordSet] {
        &self.sets
    }
}

impl Zone {
    /// Loads the zone `name` from the zone file at `path`.
    ///
    /// # Errors
    /// The first of: what `read_file` cannot read, what is no zone file, what makes no zone (records
    /// outside of it, no or two SOA, no name server, a CNAME beside other records).
    pub fn load(name: &Name, path: &Path, read_file: ReadFile<'_>) -> Result<Self, ZoneError> {
        let mut zone = Self {
            name: name.clone(),
            apex: name.to_lower(),
            root: Node::default(),
            negative_ttl: 0,
            records: 0,
        };
        zone_file::read(path, name, read_file, &mut |record| zone.insert(record))?;
        let missing = |what: &str| ZoneError {
            file: path.to_owned(),
            line: None,
            reason: format!("the zone {name} has no {what} record of its own"),
        };
        let soa = zone
            .root
            .set(RecordType::SOA)
            .ok_or_else(|| missing("SOA"))?;
        // MINIMUM, the last field of the data: see rdata.
        let minimum = soa.rdatas.first().and_then(|rdata| rdata.last_chunk::<4>());
        let minimum = minimum.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        zone.negative_ttl = soa.ttl.min(minimum);
        if zone.root.set(RecordType::NS).is_none() {
            return Err(missing("NS"));
        }
        Ok(zone)
    }

    fn insert(&mut self, record: Record) -> Result<(), String> {
        let Record {
            owner,
            rtype,
            ttl,
            rdata,
        } = record;
        let name = owner.to_lower();
        let Some(below) = name.labels_below(&self.apex) else {
            return Err(format!("{owner} is not in the zone {}", self.name));
        };
        let mut node = &mut self.root;
        for index in (0..below).rev() {
            node = node.children.entry(name.label(index).into()).or_default();
        }
        match rtype {
            RecordType::SOA if below > 0 => {
                return Err(format!("SOA belongs to {}, not to {owner}", self.name));
            }
            RecordType::SOA if node.set(rtype).is_some() => {
                return Err("a zone has only one SOA record".to_owned());
            }
            // RFC 4592 section 4.2 leaves open what it would mean.
            RecordType::NS if below > 0 && name.label(0) == b"*" => {
                return Err("a wildcard cannot be delegated".to_owned());
            }
            RecordType::CNAME if !node.sets.is_empty() => {
                return Err(format!("{owner} has other records: a CNAME stands alone"));
            }
            _ if rtype != RecordType::CNAME && node.set(RecordType::CNAME).is_some() => {
                return Err(format!("{owner} has a CNAME record, which stands alone"));
            }
            _ => {}
        }
        match node.sets.iter_mut().find(|set| set.rtype == rtype) {
            // The same record twice is one record (RFC 2181 section 5).
            Some(set) if set.rdatas.contains(&rdata) => return Ok(()),
            Some(set) => {
                // The records of a set live equally long (RFC 2181 section 5.2).
                set.ttl = set.ttl.min(ttl);
                set.rdatas.push(rdata);
            }
            None => {
                node.sets.push(RecordSet {
                    rtype,
                    ttl,
                    rdatas: vec![rdata],
                });
                node.sets.sort_by_key(|set| set.rtype);
            }
        }
        self.records += 1;
        Ok(())
    }

    /// The zone's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many resource records it holds.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The SOA record and the TTL that it has in negative answers (RFC 2308 section 3).
    pub(super) fn negative(&self) -> Option<(&RecordSet, u32)> {
        let soa = self.root.set(RecordType::SOA)?;
        Some((soa, self.negative_ttl))
    }

    /// Whether `name` is at the zone's apex or below it.
    pub(super) fn covers(&self, name: &LowerName) -> bool {
        name.labels_below(&self.apex).is_some()
    }

    /// Finds what answers questions about `name`: RFC 1034 section 4.3.2 and RFC 4592 in one walk
    /// from the apex down.
    ///
    /// At a cut the parent owns the DS records alone (RFC 4035 section 3.1.4.1): with `parent_side`
    /// the cut's own node is found, not the delegation.
    pub(super) fn find(&self, name: &LowerName, parent_side: bool) -> Found<'_> {
        let Some(below) = name.labels_below(&self.apex) else {
            return Found::Nothing;
        };
        let mut node = &self.root;
        for index in (0..below).rev() {
            match node.children.get(name.label(index)) {
                Some(child) => node = child,
                // `node` is the closest encloser; only its own wildcard applies.
                None => {
                    return match node.children.get(&b"*"[..]) {
                        Some(wildcard) => Found::Node(wildcard),
                        None => Found::Nothing,
                    };
                }
            }
            if let Some(servers) = node.set(RecordType::NS)
                && !(parent_side && index == 0)
            {
                return Found::Delegation {
                    servers,
                    below: index,
                };
            }
        }
        Found::Node(node)
    }

    /// The node of exactly this name, delegated or not: where glue is.
    pub(super) fn glue(&self, name: &LowerName) -> Option<&Node> {
        let below = name.labels_below(&self.apex)?;
        (0..below).rev().try_fold(&self.root, |node, index| {
            node.children.get(name.label(index))
        })
    }
}

/// All zones of the server, by name.
#[derive(Debug, Default)]
pub(super) struct Zones {
    by_apex: HashMap<Box<[u8]>, Arc<Zone>>,
    /// No apex has more labels: what is left of them in a name need not be looked up.
    deepest: usize,
}

impl FromIterator<Arc<Zone>> for Zones {
    fn from_iter<T: IntoIterator<Item = Arc<Zone>>>(zones: T) -> Self {
        let mut this = Self::default();
        for zone in zones {
            this.deepest = this.deepest.max(zone.apex.labels());
            this.by_apex.insert(zone.apex.suffix(0).into(), zone);
        }
        this
    }
}

impl Zones {
    /// The zone closest to `name`, at least `above` labels above it.
    pub(super) fn closest(&self, name: &LowerName, above: usize) -> Option<&Zone> {
        let first = above.max(name.labels().saturating_sub(self.deepest));
        (first..=name.labels())
            .find_map(|skip| self.by_apex.get(name.suffix(skip)))
            .map(Arc::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.by_apex.values().map(Arc::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Zone, String> {
        let name = "Example.com.".parse().expect("valid");
        Zone::load(&name, Path::new("z"), &|_| Ok(text.as_bytes().to_vec()))
            .map_err(|error| error.to_string())
    }

    const HEAD: &str = "$TTL 1h\n@ SOA ns h 1 2 3 4 300\n@ NS ns\n";

    #[test]
    fn what_makes_no_zone_is_refused_with_its_line() {
        for (text, problem) in [
            ("", "z: the zone Example.com. has no SOA record of its own"),
            (
                "@ 1 SOA ns h 1 2 3 4 5",
                "z: the zone Example.com. has no NS record of its own",
            ),
            (
                "@ 1 SOA ns h 1 2 3 4 5\n@ 1 SOA ns h 2 2 3 4 5",
                "z:2: a zone has only one SOA record",
            ),
            (
                "a 1 SOA ns h 1 2 3 4 5",
                "z:1: SOA belongs to Example.com., not to a.example.com.",
            ),
            (
                "a.test. 1 A 192.0.2.1",
                "z:1: a.test. is not in the zone Example.com.",
            ),
            ("*.a 1 NS ns", "z:1: a wildcard cannot be delegated"),
            (
                "a 1 A 192.0.2.1\nA 1 CNAME b",
                "z:2: A.example.com. has other records: a CNAME stands alone",
            ),
            (
                "a 1 CNAME b\na 1 CNAME c",
                "z:2: a.example.com. has other records: a CNAME stands alone",
            ),
            (
                "a 1 CNAME b\na 1 A 192.0.2.1",
                "z:2: a.example.com. has a CNAME record, which stands alone",
            ),
        ] {
            let problem = problem.replace("a.example.com", "a.Example.com");
            let problem = problem.replace("A.example.com", "A.Example.com");
            assert_eq!(load(text).expect_err(text), problem);
        }
    }

    #[test]
    fn equal_records_are_one_and_a_set_has_one_ttl() {
        let zone = load(&format!(
            "{HEAD}a 60 A 192.0.2.1\nA 30 A 192.0.2.1\na 20 A 192.0.2.2\n"
        ));
        let zone = zone.expect("loads");
        assert_eq!(zone.records(), 4);
        let name: Name = "a.example.com.".parse().expect("valid");
        let Found::Node(node) = zone.find(&name.to_lower(), false) else {
            panic!("the name exists");
        };
        let set = node.set(RecordType::A).expect("the set exists");
        assert_eq!((set.ttl, set.rdatas.len()), (20, 2));
        assert_eq!(zone.negative().map(|(_, ttl)| ttl), Some(300));
    }

    #[test]
    fn the_closest_zone_answers() {
        let load = |name: &str| {
            let name: Name = name.parse().expect("valid");
            let zone = Zone::load(&name, Path::new("z"), &|_| Ok(HEAD.as_bytes().to_vec()));
            Arc::new(zone.expect("loads"))
        };
        let zones: Zones = ["example.com.", "sub.Example.com.", "test."]
            .map(load)
            .into_iter()
            .collect();
        let closest = |name: &str, above| {
            let name: Name = name.parse().expect("valid");
            zones
                .closest(&name.to_lower(), above)
                .map(|zone| zone.name().to_string())
        };
        assert_eq!(
            closest("a.b.c.sub.example.com.", 0).as_deref(),
            Some("sub.Example.com.")
        );
        assert_eq!(
            closest("sub.example.com.", 0).as_deref(),
            Some("sub.Example.com.")
        );
        assert_eq!(
            closest("sub.example.com.", 1).as_deref(),
            Some("example.com.")
        );
        assert_eq!(closest("a.test.", 0).as_deref(), Some("test."));
        assert_eq!(closest("com.", 0), None);
        assert_eq!(closest(".", 0), None);
        assert_eq!(closest(".", 1), None);
    }
}
