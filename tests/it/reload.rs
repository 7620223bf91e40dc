//! Reload from outside: what `labnet reload` says is what has happened.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
};

use labnet::net::allowed_congestion;
use serde_json::Value;

use crate::support::{Lab, PATIENCE, labnet, loopback, probe::Addresses, wait_for};

#[test]
fn the_role_that_answers_is_made_anew_and_its_answer_arrives() {
    let ip = loopback();
    let url = format!("http://{ip}:9167/");
    let lab = Lab::start(&format!("[http]\nlisten = \"{ip}:9167\"\n"));
    for n in 0..20 {
        let fault_injection = n % 2 == 0;
        let config =
            format!("[http]\nlisten = \"{ip}:9167\"\nfault_injection = {fault_injection}\n");
        fs::write(lab.config(), config).expect("written");
        let output = labnet(&["reload", "--url", &url]);
        let (told, complaint) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(
            output.status.code(),
            Some(0),
            "reload {n}: {told}{complaint}"
        );
        assert!(
            told.contains(&format!("configuration {} runs", n + 2)),
            "{told}"
        );
        assert!(told.contains("http"), "{told}");
        // Whoever asks next is answered by the new one, without being refused in between.
        let crash = if fault_injection { 404 } else { 403 };
        assert_eq!(
            lab.post("/api/v1/components/nobody/crash").0,
            crash,
            "reload {n}"
        );
    }
}

#[test]
fn the_role_that_answers_moves_and_its_answer_arrives() {
    let ip = loopback();
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"task2.pdf\"]\n");
    let at = |port: u16| format!("[http]\nlisten = \"{ip}:{port}\"\n") + &origin;
    let lab = Lab::start(&at(9167));
    for n in 0..10u16 {
        fs::write(lab.config(), at(9168 + n)).expect("written");
        let url = format!("http://{ip}:{}/", 9167 + n);
        let output = labnet(&["reload", "--url", &url]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        // The old listener goes as soon as its role has been made anew.
        wait_for("the port", || TcpListener::bind((ip, 9167 + n)).ok());
    }
}

