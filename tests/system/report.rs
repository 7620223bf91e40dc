//! The report of `labnet compare` in a real browser: what it draws is read back from the page and
//! compared with what was measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use labnet::compare::{
    outcome::{Cut, Outcome},
    series::Series,
};
use serde_json::Value;

use crate::support::browser::Browser;

/// The plots' positions on the page, and what the numbers on the axes say: of the time, and of each plot.
const AXES: &str = "
  const box = document.querySelector('#plots svg').getBoundingClientRect();
  const number = text => [+text.textContent, text];
  const near = (text, part) => { const b = text.getBoundingClientRect(); return part === 'x' ? b.x + b.width / 2 : b.y + b.height / 2; };
  const times = [...document.querySelectorAll('#plots svg > text')].filter(t => /^[0-9.]+$/.test(t.textContent)).map(t => [+t.textContent, near(t, 'x')]);
  const panels = [...document.querySelectorAll('#plots .panel')].map(panel => {
    const ticks = [...panel.querySelectorAll(':scope > text[text-anchor=end]')].filter(t => /^[0-9.]+$/.test(t.textContent)).map(t => +t.textContent);
    const levels = [...panel.querySelectorAll('line.grid')].filter(l => l.y1.baseVal.value === l.y2.baseVal.value).map(l => l.getBoundingClientRect().y);
    const vertices = [...panel.querySelectorAll('path.curve')].filter(p => p.closest('[clip-path]')).map(path => {
      const scale = box.width / document.querySelector('#plots svg').viewBox.baseVal.width;
      const found = []; let x = 0, y = 0;
      for (const [, letter, rest] of path.getAttribute('d').matchAll(/([MLHV])([^MLHVZ]*)/g)) {
        const n = rest.trim().split(' ').map(Number);
        if (letter === 'H') x = n[0]; else if (letter === 'V') y = n[0]; else [x, y] = n;
        found.push([box.x + x * scale, box.y + y * scale]);
      }
      return [path.getAttribute('class'), found];
    });
    return { title: panel.querySelector('text.title').textContent, ticks, levels, vertices,
      cuts: panel.querySelectorAll('circle.cut').length, marks: panel.querySelectorAll('path.mark').length,
      bands: panel.querySelectorAll('rect.band').length };
  });
  return { times, panels };
";

/// What `labnet compare` says of some seconds of virtual time, as JSON and as the file that it writes.
fn compared(more: &[&str], folder: &Path) -> (Outcome, PathBuf) {
    let file = folder.join("report.html");
    let run = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args([
            "compare",
            "--simulate",
            "--json",
            "--time",
            "8s",
            "--loss",
            "0.2",
            "--out",
        ])
        .arg(&file)
        .args(more)
        .output()
        .expect("it runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    (
        serde_json::from_slice(&run.stdout).expect("an outcome"),
        file,
    )
}

/// Where a value lies on an axis of which two numbers' places are known, and back.
#[derive(Debug, Clone, Copy)]
struct Axis {
    zero: f64,
    each: f64,
}

impl Axis {
    fn through((a, at_a): (f64, f64), (b, at_b): (f64, f64)) -> Self {
        let each = (at_b - at_a) / (b - a);
        Self {
            zero: at_a - a * each,
            each,
        }
    }

    fn place(self, value: f64) -> f64 {
        self.zero + self.each * value
    }

    fn value(self, place: f64) -> f64 {
        (place - self.zero) / self.each
    }
}

fn pair(value: &Value) -> (f64, f64) {
    (
        value[0].as_f64().expect("a number"),
        value[1].as_f64().expect("a number"),
    )
}

fn time_axis(axes: &Value) -> Axis {
    let times = axes["times"].as_array().expect("a list");
    Axis::through(pair(&times[0]), pair(times.last().expect("several")))
}

/// The axis of a plot's values, in the unit that stands there.
fn value_axis(panel: &Value) -> Axis {
    let number = |list: &Value, n: usize| list[n].as_f64().expect("a number");
    let last = panel["ticks"].as_array().expect("a list").len() - 1;
    let end = |n: usize| (number(&panel["ticks"], n), number(&panel["levels"], n));
    Axis::through(end(0), end(last))
}

fn panel<'a>(axes: &'a Value, title: &str) -> &'a Value {
    let mut panels = axes["panels"].as_array().expect("a list").iter();
    let found = panels.find(|panel| panel["title"].as_str().expect("a text").starts_with(title));
    found.unwrap_or_else(|| panic!("no {title}"))
}

