//! The scraper before the real web servers of Debian, and the samples in the hands of the real
//! programs that open them.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use labnet::{origin::sample, scrap::catalog};
use sha2::{Digest, Sha256};

use crate::support::{Lab, Running, loopback, run, wait_for};

/// Names that a listing has to quote in one way or another; beside them there is a folder.
const NAMES: [&str; 16] = [
    "50MB.zip",
    "100% sure.txt",
    "a;b.txt",
    "c:d.txt",
    "grün ☃.txt",
    "it's \"quoted\".txt",
    "<b>&amp;.txt",
    "q?x=1&y=2#z.txt",
    "plus+minus.txt",
    "back\\slash.txt",
    "tab\there.txt",
    "new\nline.txt",
    "%41.txt",
    "two dots..",
    "~tilde",
    "a name that is far too long for the columns of a listing and so gets cut in its middle.tar.gz",
];

/// A folder that a web server running as another user may read.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("our folder");
    let files = dir.path().join("files");
    fs::create_dir(&files).expect("a folder");
    for name in NAMES {
        fs::write(files.join(name), format!("contents of {name}")).expect("a file");
    }
    fs::create_dir(files.join("folder")).expect("a folder");
    fs::write(files.join("folder/inner.txt"), "inner").expect("a file");
    dir
}

fn scraper(ip: Ipv4Addr, page: &str) -> Lab {
    Lab::start(&format!(
        "[scrap]\nlisten = \"{ip}:49153\"\norigin = \"{page}\"\nrefresh = \"1s\"\n"
    ))
}

