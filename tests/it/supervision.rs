//! The tree from outside: crashes by fault injection, reload, shutdown.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::support::{Lab, PATIENCE, loopback, request, wait_for};

#[test]
fn a_crashed_component_is_back_and_counted() {
    let lab = Lab::start("");
    assert_eq!(lab.post("/api/v1/components/http/crash").0, 202);
    let restarts = "labnet_component_restarts_total{component=\"http\",reason=\"panic\"}";
    wait_for("the restart", || {
        (lab.metric(restarts) == 1.0).then_some(())
    });
    wait_for("readiness", || (lab.get("/-/ready").0 == 200).then_some(()));
    assert_eq!(lab.post("/api/v1/components/nobody/crash").0, 404);
}

#[test]
fn fault_injection_is_off_unless_configured() {
    let ip = loopback();
    let lab = Lab::start(&format!("[http]\nlisten = \"{ip}:9167\"\n"));
    assert_eq!(lab.post("/api/v1/components/http/crash").0, 403);
    assert_eq!(lab.metric("labnet_component_up{component=\"http\"}"), 1.0);
}

#[test]
fn a_reload_applies_a_good_file_and_refuses_a_bad_one() {
    let ip = loopback();
    let lab = Lab::start(&format!("[http]\nlisten = \"{ip}:9167\"\n"));
    fs::write(lab.config(), "[http]\nlisten = \"nowhere\"\nspeed = 7\n").expect("write");
    let (code, body) = lab.post("/-/reload");
    assert_eq!(code, 400, "{body}");
    assert!(
        body.contains("http.listen") && body.contains("http.speed"),
        "{body}"
    );
    assert_eq!(lab.metric("labnet_config_last_reload_successful"), 0.0);
    assert_eq!(lab.metric("labnet_config_generation"), 1.0);
    fs::write(
        lab.config(),
        format!("[http]\nlisten = \"{ip}:9167\"\nfault_injection = true\n"),
    )
    .expect("write");
    let (code, body) = lab.post("/-/reload");
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("http.fault_injection"), "{body}");
    assert_eq!(lab.metric("labnet_config_generation"), 2.0);
    assert_eq!(lab.post("/api/v1/components/http/crash").0, 202);
}

#[test]
fn a_page_that_cannot_be_read_is_told_until_it_can() {
    let ip = loopback();
    let config = format!(
        "[http]\nlisten = \"{ip}:9167\"\n[scrap]\nlisten = \"{ip}:49153\"\n\
         origin = \"http://{ip}:8080/\"\nrefresh = \"1s\"\n"
    );
    let lab = Lab::start(&config);
    let missing = format!("scrap (degraded: the download page http://{ip}:8080/ cannot be read: ");
    wait_for("a degraded scraper", || {
        let (code, body) = lab.get("/-/ready");
        (code == 503 && body.contains(&missing)).then_some(())
    });
    let degraded = "labnet_component_state{component=\"scrap\",state=\"degraded\"}";
    assert_eq!(lab.metric(degraded), 1.0);
    assert_eq!(lab.get("/-/healthy").0, 200, "it heals by itself");
    // The page comes.
    let page = format!("{config}[origin]\nlisten = \"{ip}:8080\"\n");
    fs::write(lab.config(), page).expect("written");
    assert_eq!(lab.post("/-/reload").0, 200);
    wait_for("readiness", || (lab.get("/-/ready").0 == 200).then_some(()));
    assert_eq!(lab.metric(degraded), 0.0);
    // It goes again, and the scraper is given another one that is there.
    fs::write(lab.config(), &config).expect("written");
    assert_eq!(lab.post("/-/reload").0, 200);
    wait_for("a degraded scraper", || {
        lab.get("/-/ready").1.contains(&missing).then_some(())
    });
    let other = config.replace(&format!("http://{ip}:8080/"), &format!("http://{ip}:8081/"));
    fs::write(
        lab.config(),
        format!("{other}[origin]\nlisten = \"{ip}:8081\"\n"),
    )
    .expect("written");
    assert_eq!(lab.post("/-/reload").0, 200);
    wait_for("readiness", || (lab.get("/-/ready").0 == 200).then_some(()));
}

#[test]
fn sighup_reloads_and_sigterm_stops_with_success() {
    let mut lab = Lab::start("");
    crate::support::signal(lab.pid(), "HUP");
    wait_for("the reload", || {
        (lab.metric("labnet_config_generation") == 2.0).then_some(())
    });
    assert_eq!(lab.terminate(), Some(0));
    lab.expect_log("stopped");
}