#[test]
fn a_role_that_comes_back_has_its_old_place_in_the_status() {
    let ip = loopback();
    let http = format!("[http]\nlisten = \"{ip}:9167\"\n");
    let scrap = format!("[scrap]\nlisten = \"{ip}:49153\"\norigin = \"http://{ip}:8080/\"\n");
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"task2.pdf\"]\n");
    let whole = [http.clone(), scrap.clone(), origin].concat();
    let lab = Lab::start(&whole);
    let names = || {
        let status = lab.json("/api/v1/status");
        let components = status["components"].as_array().expect("a list").clone();
        let names = components
            .iter()
            .map(|component| component["name"].to_string());
        names.collect::<Vec<_>>()
    };
    let before = names();
    assert_eq!(before.len(), 3);
    for config in [http + &scrap, whole] {
        fs::write(lab.config(), config).expect("written");
        let output = labnet(&["reload", "--url", &format!("http://{ip}:9167/")]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(names(), before);
}

#[test]
fn the_role_that_answers_goes_and_its_answer_arrives() {
    let ip = loopback();
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"40MB.zip\"]\n");
    let http = format!("[http]\nlisten = \"{ip}:9167\"\n");
    let lab = Lab::start(&(http.clone() + &origin));
    for _ in 0..5 {
        fs::write(lab.config(), &origin).expect("written");
        let output = labnet(&["reload", "--url", &format!("http://{ip}:9167/")]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(told.contains("http    stopped"), "{told}");
        wait_for("the port", || TcpListener::bind((ip, 9167)).ok());
        fs::write(lab.config(), http.clone() + &origin).expect("written");
        crate::support::signal(lab.pid(), "HUP");
        wait_for("the page", || (lab.get("/-/ready").0 == 200).then_some(()));
    }
}

#[test]
fn a_download_under_way_outlives_its_page() {
    let ip = loopback();
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"40MB.zip\"]\n");
    let http = format!("[http]\nlisten = \"{ip}:9167\"\n");
    let lab = Lab::start(&(http.clone() + &origin));
    let mut stream = TcpStream::connect((ip, 8080)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET /40MB.zip HTTP/1.1\r\nHost: lab\r\n\r\n").expect("sent");
    // More than the sockets' buffers hold is still to come when the page goes.
    let mut received = vec![0; 1 << 20];
    stream.read_exact(&mut received).expect("the beginning");
    fs::write(lab.config(), &http).expect("written");
    let (code, body) = lab.post("/-/reload");
    assert_eq!(code, 200, "{body}");
    // Its port is another's: the page may come back before the download has ended.
    wait_for("the port", || TcpListener::bind((ip, 8080)).ok());
    stream.read_to_end(&mut received).expect("the rest");
    let head = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    assert_eq!(received.len() - head - 4, 40_000_000);
}

#[test]
fn a_refused_reload_leaves_no_port_bound_that_it_tried() {
    let ip = loopback();
    let zone =
        "$TTL 300\n@ IN SOA ns1 admin 1 3600 600 86400 60\n@ IN NS ns1\nns1 IN A 127.0.0.1\n";
    let http = format!("[http]\nlisten = \"{ip}:9167\"\n");
    let dns = |port: u16| {
        format!(
            "[dns]\nlisten = [\"{ip}:{port}\"]\n[[dns.zone]]\nname = \"example.com.\"\nfile = \"example.com.zone\"\n"
        )
    };
    let lab = Lab::start_with(
        &(http.clone() + &dns(5300)),
        &[("example.com.zone", zone)],
        None,
    );
    let taken = TcpListener::bind((ip, 49153)).expect("free");
    let mistakes = [
        // The second is found only by binding, when dns has its new sockets.
        "[scrap]\nlisten = \"nowhere\"\n".to_owned(),
        format!("[scrap]\nlisten = \"{ip}:49153\"\norigin = \"http://{ip}:8080/\"\n"),
        format!("[origin]\nlisten = \"{ip}:49153\"\n"),
    ];
    for mistake in mistakes {
        fs::write(lab.config(), http.clone() + &dns(5301) + &mistake).expect("written");
        let (code, body) = lab.post("/-/reload");
        assert_eq!(code, 400, "{mistake}: {body}");
        UdpSocket::bind((ip, 5301)).unwrap_or_else(|error| panic!("{mistake}: udp: {error}"));
        TcpListener::bind((ip, 5301)).unwrap_or_else(|error| panic!("{mistake}: tcp: {error}"));
        // And the old ones are still held, by who answers there.
        UdpSocket::bind((ip, 5300)).expect_err("dns listens there");
    }
    drop(taken);
    // A busy port refuses too, whatever role is prepared after it.
    let taken = UdpSocket::bind((ip, 5302)).expect("free");
    fs::write(lab.config(), http.clone() + &dns(5302)).expect("written");
    assert_eq!(lab.post("/-/reload").0, 400);
    wait_for("the port", || TcpListener::bind((ip, 5302)).ok());
    drop(taken);
    // A child that another test is just about to start holds it for a moment, too.
    wait_for("the reload", || {
        (lab.post("/-/reload").0 == 200).then_some(())
    });
}

#[test]
fn the_origin_s_congestion_control_changes_under_a_live_connection() {
    let ip = loopback();
    let http = format!("[http]\nlisten = \"{ip}:9167\"\n");
    let origin = format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1kB.zip\"]\n");
    let by = |name: &str| format!("{http}{origin}congestion = \"{name}\"\n");
    let allowed = allowed_congestion();
    let lab = Lab::start(&by(&allowed[0]));
    let mut stream = TcpStream::connect((ip, 8080)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for name in &allowed {
        fs::write(lab.config(), by(name)).expect("written");
        let (code, body) = lab.post("/-/reload");
        assert_eq!(code, 200, "{body}");
        write!(stream, "HEAD /1kB.zip HTTP/1.1\r\nHost: lab\r\n\r\n").expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("text");
        assert!(
            head.contains(&format!("labnet-congestion: {name}\r\n")),
            "{head}"
        );
    }
    // One that the kernel has not is refused with those that it has.
    fs::write(lab.config(), by("nosuch")).expect("written");
    let (code, body) = lab.post("/-/reload");
    assert_eq!(code, 400, "{body}");
    assert!(
        body.contains("origin.congestion") && body.contains(&allowed[0]),
        "{body}"
    );
    let config = lab.config();
    let checked = labnet(&["check", config.to_str().expect("UTF-8")]);
    let told = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(2), "{told}");
    assert!(
        told.contains("origin.congestion: this kernel has no"),
        "{told}"
    );
}

/// What `POST path` answers, without what a look beforehand cannot have.
fn foreseen(lab: &Lab, path: &str) -> (u16, Value) {
    let (code, body) = lab.post(path);
    let mut answer: Value = serde_json::from_str(&body).expect("JSON");
    let answer_of = answer.as_object_mut().expect("an object");
    assert!(answer_of.remove("generation").is_some(), "{body}");
    answer_of.remove("dry_run");
    (code, answer)
}

