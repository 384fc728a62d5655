//! What machines reported of their first boot, handed back by the caller for the hint of an error.

use napi_derive::napi;
use serde_json::Value;

use super::input;
use crate::provision::{BootReport, Milestone, advise};

/// A hint with what the machine's own reports say.
#[napi(object)]
pub struct Advice {
    /// What a person should do.
    pub hint: String,
    /// What could not be read of the reports.
    pub warnings: Vec<String>,
}

/// Adds what a machine said of its first boot to the hint of a fault. `input` is JSON text: `{ hint, attempt, reports }`, in
/// which each report is what `verifyBootReport` gave, with `at` in milliseconds.
#[napi(js_name = "adviseByReports", catch_unwind)]
pub fn advise_by_reports(input: String) -> Advice {
    let parsed = input::parse(&input).unwrap_or_default();
    drop(input);
    let text = |name: &str| parsed.get(name).and_then(Value::as_str).unwrap_or_default();
    let Some(given) = parsed.get("reports").and_then(Value::as_array) else {
        return Advice { hint: text("hint").to_owned(), warnings: vec!["it gave no array of reports".to_owned()] };
    };
    let reports: Vec<BootReport> = given.iter().filter_map(read).collect();
    let unread = given.len() - reports.len();
    let warning = (unread > 0)
        .then(|| format!("{unread} of {} reports are not what verifyBootReport gives, and are ignored", given.len()));
    // What could not be read may be the one that matters.
    let is_silent = unread > 0 && reports.iter().all(|report| report.attempt != text("attempt"));
    let hint = if is_silent { text("hint").to_owned() } else { advise(text("hint"), text("attempt"), &reports) };
    Advice { hint, warnings: warning.into_iter().collect() }
}

fn read(report: &Value) -> Option<BootReport> {
    let text = |name: &str| report.get(name).filter(|value| !value.is_null()).map(|value| value.as_str().ok_or(()));
    let class = text("class").transpose().ok()?;
    Some(BootReport {
        attempt: text("attempt")?.ok()?.to_owned(),
        milestone: Milestone::parse(text("event")?.ok()?, class)?,
        at_ms: report.get("at")?.as_i64()?,
        seq: report.get("seq")?.as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_report_is_ignored_with_a_warning() {
        let good = json!({ "attempt": "a", "event": "failed", "class": "daemon", "at": 5000, "seq": 2, "id": "a-2" });
        let mut reports = vec![good.clone()];
        for (name, bad) in [
            ("attempt", json!(null)),
            ("attempt", json!(5)),
            ("event", json!("hello")),
            ("event", json!("joined")),
            ("class", json!("other")),
            ("class", json!(null)),
            ("class", json!(["daemon"])),
            ("at", json!("1970-01-01")),
            ("at", json!({ "$unsupported": "number" })),
            ("seq", json!(-1)),
            ("seq", json!(1.5)),
        ] {
            let mut report = good.clone();
            report[name] = bad;
            reports.push(report);
        }
        reports.extend([json!(null), json!("a"), json!([])]);
        let advice = advise_by_reports(json!({ "hint": "H.", "attempt": "a", "reports": reports }).to_string());
        assert!(advice.hint.starts_with("H. The machine's last report: failed (daemon): "), "{}", advice.hint);
        assert_eq!(advice.warnings, ["14 of 15 reports are not what verifyBootReport gives, and are ignored"]);
        let advice = advise_by_reports(json!({ "hint": "H.", "attempt": "a", "reports": { "0": good } }).to_string());
        assert_eq!((advice.hint.as_str(), advice.warnings.len()), ("H.", 1));
    }
}