/// Whether all of a drawn line lies where the measured series went.
#[track_caller]
fn assert_true(axes: &Value, title: &str, class: &str, series: &Series, factor: f64, ahead: bool) {
    let panel = panel(axes, title);
    let (time, values) = (time_axis(axes), value_axis(panel));
    let lines = panel["vertices"].as_array().expect("a list");
    let line = lines
        .iter()
        .find(|line| line[0].as_str().expect("a class").contains(class));
    let line = line.unwrap_or_else(|| panic!("{title} has no {class}"));
    let vertices = line[1].as_array().expect("a list");
    assert!(vertices.len() > 20, "{title}: {}", vertices.len());
    let pixel = (1.0 / time.each).abs() * 1.5;
    for vertex in vertices {
        let (x, y) = pair(vertex);
        let (at, is) = (time.value(x), values.value(y) / factor);
        // What was measured within a pixel of there, and the values just before and after.
        let first = series
            .at_seconds
            .partition_point(|other| *other < at - pixel);
        let last = series
            .at_seconds
            .partition_point(|other| *other <= at + pixel);
        let end = (last + 1).min(series.values.len());
        let around = &series.values[first.saturating_sub(1)..if ahead { end } else { end.max(1) }];
        let least = around.iter().copied().fold(f64::INFINITY, f64::min);
        let most = around.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let slack = (1.5 / values.each / factor).abs();
        assert!(
            (least - slack..=most + slack).contains(&is),
            "{title} at {at:.3} s: {is} is drawn, {least} to {most} was measured"
        );
    }
}

fn text(browser: &Browser, selector: &str) -> String {
    let script = format!(
        "const all = [...document.querySelectorAll({selector:?})].filter(one => one.checkVisibility());\
         return all.map(one => one.innerText).join('\\n')"
    );
    browser.run(&script).as_str().expect("a text").to_owned()
}

fn count(browser: &Browser, selector: &str) -> u64 {
    let script = format!("return document.querySelectorAll({selector:?}).length");
    browser.run(&script).as_u64().expect("a number")
}

/// Moves a pointer to a time at the height of a plot.
fn point(browser: &Browser, time: Axis, title: &str, seconds: &[f64]) {
    let script = format!(
        "const title = [...document.querySelectorAll('#plots text.title')].find(t => t.textContent.startsWith({title:?}));\
         title.scrollIntoView({{block: 'center'}});\
         return title.getBoundingClientRect().bottom + 40"
    );
    let y = browser.run(&script).as_f64().expect("a place");
    let places: Vec<(f64, f64)> = seconds.iter().map(|at| (time.place(*at), y)).collect();
    browser.drag(&places);
}