#[test]
fn a_dry_run_answers_what_the_reload_then_does() {
    let addresses = Addresses(loopback());
    let (ip, other) = (addresses.0, loopback());
    let zone = addresses.zone();
    let whole = addresses.config(
        &format!("http://{ip}:8080/"),
        &format!("[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n"),
    ) + "[supervisor]\nmax_restarts = 1000\nwithin = \"1h\"\n";
    let lab = Lab::start_with(&whole, &[("example.com.zone", &zone)], None);
    let both = |config: &str| {
        fs::write(lab.config(), config).expect("written");
        let before = foreseen(&lab, "/-/reload?dry_run");
        let then = foreseen(&lab, "/-/reload");
        assert_eq!(before, then, "{config}");
        before
    };
    let actions = |answer: &Value| -> Vec<(String, String)> {
        let changes = answer["changes"].as_array().expect("a list");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let change = |change: &Value| (text(&change["component"]), text(&change["action"]));
        changes.iter().map(change).collect()
    };
    let all = ["origin", "scrap", "dns", "dhcp", "rudp", "http"];
    let alike = |action: &str| {
        all.map(|role| (role.to_owned(), action.to_owned()))
            .to_vec()
    };

    let (code, answer) = both(&whole);
    assert_eq!((code, actions(&answer)), (200, alike("kept")));

    // Of every role something, all of it while it runs: a list of addresses, too, and a zone's file.
    let changed = whole
        .replace("24h", "12h")
        .replace("1MB.zip", "2MB.zip")
        .replace(
            "fault_injection = true",
            "fault_injection = true\nprotect_reads = false\nhosts = [\"lab.test\"]",
        )
        .replace(
            &format!("\"{ip}:5300\""),
            &format!("\"{other}:5300\", \"{ip}:5300\""),
        )
        .replace(
            &format!("\"{ip}:49152\""),
            &format!("\"{other}:49152\"\nmax_window = 7"),
        )
        .replace(
            &format!("\"{ip}:49153\""),
            &format!("\"{ip}:49153\"\nrefresh = \"7s\""),
        );
    let longer = format!("{zone}new IN A {ip}\n");
    fs::write(lab.dir().join("example.com.zone"), &longer).expect("written");
    let (code, answer) = both(&changed);
    assert_eq!((code, actions(&answer)), (200, alike("changed")));
    assert_eq!(answer["files"].as_array().map(Vec::len), Some(1));

    // Some go, some come back.
    let shorter = format!(
        "[http]\nlisten = \"{ip}:9167\"\nfault_injection = true\n[supervisor]\nmax_restarts = 1000\nwithin = \"1h\"\n"
    );
    let (code, answer) = both(&shorter);
    let mut gone = alike("stopped");
    gone[5].1 = "changed".to_owned();
    assert_eq!((code, actions(&answer)), (200, gone));
    let (code, answer) = both(&whole);
    let mut back = alike("started");
    back[5].1 = "kept".to_owned();
    assert_eq!((code, actions(&answer)), (200, back));

    // What can't change while it runs is refused, by both, with the key.
    for (from, to, key) in [
        ("\"state\"", "\"elsewhere\"", "state_dir: "),
        (":49152\"", ":49152\"\nshards = 2", "rudp.shards: "),
        ("lease_time", "lease_tome", "dhcp.subnet"),
    ] {
        let (code, answer) = both(&whole.replacen(from, to, 1));
        assert_eq!(code, 400, "{answer}");
        let problem = answer["problems"][0].as_str().expect("a problem");
        assert!(problem.contains(key), "{problem}");
    }

    // A role that has failed, and pauses, is restarted. It may come back by itself between the two.
    let mut round = 0;
    let (words, answer) = wait_for("a reload while it was down", || {
        round += 1;
        let state = || {
            let (_, status) = lab.get("/api/v1/status");
            let status: Value = serde_json::from_str(&status).expect("JSON");
            let components = status["components"].as_array().expect("a list");
            let dns = components
                .iter()
                .find(|component| component["name"] == "dns");
            dns.expect("it is there").clone()
        };
        let before = state()["restarts"].as_u64().expect("a number");
        for _ in 0..6 {
            assert_eq!(lab.post("/api/v1/components/dns/crash").0, 202);
        }
        wait_for("the sixth failure", || {
            (state()["restarts"] == before + 6).then_some(())
        });
        fs::write(
            lab.config(),
            whole.replace(
                "[dns]\n",
                &format!("[dns]\nmax_connections = {}\n", 100 + round),
            ),
        )
        .expect("written");
        let url = format!("http://{}/", lab.http);
        let words = labnet(&["reload", "--dry-run", "--url", &url]).stdout;
        let foreseen_now = foreseen(&lab, "/-/reload?dry_run");
        let then = foreseen(&lab, "/-/reload");
        let came_back = actions(&then.1)[2].1 == "changed";
        if came_back {
            return None;
        }
        assert_eq!(foreseen_now, then);
        Some((String::from_utf8(words).expect("UTF-8"), then.1))
    });
    assert_eq!(answer["changes"][2]["action"], "restarted", "{answer}");
    assert_eq!(
        answer["changes"][2]["reason"],
        "it was down: fault injection"
    );
    assert!(
        words.contains("dns     restarted: it was down: fault injection"),
        "{words}"
    );
}
