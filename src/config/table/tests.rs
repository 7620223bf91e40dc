use serde_json::json;

use super::*;

/// A table whose keys stand in two places: here,
#[derive(Debug, PartialEq)]
struct Lamp {
    brightness: u32,
    is_on: bool,
    colours: Vec<String>,
    bulbs: Vec<Option<String>>,
}

impl Lamp {
    /// and here.
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            brightness: table.number("brightness", 1..=100, 50),
            is_on: table.flag("is_on", false),
            colours: values(table.list("colours", "a list", word).unwrap_or_default()),
            bulbs: table.tables("bulb", |table| {
                table.required("name", kind::text(word), "name = \"a\"")
            }),
        }
    }
}

fn word(text: &str) -> Result<String, String> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let word = is_word.then(|| text.to_owned());
    word.ok_or_else(|| format!("`{text}` is no word"))
}

fn lamp(file: &mut Table<'_>) -> Option<Lamp> {
    file.text("state", word, String::new());
    file.optional_table("lamp", Lamp::read)
}

fn read_lamp(values: Value) -> (Option<Lamp>, Vec<String>) {
    let (lamp, found) = read(&values, Path::new("/"), &list(lamp), lamp);
    let found = found
        .into_iter()
        .map(|(at, message)| format!("{at}: {message}"));
    (lamp, found.collect())
}

#[test]
fn what_is_read_is_what_the_table_has() {
    let keys = list(lamp);
    let variables: Vec<_> = keys.variables().collect();
    let expected = [
        ("state", Form::Text),
        ("lamp.brightness", Form::Typed),
        ("lamp.is_on", Form::Typed),
        ("lamp.colours", Form::List),
    ];
    assert_eq!(
        variables,
        expected.map(|(key, form)| (key.to_owned(), form))
    );
    for (at, key, hint) in [
        ("lamp", "brightnes", "did you mean `brightness`?"),
        ("lamp", "name", "`name` belongs to [[lamp.bulb]]"),
        (
            "lamp.bulb[7]",
            "brightness",
            "`brightness` belongs to [lamp]",
        ),
        (
            "lamp.bulb[7]",
            "state",
            "`state` belongs to the top of the file",
        ),
        (
            "lamp",
            "weight",
            "known here are `brightness`, `is_on`, `colours`, `bulb`",
        ),
        ("", "weight", "known here are `state`, `lamp`"),
    ] {
        let expected = format!("no such key; {hint}");
        assert_eq!(keys.refusal(at, key), Some(expected), "{at} {key}");
    }
    assert_eq!(keys.refusal("lamp.bulb[7]", "name"), None);
}

#[test]
fn a_table_that_is_absent_is_none_and_keys_that_are_have_their_defaults() {
    assert_eq!(read_lamp(json!({})), (None, Vec::new()));
    let default = Lamp {
        brightness: 50,
        is_on: false,
        colours: Vec::new(),
        bulbs: Vec::new(),
    };
    assert_eq!(read_lamp(json!({"lamp": {}})), (Some(default), Vec::new()));
    let written = json!({"lamp": {
        "brightness": 7, "is_on": true, "colours": ["red"], "bulb": [{"name": "a"}],
    }});
    let lamp = Lamp {
        brightness: 7,
        is_on: true,
        colours: vec!["red".into()],
        bulbs: vec![Some("a".into())],
    };
    assert_eq!(read_lamp(written), (Some(lamp), Vec::new()));
}

#[test]
fn every_mistake_is_noted_and_hides_no_other() {
    let (lamp, found) = read_lamp(json!({
        "stat": "x",
        "lamp": {
            "brightness": 101, "is_on": 1, "colours": ["red", "", 3], "colour": 1,
            "bulb": [{"nam": "a"}, 5, {"name": "a"}, {"name": null}],
        },
    }));
    let expected = [
        "stat: no such key; did you mean `state`?",
        "lamp.colour: no such key; did you mean `colours`?",
        "lamp.brightness: 101 is out of bounds; 1 to 100 are allowed",
        "lamp.is_on: is the number `1`; `true` or `false` is needed",
        "lamp.colours[1]: `` is no word",
        "lamp.colours[2]: is the number `3`; a text in quotes is needed",
        "lamp.bulb[0].nam: no such key; did you mean `name`?",
        "lamp.bulb[0].name: missing; write it as `name = \"a\"`",
        "lamp.bulb[1]: is the number `5`; a table under `[[lamp.bulb]]` is needed",
        "lamp.bulb[3].name: is something that is no number; a text in quotes is needed",
    ];
    assert_eq!(found, expected);
    let lamp = lamp.expect("it is there");
    assert_eq!((lamp.brightness, lamp.bulbs.len()), (50, 3));
    let (lamp, found) = read_lamp(json!({"lamp": []}));
    assert_eq!(lamp, None);
    assert_eq!(found, ["lamp: is a list; a table `[lamp]` is needed"]);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "the keys of `` that are read depend on their values")]
fn a_reader_that_leaves_a_key_out_is_found_out() {
    let hasty = |file: &mut Table<'_>| {
        let first = file.flag("first", true);
        first.then(|| file.flag("second", true))
    };
    read(
        &json!({"first": false}),
        Path::new("/"),
        &list(hasty),
        hasty,
    );
}
