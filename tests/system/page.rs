//! The page at `/` in a real browser.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{Lab, loopback, wait_for};

/// A browser that shows the page, lets it run for so many seconds of its own time (which passes
/// quickly, but waits for answers), and prints what it shows then.
fn browser(lab: &Lab, folder: &std::path::Path, seconds: u32) -> Child {
    Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.display()))
        .arg(format!("--virtual-time-budget={}", seconds * 1000))
        .arg(format!("http://{}/", lab.http))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium starts")
}

fn shown(browser: Child) -> String {
    let output = browser.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
#[ignore = "needs chromium"]
fn a_service_that_stops_under_the_open_page_is_gone_there() {
    let ip = loopback();
    let config = format!(
        "[http]\nlisten = \"{ip}:9167\"\n[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1kB.zip\"]\n"
    );
    let mut lab = Lab::start(&config);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runs = shown(browser(&lab, folder.path(), 3));
    for part in [
        "<p id=\"about\" class=\"\">version ",
        "<td class=\"up\" title=\"\">up</td>",
    ] {
        assert!(runs.contains(part), "{part}: {runs}");
    }
    assert!(!runs.contains("gone"), "{runs}");

    let asked = || lab.metric("labnet_http_requests_total{code=\"200\"}");
    let before = asked();
    // An hour: it is still looking when the service goes.
    let browser = browser(&lab, folder.path(), 3600);
    wait_for("the page to be open", || {
        thread::sleep(Duration::from_millis(20));
        // More than the page, what it loads and these questions.
        (asked() > before + 50.0).then_some(())
    });
    assert_eq!(lab.terminate(), Some(0));
    let gone = shown(browser);
    assert!(
        gone.contains("gone: the lab does not answer since "),
        "{gone}"
    );
    assert!(gone.contains("<td class=\"gone\""), "{gone}");
    assert!(!gone.contains("class=\"up\""), "{gone}");
    assert!(gone.contains("<title>labnet (gone)</title>"), "{gone}");
}