fn ask(scraper: SocketAddr, question: &str) -> String {
    let mut stream = TcpStream::connect(scraper).expect("the scraper");
    stream
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    stream.write_all(question.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn listening(server: &str, address: SocketAddr) {
    wait_for(server, || TcpStream::connect(address).ok());
}

/// Downloads with curl, which knows nothing of labnet.
fn curl(arguments: &[&str]) -> Vec<u8> {
    run("curl", &[&["-sS", "--fail"], arguments].concat()).stdout
}

/// The scraper's list must be the folder, and each URL lead to its file.
fn lists_the_folder(server: &str, page: &str) {
    let ip = loopback();
    let lab = scraper(ip, page);
    let address = (ip, 49153).into();
    let list = wait_for("the list", || {
        Some(ask(address, "SIGNGET")).filter(|list| !list.is_empty())
    });
    assert!(list.is_ascii() && list.ends_with(';'), "{server}: {list}");
    let names: Vec<String> = list
        .split_terminator(';')
        .map(|name| catalog::decode(name).expect("UTF-8"))
        .collect();
    let sorted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(sorted, BTreeSet::from(NAMES), "{server}");
    assert_eq!(names.len(), NAMES.len(), "{server}: a name came twice");
    for name in NAMES {
        let url = ask(address, &format!("SIGNURL:{}\n", catalog::encode(name)));
        let contents = curl(&["--globoff", &url]);
        let expected = format!("contents of {name}");
        assert_eq!(
            String::from_utf8_lossy(&contents),
            expected,
            "{server}: {url}"
        );
    }
    assert_eq!(lab.metric("labnet_scrap_files"), NAMES.len() as f64);
}

#[test]
#[ignore = "needs nginx and curl"]
fn the_listing_of_nginx() {
    let dir = folder();
    let ip = loopback();
    let _nginx = nginx(dir.path(), ip);
    lists_the_folder("nginx", &format!("http://{ip}:8080/files/"));
}

fn nginx(dir: &Path, ip: Ipv4Addr) -> Running {
    let path = dir.display();
    let config = format!(
        "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\nevents {{}}\n\
         http {{ access_log off; client_body_temp_path {path}/1; proxy_temp_path {path}/2;\n\
         fastcgi_temp_path {path}/3; uwsgi_temp_path {path}/4; scgi_temp_path {path}/5;\n\
         server {{ listen {ip}:8080; root {path}; autoindex on; }} }}\n"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config).expect("a file");
    let file = file.to_str().expect("UTF-8");
    // One process: a worker would outlive its master, killed at the test's end.
    let running = Running::start("nginx", &["-c", file, "-e", "stderr"]);
    listening("nginx", (ip, 8080).into());
    running
}

#[test]
#[ignore = "needs apache2 and curl"]
fn the_listings_of_apache() {
    let dir = folder();
    let path = dir.path().display();
    let ip = loopback();
    let modules = [
        "mpm_event",
        "authz_core",
        "dir",
        "autoindex",
        "mime",
        "alias",
    ];
    let modules: String = modules
        .iter()
        .map(|name| format!("LoadModule {name}_module modules/mod_{name}.so\n"))
        .collect();
    let config = format!(
        "ServerRoot /usr/lib/apache2\nServerName localhost\nPidFile {path}/pid\n\
         ErrorLog {path}/error.log\nDefaultRuntimeDir {path}\n{modules}\
         TypesConfig {path}/types\nDocumentRoot {path}\n\
         Listen {ip}:8081\nListen {ip}:8082\nListen {ip}:8083\n\
         <Directory {path}>\nOptions +Indexes\nRequire all granted\n</Directory>\n\
         AddIcon /icons/blank.gif ^^BLANKICON^^\nDefaultIcon /icons/unknown.gif\n\
         <VirtualHost *:8081>\n</VirtualHost>\n\
         <VirtualHost *:8082>\n<Directory {path}>\nIndexOptions FancyIndexing\n</Directory>\n\
         </VirtualHost>\n\
         <VirtualHost *:8083>\n<Directory {path}>\n\
         IndexOptions FancyIndexing HTMLTable IconsAreLinks VersionSort NameWidth=20 XHTML\n\
         </Directory>\n</VirtualHost>\n"
    );
    fs::write(dir.path().join("types"), "").expect("a file");
    let file = dir.path().join("apache.conf");
    fs::write(&file, config).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let _apache = Running::start("apache2", &["-X", "-f", file]);
    for (port, kind) in [(8081, "plain"), (8082, "fancy"), (8083, "fancy table")] {
        listening("Apache", (ip, port).into());
        let page = format!("http://{ip}:{port}/files/");
        lists_the_folder(&format!("Apache, {kind}"), &page);
    }
}

#[test]
#[ignore = "needs caddy and curl"]
fn the_listing_of_caddy() {
    let dir = folder();
    let path = dir.path().display();
    let ip = loopback();
    let config = format!(
        "{{\n admin off\n auto_https off\n storage file_system {path}\n}}\n\
         http://{ip}:8080 {{\n bind {ip}\n root * {path}\n file_server browse\n}}\n"
    );
    let file = dir.path().join("Caddyfile");
    fs::write(&file, config).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let arguments = ["run", "--adapter", "caddyfile", "--config", file];
    let _caddy = Running::start("caddy", &arguments);
    listening("Caddy", (ip, 8080).into());
    lists_the_folder("Caddy", &format!("http://{ip}:8080/files/"));
}

#[test]
#[ignore = "needs python3 and curl"]
fn the_listing_of_python() {
    let dir = folder();
    let ip = loopback();
    let (address, path) = (ip.to_string(), dir.path().to_str().expect("UTF-8"));
    let arguments = ["-m", "http.server", "8080", "--bind", &address, "-d", path];
    let _python = Running::start("python3", &arguments);
    listening("Python", (ip, 8080).into());
    lists_the_folder("Python", &format!("http://{ip}:8080/files/"));
}

#[test]
#[ignore = "needs curl"]
fn the_page_of_the_built_in_origin() {
    let dir = folder();
    let ip = loopback();
    let files = dir.path().join("files");
    let _lab = Lab::start(&format!(
        "[origin]\nlisten = \"{ip}:8080\"\nfiles = \"{}\"\n",
        files.display()
    ));
    let scraper_ip = loopback();
    let _scraper = scraper(scraper_ip, &format!("http://{ip}:8080/"));
    let address = (scraper_ip, 49153).into();
    let list = wait_for("the list", || {
        Some(ask(address, "SIGNGET")).filter(|list| !list.is_empty())
    });
    assert_eq!(list.matches(';').count(), NAMES.len());
    for name in list.split_terminator(';') {
        let url = ask(address, &format!("SIGNURL:{name}\n"));
        let name = catalog::decode(name).expect("UTF-8");
        let expected = fs::read(files.join(&name)).expect("the file");
        assert_eq!(curl(&["--globoff", &url]), expected, "{name:?}");
    }
}

#[test]
#[ignore = "needs nginx"]
fn a_server_that_goes_and_comes_back() {
    let dir = folder();
    let ip = loopback();
    let server = nginx(dir.path(), ip);
    let lab = scraper(ip, &format!("http://{ip}:8080/files/"));
    let address = (ip, 49153).into();
    wait_for("the list", || {
        (!ask(address, "SIGNGET").is_empty()).then_some(())
    });
    drop(server);
    wait_for("a failed fetch", || {
        (lab.metric("labnet_scrap_fetches_total{result=\"error\"}") >= 2.0).then_some(())
    });
    let asked = Instant::now();
    assert_eq!(ask(address, "SIGNGET").matches(';').count(), NAMES.len());
    println!("old list after {:?}", asked.elapsed());
    assert_eq!(lab.post("/api/v1/components/scrap/crash").0, 202);
    assert_eq!(ask(address, "SIGNGET").matches(';').count(), NAMES.len());
    fs::write(dir.path().join("files/newcomer"), "").expect("a file");
    let _server = nginx(dir.path(), ip);
    wait_for("the new list", || {
        ask(address, "SIGNGET").contains("newcomer;").then_some(())
    });
    assert_eq!(lab.metric("labnet_scrap_files"), NAMES.len() as f64 + 1.0);
}

#[test]
#[ignore = "needs curl, file, pngcheck, poppler-utils and unzip"]
fn samples_open_in_their_viewers() {
    let ip = loopback();
    let names = ["1kB.zip", "50MB.zip", "image-site.png", "task2.pdf"];
    let lab = Lab::start(&format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = {names:?}\n"
    ));
    let out = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| out.path().join(name).to_str().expect("UTF-8").to_owned();
    for name in names {
        let url = format!("http://{ip}:8080/{name}");
        // In two pieces, as an interrupted download would be.
        let file = path(name);
        curl(&["--range", "0-499", "--output", &file, &url]);
        curl(&["--continue-at", "-", "--output", &file, &url]);
        let contents = fs::read(&file).expect("downloaded");
        let sample = sample(name).expect("a sample");
        assert_eq!(contents.len() as u64, sample.len(), "{name}");
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&contents)), sample.sha256());
    }
    assert_eq!(fs::metadata(path("50MB.zip")).unwrap().len(), 50_000_000);
    let says = |program: &str, arguments: &[&str], expected: &str| {
        let output = run(program, arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(expected), "{program}: {text}");
    };
    for name in ["1kB.zip", "50MB.zip"] {
        says("unzip", &["-t", &path(name)], "No errors detected");
        says("unzip", &["-p", &path(name), "README.txt"], name);
        says("file", &[&path(name)], "Zip archive data");
    }
    says("pngcheck", &[&path("image-site.png")], "OK:");
    says(
        "file",
        &[&path("image-site.png")],
        "PNG image data, 960 x 540",
    );
    says("pdfinfo", &[&path("task2.pdf")], "Pages:           1");
    says("pdftotext", &[&path("task2.pdf"), "-"], "DHCP server");
    assert!(
        run("pdftotext", &[&path("task2.pdf"), "-"])
            .stderr
            .is_empty()
    );
    // What a browser asks to know whether its copy is still good.
    let url = format!("http://{ip}:8080/task2.pdf");
    let tag = sample("task2.pdf").expect("a sample").etag();
    let code = ["--write-out", "%{http_code}", "--header"];
    let wish = format!("If-None-Match: {tag}");
    assert_eq!(curl(&[&code[..], &[&wish, &url]].concat()), b"304");
    assert_eq!(
        lab.metric("labnet_origin_requests_total{code=\"304\"}"),
        1.0
    );
}

