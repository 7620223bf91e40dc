//! The shapes of the TOML file, as serde reads them.
//!
//! Nothing here fails: a key of the wrong type is kept as [`Key::Wrong`], an unknown key in its
//! table's `unknown`, so that one mistake hides no other.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::LinkOptions;

/// The value of one key of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Key<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The key holds something of another type: what it is, in words.
    Wrong(String),
    /// The key holds this.
    Is(T),
}

/// A list, each element of which may be wrong by itself.
pub(super) type List<T> = Key<Vec<Key<T>>>;

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, bound = "T: DeserializeOwned")]
pub(super) enum OneOrMany<T> {
    /// `key = value`
    One(T),
    /// `key = [value, ...]`, each of which may be wrong by itself.
    Many(Vec<Key<T>>),
}

/// What a link's option may be written as: `5`, `0.5` or `"25ms"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Whole(i64),
    Fraction(f64),
    Text(String),
}

impl Scalar {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// Keys that a table does not know.
pub(super) type Unknown = BTreeMap<String, Value>;

impl<'de, T: DeserializeOwned> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::of)
    }
}

impl<T: DeserializeOwned> Key<T> {
    fn of(value: Value) -> Self {
        match T::deserialize(&value) {
            Ok(value) => Self::Is(value),
            Err(_) => Self::Wrong(describe(&value)),
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "something that is no number".into(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(value) => format!("the number `{value}`"),
        Value::String(value) => format!("the text `{}`", value.escape_debug()),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a table".into(),
    }
}

/// The keys that a table knows, in the order in which `conf/labnet.toml` shows them.
pub(super) trait Table {
    /// Names of the keys.
    const KEYS: &'static [&'static str];
}

/// How the variable of a key is read; of text there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A number, or `true` or `false`.
    Typed,
    /// A list, its elements separated by commas.
    List,
}

/// The keys, with their tables before them, whose variables are no plain text.
pub(super) fn variables() -> Vec<(String, Form)> {
    let mut found = Vec::new();
    File::forms("", &mut found);
    found
}

/// What a key or a table may hold, and so how variables set it.
trait Variable {
    /// Whether it is one value that a list may have for an element.
    const IS_ELEMENT: bool = false;

    /// Adds the forms of what stands `at` this key and below it.
    fn forms(at: &str, found: &mut Vec<(String, Form)>);
}

macro_rules! forms {
    ($($type:ty: $form:expr,)*) => {$(
        impl Variable for $type {
            const IS_ELEMENT: bool = true;

            fn forms(at: &str, found: &mut Vec<(String, Form)>) {
                let form: Option<Form> = $form;
                found.extend(form.map(|form| (at.to_owned(), form)));
            }
        }
    )*};
}

forms! {
    String: None,
    i64: Some(Form::Typed),
    bool: Some(Form::Typed),
    OneOrMany<String>: Some(Form::List),
}

impl<T: Variable> Variable for Key<T> {
    const IS_ELEMENT: bool = T::IS_ELEMENT;

    fn forms(at: &str, found: &mut Vec<(String, Form)>) {
        T::forms(at, found);
    }
}

/// A list of tables has no variable: it would not say which of them it is about.
impl<T: Variable> Variable for Vec<T> {
    fn forms(at: &str, found: &mut Vec<(String, Form)>) {
        if T::IS_ELEMENT {
            found.push((at.to_owned(), Form::List));
        }
    }
}

/// A key by its name, `at` the table that holds it.
fn below(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident { $($key:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $table {
            $(pub(super) $key: $type,)*
            #[serde(flatten)]
            pub(super) unknown: Unknown,
        }

        impl Table for $table {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
        }

        impl Variable for $table {
            fn forms(at: &str, found: &mut Vec<(String, Form)>) {
                $(<$type>::forms(&below(at, stringify!($key)), found);)*
            }
        }
    )*};
}