#[test]
#[ignore = "needs chromium-driver"]
fn the_report_draws_what_was_measured_reads_it_out_and_zooms() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (outcome, file) = compared(&[], folder.path());
    let browser = Browser::open();
    browser.see(1200, 900, "light", "screen");
    browser.show(&file);
    let axes = browser.run(AXES);
    assert_plots(&axes, &outcome);

    // The reading line says the values, and at a cut why it was made.
    let run = &outcome.runs[0];
    let flow = &run.flows[0];
    let cut: &Cut = flow
        .trace
        .cuts
        .iter()
        .max_by_key(|cut| cut.before_bytes)
        .expect("a cut");
    point(&browser, time_axis(&axes), &flow.name, &[cut.at_seconds]);
    let why = text(&browser, "#readout .why");
    assert!(
        flow.trace.cuts.iter().any(|cut| why.contains(&cut.words)),
        "{cut:?}: {why} {}",
        text(&browser, "#readout thead")
    );
    let read = text(&browser, "#readout table");
    for name in ["window", "round trip", "throughput", "phase", &flow.name] {
        assert!(read.contains(name), "{name}: {read}");
    }
    let shown = browser.run(
        "const head = [...document.querySelectorAll('#readout thead th')].map(t => t.textContent);\
         const row = [...document.querySelector('#readout tbody tr').children].map(t => t.textContent);\
         return [parseFloat(head[0]), parseFloat(row[head.indexOf('window')]), row[head.indexOf('window')]]",
    );
    let (at, window) = pair(&shown);
    let factor = if shown[2].as_str().expect("a text").ends_with("MB") {
        1e6
    } else {
        1e3
    };
    let series = &flow.trace.window_bytes;
    let last = series.at_seconds.partition_point(|other| *other <= at);
    // The script reads the series that are thinned for the page, and three digits.
    let near = &series.values[last.saturating_sub(8)..(last + 8).min(series.values.len())];
    let fits = |value: &f64| (value - window * factor).abs() <= value * 0.006;
    assert!(near.iter().any(fits), "{shown}: {near:?}");

    // Drawn over, a stretch of time is chosen; the same is true of what is seen of it.
    let time = time_axis(&axes);
    let seconds = run.seconds;
    let (from, until) = (seconds * 0.3, seconds * 0.5);
    point(&browser, time, "round trip", &[from, from + 0.1, until]);
    let zoomed = browser.run(AXES);
    let pixel = 1.0 / time.each;
    let left = pair(&zoomed["panels"][0]["vertices"][0][1][0]).0;
    let begins = time_axis(&zoomed).value(time.place(0.0));
    assert!(
        (begins - from).abs() < 3.0 * pixel,
        "{begins} {from} {left}"
    );
    assert!(time_axis(&zoomed).each > 4.5 * time.each);
    assert_plots(&zoomed, &outcome);
    browser.run("document.querySelector('#plots').focus()");
    browser.keys("0");
    let back = time_axis(&browser.run(AXES));
    assert!((back.each - time.each).abs() < 1e-6, "{back:?} {time:?}");
    browser.keys("+");
    assert!((time_axis(&browser.run(AXES)).each / time.each - 2.0).abs() < 0.01);
    browser.run("document.querySelector('#whole').click()");
    let wheel = "document.querySelector('#plots').dispatchEvent(new WheelEvent('wheel', \
        {ctrlKey: true, deltaY: -100, clientX: 500, clientY: 400, cancelable: true, bubbles: true}))";
    browser.run(wheel);
    assert!((time_axis(&browser.run(AXES)).each / time.each - 1.25).abs() < 0.01);
    browser.keys("0");

    // The keyboard goes from cut to cut.
    browser.keys("\u{e00c}");
    let mut before = -1.0;
    for _ in 0..3 {
        browser.keys("c");
        assert_ne!(text(&browser, "#readout .why"), "");
        let head = text(&browser, "#readout thead th:first-child");
        let at = head.trim_end_matches(" s").parse().expect("a time");
        assert!(at > before, "{at} after {before}");
        before = at;
    }

    // A sender is put away, and comes back.
    let all = count(&browser, "#plots .panel");
    browser.run("document.querySelector('#legend button').click()");
    assert_eq!(count(&browser, "#plots .panel"), all - 1);
    assert_eq!(count(&browser, "#plots .curve.f0"), 0);
    browser.run("document.querySelector('#legend button').click()");
    assert_eq!(count(&browser, "#plots .panel"), all);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// All lines that are compared are true, and nothing that was measured is missing.
fn assert_plots(axes: &Value, outcome: &Outcome) {
    for (number, run) in outcome.runs.iter().enumerate() {
        let flow = &run.flows[0];
        let trace = &flow.trace;
        let f = format!("f{number}");
        let kilobytes = |title: &str| match panel(axes, title)["title"].as_str() {
            Some(title) if title.ends_with("(MB)") => 1e-6,
            Some(title) if title.ends_with("(kB)") => 1e-3,
            title => panic!("{title:?}"),
        };
        assert_true(
            axes,
            &flow.name,
            "window",
            &trace.window_bytes,
            kilobytes(&flow.name),
            false,
        );
        assert_true(axes, "round trip", &f, &trace.rtt_seconds, 1e3, false);
        assert_true(
            axes,
            "queue",
            &f,
            &run.queue_bytes,
            kilobytes("queue"),
            false,
        );
        assert_true(
            axes,
            "throughput",
            &f,
            &trace.goodput_bits_per_second,
            1e-6,
            true,
        );
        let panel = panel(axes, &flow.name);
        assert!(!trace.losses.is_empty() && panel["marks"].as_u64() > Some(0));
        assert!(panel["bands"].as_u64() > Some(0));
    }
}

