//! A real browser, driven over WebDriver (W3C).

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

/// A headless Chromium with one window. It ends with this.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    // Its profile, as long as it runs.
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Opens a window.
    pub fn open() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let said = BufReader::new(driver.stdout.take().expect("piped"));
        let port = said.lines().find_map(|line| {
            let line = line.expect("UTF-8");
            let rest = line.split_once("started successfully on port ")?.1;
            rest.trim_end_matches('.').parse().ok()
        });
        let port: u16 = port.expect("it tells its port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut browser = Self {
            driver,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            session: String::new(),
            _folder: folder,
        };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--user-data-dir={}", browser._folder.path().display()),
        ];
        let options = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.ask("POST", "/session", Some(&options));
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser.command("POST", "/timeouts", json!({"script": 120_000}));
        browser
    }

    /// Shows a file.
    pub fn show(&self, file: &Path) {
        let url = format!("file://{}", file.display());
        self.command("POST", "/url", json!({"url": url}));
    }

    /// What pages see from now on: a window of so many pixels, `light` or `dark`, `screen` or `print`.
    pub fn see(&self, width: u32, height: u32, scheme: &str, media: &str) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let seen = json!({"media": media, "features": features});
        self.devtools("Emulation.setEmulatedMedia", seen);
    }

    fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({"cmd": command, "params": parameters});
        self.command("POST", "/goog/cdp/execute", body);
    }

    /// Runs a script in the page: the body of a function. Gives what it returns, awaited.
    pub fn run(&self, script: &str) -> Value {
        self.command(
            "POST",
            "/execute/sync",
            json!({"script": script, "args": []}),
        )
    }

    /// Moves the mouse to the first place and, with its button held down, through the others.
    pub fn drag(&self, places: &[(f64, f64)]) {
        let go = |(x, y): (f64, f64)| json!({"type": "pointerMove", "duration": 0, "x": x as i64, "y": y as i64});
        let mut steps = vec![go(places[0])];
        if places.len() > 1 {
            steps.push(json!({"type": "pointerDown", "button": 0}));
            steps.extend(places[1..].iter().map(|place| go(*place)));
            steps.push(json!({"type": "pointerUp", "button": 0}));
        }
        let mouse = json!({"type": "pointer", "id": "mouse", "actions": steps});
        self.command("POST", "/actions", json!({"actions": [mouse]}));
    }

    /// Presses keys, one after another.
    pub fn keys(&self, keys: &str) {
        let strokes = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
        });
        let strokes: Vec<Value> = strokes.collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.command("POST", "/actions", json!({"actions": [keyboard]}));
    }

    /// What the page has complained of on the console since the last call.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", json!({"type": "browser"}));
        let entries = log.as_array().expect("a list");
        entries.iter().map(ToString::to_string).collect()
    }

    fn command(&self, method: &str, path: &str, body: Value) -> Value {
        self.ask(
            method,
            &format!("/session/{}{path}", self.session),
            Some(&body),
        )
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self
            .try_ask(method, path, body)
            .expect("the driver answers");
        let value = &answer["value"];
        assert!(value["error"].is_null(), "{method} {path}: {value}");
        value.clone()
    }

    fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Value> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(180)))?;
        let body = body.map_or(String::new(), ToString::to_string);
        let address = self.address;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if answer.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut text = vec![0; length];
        answer.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser; killed, it could not. What fails here has failed before.
        if !self.session.is_empty() {
            let _ = self.try_ask("DELETE", &format!("/session/{}", self.session), None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