tables! {
    /// The whole file.
    File {
        state_dir: Key<String>,
        supervisor: Key<Supervisor>,
        log: Key<Log>,
        reload: Key<Reload>,
        watch: Key<Watch>,
        capture: Key<Capture>,
        http: Key<Http>,
        dhcp: Key<Dhcp>,
        dns: Key<Dns>,
        rudp: Key<Rudp>,
        link: Key<Link>,
        scrap: Key<Scrap>,
        origin: Key<Origin>,
    }
    /// `[supervisor]`
    Supervisor {
        max_restarts: Key<i64>,
        within: Key<String>,
        stuck_after: Key<String>,
    }
    /// `[log]`
    Log {
        level: Key<String>,
        format: Key<String>,
    }
    /// `[reload]`
    Reload {
        watch: Key<bool>,
    }
    /// `[watch]`
    Watch {
        memory: Key<String>,
    }
    /// `[capture]`
    Capture {
        file: Key<String>,
        max_size: Key<String>,
        max_files: Key<i64>,
        roles: List<String>,
        data_bytes: Key<String>,
        ring: Key<String>,
    }
    /// `[http]`
    Http {
        listen: Key<OneOrMany<String>>,
        fault_injection: Key<bool>,
        max_connections: Key<i64>,
        max_connections_per_address: Key<i64>,
        request_timeout: Key<String>,
        min_rate: Key<i64>,
        hosts: Key<OneOrMany<String>>,
        token_file: Key<String>,
        protect_reads: Key<bool>,
    }
    /// `[dhcp]`
    Dhcp {
        listen: Key<OneOrMany<String>>,
        interfaces: List<String>,
        subnet: List<Subnet>,
    }
    /// `[[dhcp.subnet]]`
    Subnet {
        subnet: Key<String>,
        pools: List<String>,
        routers: List<String>,
        name_servers: List<String>,
        domain: Key<String>,
        lease_time: Key<String>,
        reservation: List<Reservation>,
    }
    /// `[[dhcp.subnet.reservation]]`
    Reservation {
        mac: Key<String>,
        address: Key<String>,
    }
    /// `[dns]`
    Dns {
        listen: Key<OneOrMany<String>>,
        max_connections: Key<i64>,
        max_connections_per_address: Key<i64>,
        request_timeout: Key<String>,
        min_rate: Key<i64>,
        zone: List<Zone>,
    }
    /// `[[dns.zone]]`
    Zone {
        name: Key<String>,
        file: Key<String>,
    }
    /// `[rudp]`
    Rudp {
        listen: Key<OneOrMany<String>>,
        max_window: Key<i64>,
        idle_timeout: Key<String>,
        max_sessions: Key<i64>,
        max_sessions_per_address: Key<i64>,
        max_half_open: Key<i64>,
        max_handshakes: Key<i64>,
        max_handshakes_per_address: Key<i64>,
        max_fetches: Key<i64>,
        max_fetches_per_address: Key<i64>,
        amplification: Key<i64>,
        trust_loopback: Key<bool>,
        scraper: Key<String>,
        congestion: Key<String>,
        initial_window: Key<String>,
        client_choice: Key<bool>,
        protection: Key<String>,
        secret: Key<String>,
        max_datagram: Key<i64>,
        send_memory: Key<String>,
        shards: Key<i64>,
        class: List<Class>,
    }
    /// `[[rudp.class]]`
    Class {
        clients: List<String>,
        congestion: Key<String>,
        initial_window: Key<String>,
    }
    /// `[scrap]`
    Scrap {
        listen: Key<OneOrMany<String>>,
        origin: Key<String>,
        refresh: Key<String>,
        max_peers: Key<i64>,
        max_peers_per_address: Key<i64>,
        request_timeout: Key<String>,
        min_rate: Key<i64>,
        redirects_elsewhere: Key<bool>,
    }
    /// `[origin]`
    Origin {
        listen: Key<OneOrMany<String>>,
        congestion: Key<String>,
        files: Key<String>,
        samples: List<String>,
        max_connections: Key<i64>,
        max_connections_per_address: Key<i64>,
        request_timeout: Key<String>,
        min_rate: Key<i64>,
    }
}

/// Every table by the name that its header has, for hints about a key in the wrong place.
pub(super) const TABLES: [(&str, &[&str]); 18] = [
    ("the top of the file", File::KEYS),
    ("[supervisor]", Supervisor::KEYS),
    ("[log]", Log::KEYS),
    ("[reload]", Reload::KEYS),
    ("[watch]", Watch::KEYS),
    ("[capture]", Capture::KEYS),
    ("[http]", Http::KEYS),
    ("[dhcp]", Dhcp::KEYS),
    ("[[dhcp.subnet]]", Subnet::KEYS),
    ("[[dhcp.subnet.reservation]]", Reservation::KEYS),
    ("[dns]", Dns::KEYS),
    ("[[dns.zone]]", Zone::KEYS),
    ("[rudp]", Rudp::KEYS),
    ("[[rudp.class]]", Class::KEYS),
    ("[link]", Link::KEYS),
    ("[link.up]", LinkWay::KEYS),
    ("[scrap]", Scrap::KEYS),
    ("[origin]", Origin::KEYS),
];

/// `[link]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    pub(super) seed: Key<i64>,
    pub(super) up: Key<LinkWay>,
    pub(super) down: Key<LinkWay>,
    /// What is for both directions.
    #[serde(flatten)]
    pub(super) both: LinkWay,
}

/// `[link.up]`, `[link.down]`: the options of [`LINK_OPTIONS`](super::link_options::LINK_OPTIONS).
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Unknown")]
pub(super) struct LinkWay {
    /// What is written, by the options' names, in their order.
    pub(super) options: Vec<(&'static str, Key<Scalar>)>,
    pub(super) unknown: Unknown,
}

impl From<Unknown> for LinkWay {
    fn from(mut unknown: Unknown) -> Self {
        let written = |key| Some((key, unknown.remove(key).map(Key::of)?));
        Self {
            options: LinkOptions::KEYS.into_iter().filter_map(written).collect(),
            unknown,
        }
    }
}

impl Table for LinkWay {
    const KEYS: &'static [&'static str] = &LinkOptions::KEYS;
}

impl Table for Link {
    const KEYS: &'static [&'static str] = &{
        let options = LinkOptions::KEYS;
        let mut keys = ["seed"; LinkOptions::KEYS.len() + 3];
        let mut index = 0;
        while index < options.len() {
            keys[index] = options[index];
            index += 1;
        }
        keys[index + 1] = "up";
        keys[index + 2] = "down";
        keys
    };
}

/// The options are text.
impl Variable for Link {
    fn forms(at: &str, found: &mut Vec<(String, Form)>) {
        i64::forms(&below(at, "seed"), found);
    }
}