#[test]
#[ignore = "needs chromium-driver"]
fn who_is_asked_first_sees_nothing_before_the_own_sketch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (outcome, file) = compared(&["--ask"], folder.path());
    let browser = Browser::open();
    browser.see(1200, 900, "light", "screen");
    browser.show(&file);
    assert_eq!(count(&browser, "#plots [clip-path] *"), 0);
    assert_eq!(text(&browser, "table.results"), "");
    let disabled = || browser.run("return document.querySelector('#reveal').disabled");
    assert_eq!(disabled(), true);
    let time = time_axis(&browser.run(AXES));
    let name = &outcome.runs[0].flows[0].name;
    point(&browser, time, name, &[1.0, 1.0, 2.0, 4.0]);
    assert_eq!(count(&browser, "#plots path.sketch"), 1);
    // It begins and ends where it was drawn.
    let ends = browser.run(
        "const box = document.querySelector('#plots path.sketch').getBoundingClientRect(); return [box.x, box.right]",
    );
    let (begin, end) = pair(&ends);
    assert!(
        (begin - time.place(1.0)).abs() < 3.0 && (end - time.place(4.0)).abs() < 3.0,
        "{ends}"
    );
    // The keys draw, too.
    browser.run("document.querySelector('#plots').focus()");
    browser.keys("\u{e00f}\u{e013}\u{e013}\u{e014}\u{e014}");
    assert_eq!(count(&browser, "#plots path.sketch"), 2);
    assert_eq!(disabled(), false);
    browser.run("document.querySelector('#reveal').click()");
    assert_eq!(count(&browser, "#plots path.sketch"), 2);
    assert_plots(&browser.run(AXES), &outcome);
    assert!(text(&browser, "table.results").contains("Mbit/s"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium-driver"]
fn it_fits_a_telephone_a_projector_and_paper_and_the_pictures_are_svg() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (outcome, file) = compared(
        &["--svg", &folder.path().join("svg").display().to_string()],
        folder.path(),
    );
    let browser = Browser::open();
    browser.show(&file);
    let size = "return parseFloat(getComputedStyle(document.documentElement).fontSize)";
    for (width, wanted) in [(400, 16.0), (1200, 16.0), (1920, 20.0)] {
        browser.see(width, 900, "light", "screen");
        browser.run("dispatchEvent(new Event('resize'))");
        let wide = browser.run("return document.documentElement.scrollWidth");
        assert_eq!(wide, width);
        assert_eq!(browser.run(size).as_f64(), Some(wanted));
        let plots = browser
            .run("return document.querySelector('#plots svg').getBoundingClientRect().right");
        assert!(plots.as_f64() <= Some(f64::from(width)));
        assert_plots(&browser.run(AXES), &outcome);
    }
    let background = "return getComputedStyle(document.body).backgroundColor";
    browser.see(1200, 900, "dark", "screen");
    assert_eq!(browser.run(background), "rgb(20, 23, 26)");
    // On paper it is light, and lines differ in their dashes.
    browser.see(1200, 900, "dark", "print");
    assert_eq!(browser.run(background), "rgb(255, 255, 255)");
    let dashes = "return [...document.querySelectorAll('#plots .rtt.dashed')].map(l => getComputedStyle(l).strokeDasharray)";
    let dashes = browser.run(dashes);
    let dashes = dashes.as_array().expect("a list");
    assert!(dashes.len() > 1 && dashes[0] != dashes[1], "{dashes:?}");
    let pictures = fs::read_dir(folder.path().join("svg")).expect("a folder");
    let pictures: Vec<PathBuf> = pictures
        .map(|entry| entry.expect("a file").path())
        .collect();
    assert_eq!(pictures.len(), 5, "{pictures:?}");
    for file in pictures {
        browser.show(&file);
        assert_eq!(
            browser.run("return document.documentElement.nodeName"),
            "svg"
        );
        assert_eq!(count(&browser, "parsererror"), 0, "{}", file.display());
        assert!(count(&browser, "path") > 1);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Deque's checks of accessibility, from the npm registry.
fn axe(folder: &Path) -> String {
    let pack = Command::new("npm")
        .args(["pack", "--silent", "axe-core@4.14.1"])
        .current_dir(folder)
        .status();
    assert!(pack.expect("npm starts").success());
    let unpack = Command::new("tar")
        .args(["-xzf", "axe-core-4.14.1.tgz", "package/axe.min.js"])
        .current_dir(folder)
        .status();
    assert!(unpack.expect("tar starts").success());
    fs::read_to_string(folder.join("package/axe.min.js")).expect("it is in there")
}

#[test]
#[ignore = "needs chromium-driver, npm and its registry"]
fn axe_finds_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let axe = axe(folder.path());
    let browser = Browser::open();
    for (width, scheme, ask) in [
        (1200, "light", false),
        (1200, "dark", false),
        (400, "light", false),
        (1200, "light", true),
    ] {
        let more: &[&str] = if ask {
            &["--ask"]
        } else {
            &["--sweep", "loss=0.5,2"]
        };
        let (_, file) = compared(more, folder.path());
        browser.see(width, 900, scheme, "screen");
        browser.show(&file);
        if !ask {
            let all = "for (const fold of document.querySelectorAll('details')) fold.open = true;\
                       document.querySelector('#plots').focus()";
            browser.run(all);
            browser.keys("c");
            assert_ne!(text(&browser, "#readout .why"), "");
        }
        let found = browser.run(&format!(
            "{axe}; return axe.run(document).then(found => [found.passes.length, found.violations.map(v => [v.id, v.nodes.map(n => n.html + ' ' + n.failureSummary)])])"
        ));
        assert!(found[0].as_u64() > Some(15), "{found}");
        assert_eq!(
            found[1],
            serde_json::json!([]),
            "{width} {scheme} ask {ask}"
        );
    }
}