#[test]
#[ignore = "downloads gigabytes over loopback"]
fn large_downloads_cost_little_memory() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[origin]\nlisten = \"{ip}:8080\"\nsamples = [\"500MB.zip\"]\n"
    ));
    let idle = crate::support::peak_resident(lab.pid());
    let server = SocketAddr::from((ip, 8080));
    let request = b"GET /500MB.zip HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // Two hundred who ask for all of it and take nothing.
    let stalled: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(server).expect("the origin");
            stream.write_all(request).expect("sent");
            stream
        })
        .collect();
    let start = Instant::now();
    let mut stream = TcpStream::connect(server).expect("the origin");
    stream.write_all(request).expect("sent");
    let mut buffer = vec![0; 1 << 20];
    let mut hash = Sha256::new();
    let mut head = Vec::new();
    let mut received = 0;
    loop {
        let length = stream.read(&mut buffer).expect("bytes");
        if length == 0 {
            break;
        }
        let mut bytes = &buffer[..length];
        if !head.ends_with(b"\r\n\r\n") {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let end = end.expect("the head in one piece") + 4;
            head.extend(&bytes[..end]);
            bytes = &bytes[end..];
        }
        hash.update(bytes);
        received += bytes.len() as u64;
    }
    let took = start.elapsed();
    assert_eq!(received, 500_000_000);
    let sample = sample("500MB.zip").expect("a sample");
    assert_eq!(<[u8; 32]>::from(hash.finalize()), sample.sha256());
    // What the program itself takes depends on how it was built.
    let more = crate::support::peak_resident(lab.pid()) - idle;
    println!(
        "500 MB in {took:.1?}, {:.0} MB/s; {} kB more memory than idle",
        500.0 / took.as_secs_f64(),
        more / 1024
    );
    assert!(more < 56 << 20, "{more} bytes");
    drop(stalled);
}

