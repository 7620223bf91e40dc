//! `grafana/dashboards/labnet.json`, for the tests that read it.

use serde_json::Value;

/// The dashboard.
pub struct Dashboard {
    /// As it is in the file.
    pub json: Value,
}

impl Dashboard {
    /// Reads the file.
    pub fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/grafana/dashboards/labnet.json"
        );
        let text = std::fs::read_to_string(path).expect("the dashboard");
        Self {
            json: serde_json::from_str(&text).expect("JSON"),
        }
    }

    /// Its panels, rows included.
    pub fn panels(&self) -> &[Value] {
        self.json["panels"].as_array().expect("panels")
    }

    /// Every query with its panel's title, variables not expanded.
    pub fn queries(&self) -> Vec<(String, String)> {
        self.panels()
            .iter()
            .flat_map(|panel| {
                let title = panel["title"].as_str().expect("a title");
                let targets = panel["targets"].as_array();
                targets.into_iter().flatten().map(|target| {
                    let expr = target["expr"].as_str().expect("an expression");
                    (title.to_owned(), expr.to_owned())
                })
            })
            .collect()
    }
}