#[test]
fn a_component_that_keeps_failing_ends_the_process_with_an_error() {
    let ip = loopback();
    let mut lab = Lab::start(&format!(
        "[supervisor]\nmax_restarts = 1\n[http]\nlisten = \"{ip}:9167\"\nfault_injection = true\n"
    ));
    lab.post("/api/v1/components/http/crash");
    wait_for("the restart", || {
        (lab.get("/-/ready").0 == 200).then_some(())
    });
    wait_for("the end", || {
        lab.post("/api/v1/components/http/crash");
        lab.exit_code()
    });
    assert_eq!(lab.exit_code(), Some(1));
}

#[test]
fn a_download_under_way_lives_through_a_crash_and_a_reload() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\nfault_injection = true\n\
         [origin]\nlisten = \"{ip}:8080\"\nsamples = [\"40MB.zip\"]\n"
    ));
    let mut stream = TcpStream::connect((ip, 8080)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(
        stream,
        "GET /40MB.zip HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    )
    .expect("open");
    // More than the sockets' buffers hold is still to come when the actor goes.
    let mut received = vec![0; 1 << 20];
    stream.read_exact(&mut received).expect("the beginning");
    assert_eq!(lab.post("/api/v1/components/origin/crash").0, 202);
    let restarts = "labnet_component_restarts_total{component=\"origin\",reason=\"panic\"}";
    wait_for("the restart", || {
        (lab.metric(restarts) == 1.0).then_some(())
    });
    let config = fs::read_to_string(lab.config()).expect("the file");
    fs::write(lab.config(), config.replace("40MB.zip", "7MB.zip")).expect("write");
    let (code, body) = lab.post("/-/reload");
    assert_eq!(code, 200, "{body}");
    assert_eq!(request((ip, 8080).into(), "GET", "/40MB.zip").0, 404);
    stream.read_to_end(&mut received).expect("the rest");
    let head = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    assert_eq!(received.len() - head - 4, 40_000_000);
}

#[test]
fn every_address_of_a_list_is_listened_on() {
    let (first, second) = (loopback(), loopback());
    let lab = Lab::start(&format!(
        "[http]\nlisten = [\"{first}:9167\", \"{second}:9167\"]\n\
         [origin]\nlisten = [\"{first}:8080\", \"{second}:8080\"]\n\
         [scrap]\nlisten = [\"{first}:49153\", \"{second}:49153\"]\n"
    ));
    for ip in [first, second] {
        assert_eq!(request((ip, 9167).into(), "GET", "/-/ready").0, 200);
        assert_eq!(request((ip, 8080).into(), "GET", "/").0, 200);
        let mut scraper = TcpStream::connect((ip, 49153)).expect("a connection");
        scraper.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        scraper.write_all(b"SIGNGET").expect("sent");
        let mut list = String::new();
        scraper.read_to_string(&mut list).expect("a list");
        assert!(list.starts_with("50MB.zip;"), "{list}");
    }
    // A reload takes one away, and keeps the other.
    let config = fs::read_to_string(lab.config()).expect("the file");
    let shorter = config.replace(&format!(", \"{second}:8080\""), "");
    fs::write(lab.config(), shorter).expect("write");
    assert_eq!(lab.post("/-/reload").0, 200);
    assert_eq!(request((first, 8080).into(), "GET", "/").0, 200);
    wait_for("the listener to close", || {
        TcpStream::connect((second, 8080)).is_err().then_some(())
    });
}

#[test]
fn a_reload_names_every_key_that_is_different_and_a_dry_run_does_nothing() {
    let ip = loopback();
    let before = format!(
        "[http]\nlisten = \"{ip}:9167\"\n[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n"
    );
    let lab = Lab::start(&before);
    let after = before.replace("1MB.zip", "2MB.zip") + "[supervisor]\nmax_restarts = 7\n";
    fs::write(lab.config(), after).expect("write");
    for (path, dry_run, generation) in [
        ("/-/reload?dry_run", true, 1.0),
        ("/-/reload?dry_run", true, 1.0),
        ("/-/reload", false, 2.0),
    ] {
        let (code, body) = lab.post(path);
        assert_eq!(code, 200, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(answer["dry_run"], dry_run);
        let keys: Vec<_> = answer["keys"].as_array().expect("a list").iter().collect();
        assert_eq!(keys.len(), 2, "{body}");
        assert_eq!(keys[0]["key"], "origin.samples");
        assert_eq!(keys[0]["from"], "[\"1MB.zip\"]");
        assert_eq!(keys[0]["to"], "[\"2MB.zip\"]");
        assert_eq!(keys[1]["key"], "supervisor.max_restarts");
        assert_eq!(lab.metric("labnet_config_generation"), generation);
        let served = request((ip, 8080).into(), "HEAD", "/2MB.zip").0;
        assert_eq!(served, if dry_run { 404 } else { 200 });
    }
    fs::write(lab.config(), "[http]\nlisten = 7\n").expect("write");
    let (code, body) = lab.post("/-/reload?dry_run");
    assert_eq!(code, 400, "{body}");
    assert!(body.contains("http.listen"), "{body}");
    // Nobody tried to change anything.
    assert_eq!(lab.metric("labnet_config_last_reload_successful"), 1.0);
}

#[test]
fn a_watched_file_is_taken_up_by_itself_and_a_bad_one_is_not() {
    let ip = loopback();
    let config = |samples: &str| {
        format!(
            "[reload]\nwatch = true\n[http]\nlisten = \"{ip}:9167\"\n\
             [origin]\nlisten = \"{ip}:8080\"\nsamples = [\"{samples}\"]\n"
        )
    };
    let lab = Lab::start(&config("1MB.zip"));
    let generation = |number: f64| {
        wait_for("the reload", || {
            (lab.metric("labnet_config_generation") == number).then_some(())
        });
    };
    fs::write(lab.config(), config("2MB.zip")).expect("write");
    generation(2.0);
    fs::write(lab.config(), "[http]\nlisten = 7\n").expect("write");
    wait_for("the refusal", || {
        (lab.metric("labnet_config_reload_failures_total") == 1.0).then_some(())
    });
    // As an editor does it; after a bad one.
    let new = lab.dir().join("labnet.toml~");
    fs::write(&new, config("3MB.zip")).expect("write");
    fs::rename(&new, lab.config()).expect("renamed");
    generation(3.0);
    assert_eq!(request((ip, 8080).into(), "HEAD", "/3MB.zip").0, 200);
    // The watch itself is switched off by the file, too.
    let off = config("4MB.zip").replace("watch = true", "watch = false");
    fs::write(lab.config(), off).expect("write");
    generation(4.0);
}

#[test]
fn a_role_that_is_removed_takes_its_series_with_it() {
    let addresses = crate::support::probe::Addresses(loopback());
    let ip = addresses.0;
    let config = addresses.config(&format!("http://{ip}:8080/"), "");
    let lab = Lab::start_with(&config, &[("example.com.zone", &addresses.zone())], None);
    assert!(addresses.dhcp(PATIENCE) && addresses.dns(PATIENCE));
    let series = || {
        let (_, text) = lab.get("/metrics");
        text.lines()
            .filter(|line| {
                [
                    "\"dhcp\"",
                    "\"dns\"",
                    "\"rudp\"",
                    "dhcp_leases{",
                    "dhcp_pool",
                    "zone_records{",
                ]
                .iter()
                .any(|name| line.contains(name))
            })
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(series().len() > 10);
    fs::write(
        lab.config(),
        format!("[http]\nlisten = \"{ip}:9167\"\nfault_injection = true\n"),
    )
    .expect("write");
    let (code, body) = lab.post("/-/reload");
    assert_eq!(code, 200, "{body}");
    assert_eq!(series(), [""; 0]);
    // And they are back with the roles.
    fs::write(lab.config(), config).expect("write");
    assert_eq!(lab.post("/-/reload").0, 200);
    assert_eq!(lab.metric("labnet_component_up{component=\"dhcp\"}"), 1.0);
    let up = "labnet_component_state{component=\"dhcp\",state=\"up\"}";
    assert_eq!(lab.metric(up), 1.0);
}

#[test]
fn a_role_that_fails_whenever_it_is_up_takes_the_process_down_with_its_cause() {
    // The default limits.
    let mut lab = Lab::start("");
    let start = std::time::Instant::now();
    let code = loop {
        lab.post("/api/v1/components/http/crash");
        if let Some(code) = lab.exit_code() {
            break code;
        }
        assert!(start.elapsed().as_secs() < 60, "it never gives up");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(code, 1);
    let log = lab.log();
    assert!(log.contains("giving up: fault injection"), "{log}");
}

#[test]
fn a_lab_with_an_open_session_ends_at_once() {
    let ip = loopback();
    let proxy = SocketAddr::from((ip, 49152));
    let mut lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\n[rudp]\nlisten = \"{proxy}\"\nscraper = \"{ip}:49153\"\n"
    ));
    let client = UdpSocket::bind((ip, 0)).expect("a socket");
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    let mut answer = [0; 200];
    for signal in ["SIGNEW:Tal", "SIGNSTAT:290"] {
        client.send_to(signal.as_bytes(), proxy).expect("sent");
        client.recv(&mut answer).expect("an answer");
    }
    let begun = Instant::now();
    assert_eq!(lab.terminate(), Some(0));
    // A session that nobody had told would be waited for for 5 s.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(4500), "{took:?}");
}
