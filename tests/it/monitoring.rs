//! What is delivered for Prometheus and Grafana names metrics that there are, and every alert says what to do.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every metric of ours that a text names, as it is declared.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let places = text.match_indices("everhook_");
    let names = places.map(|(at, _)| text[at..].split(|c| !word(c)).next().unwrap_or_default());
    let bare = |name: &str| {
        let name = name.trim_start_matches("everhook_");
        let part = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
        part.unwrap_or(name).to_owned()
    };
    names.map(bare).collect()
}

#[test]
fn dashboard_alerts_and_rules_name_metrics_that_there_are() {
    let mut declared = read("src/metrics.rs");
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics"))
        .expect("a folder")
    {
        declared
            .push_str(&std::fs::read_to_string(file.expect("a file").path()).expect("readable"));
    }
    let mut seen = 0;
    for file in ["monitoring/alerts.yml", "monitoring/recording.yml", "monitoring/dashboard.json"] {
        for name in named(&read(file)) {
            assert!(
                declared.contains(&format!("\"{name}\"")),
                "{file}: everhook_{name} is no metric"
            );
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} names were looked at");
    assert_eq!(
        named("rate(everhook_a_total[5m]) everhook_b_bucket{"),
        ["a_total", "b"].map(String::from).into()
    );
}

#[test]
fn every_alert_has_its_page_in_the_runbook_and_its_test() {
    let (alerts, runbook, tests) =
        (read("monitoring/alerts.yml"), read("docs/operations.md"), read("monitoring/tests.yml"));
    let names: Vec<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 15, "only {} alerts were found", names.len());
    for name in &names {
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has no page");
        let link = format!("runbook: docs/operations.md#{}\n", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} does not lead there");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} is not tested");
    }
    assert_eq!(runbook.matches("\n## Everhook").count(), names.len(), "a page of no alert");
}

#[test]
fn the_dashboard_is_json_and_no_panel_is_empty() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("monitoring/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let graphs = panels.iter().filter(|panel| panel["type"] != "row");
    for panel in graphs {
        let targets = panel["targets"].as_array().expect("targets");
        let expressions = targets.iter().filter_map(|target| target["expr"].as_str());
        assert!(expressions.filter(|text| !text.is_empty()).count() > 0, "{}", panel["title"]);
    }
}