#[test]
#[ignore = "takes some seconds"]
fn a_thousand_broken_peers_hurt_nobody() {
    let ip = loopback();
    let lab = Lab::start(&format!(
        "[scrap]\nlisten = \"{ip}:49153\"\norigin = \"http://{ip}:8080/\"\n\
         [origin]\nlisten = \"{ip}:8080\"\nsamples = [\"1MB.zip\"]\n"
    ));
    let address = SocketAddr::from((ip, 49153));
    wait_for("the list", || {
        (ask(address, "SIGNGET") == "1MB.zip;").then_some(())
    });
    let before = lab.resident();
    let mut held = Vec::new();
    for n in 0..1000_u32 {
        let mut stream = TcpStream::connect(address).expect("the scraper");
        let _ = match n % 8 {
            0 => Ok(()),
            1 => stream.write_all(b"SIGN"),
            2 => stream.write_all(b"SIGNURL:never ends"),
            3 => stream.write_all(&n.to_be_bytes().repeat(1000)),
            4 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n"),
            5 => stream.shutdown(Shutdown::Write),
            6 => stream
                .write_all(b"SIGNGET")
                .and_then(|()| stream.shutdown(Shutdown::Both)),
            _ => stream.write_all(b"SIGNGETSIGNGETSIGNGET"),
        };
        if n % 3 == 0 {
            held.push(stream);
        }
    }
    // While a third of them is still there.
    let asked = Instant::now();
    assert_eq!(ask(address, "SIGNGET"), "1MB.zip;");
    println!("answered after {:?}", asked.elapsed());
    drop(held);
    let counted = || -> f64 {
        ["signget", "signurl", "invalid", "timeout"]
            .iter()
            .map(|kind| lab.metric(&format!("labnet_scrap_requests_total{{type=\"{kind}\"}}")))
            .sum::<f64>()
            + lab
                .metric("labnet_connections_closed_total{component=\"scrap\",reason=\"made_room\"}")
    };
    wait_for("all of them counted", || {
        (counted() >= 1000.0).then_some(())
    });
    thread::sleep(Duration::from_millis(500));
    let after = lab.resident();
    println!("memory {} kB, then {} kB", before / 1024, after / 1024);
    assert!(after < before + (8 << 20));
    assert_eq!(ask(address, "SIGNGET"), "1MB.zip;");
}
