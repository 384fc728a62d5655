//! The descriptions, and a judge who holds every answer against them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use simulator::{Config, World};

/// A description, or the reason why there is none.
pub fn description(name: &str) -> Option<Value> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/specs");
    let folder = std::env::var_os("PROVISION_VM_SPECS").map_or(beside, PathBuf::from);
    if let Ok(text) = std::fs::read(folder.join(name)) {
        return Some(serde_json::from_slice(&text).unwrap());
    }
    let excused = std::env::var_os("PROVISION_VM_NO_SPECS").is_some();
    assert!(std::env::var_os("CI").is_none() || excused, "{name} is missing; set PROVISION_VM_SPECS");
    println!("skipped: {name} is not there; set PROVISION_VM_SPECS to the folder that holds it");
    None
}

/// A world, and a judge who sees every answer.
pub struct Tour {
    pub world: World,
    pub now: Duration,
    spec: Value,
    base: &'static str,
    pub bearer: String,
    pub seen: BTreeSet<String>,
}

impl Tour {
    pub fn new(config: Config, spec: Value, base: &'static str, bearer: String) -> Self {
        Self { world: World::new(config), now: Duration::ZERO, spec, base, bearer, seen: BTreeSet::new() }
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.world.advance(self.now);
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Value>, bearer: &str) -> Response<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://api.example{}{path}", self.base))
            .header("authorization", format!("Bearer {bearer}"))
            .header("content-type", "application/json")
            .body(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default())
            .unwrap();
        self.world.exchange(self.now, request).outcome.unwrap()
    }

    /// One request; its answer must be what the description says for this path, method and status.
    #[track_caller]
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let bearer = self.bearer.clone();
        self.call_as(method, path, body, &bearer)
    }

    #[track_caller]
    pub fn call_as(&mut self, method: &str, path: &str, body: Option<&Value>, bearer: &str) -> (u16, Value) {
        let answer = self.send(method, path, body, bearer);
        let status = answer.status().as_u16();
        let text = answer.body();
        let value: Value = if text.is_empty() { Value::Null } else { serde_json::from_slice(text).unwrap() };
        self.judge(method, path, status, &value);
        (status, value)
    }

    #[track_caller]
    fn judge(&mut self, method: &str, path: &str, status: u16, value: &Value) {
        let path = path.split('?').next().unwrap();
        let (template, operation) = find_operation(&self.spec, method, path);
        let responses = &operation["responses"];
        let class = format!("{}xx", status / 100);
        let response =
            [status.to_string(), class].into_iter().map(|key| &responses[key]).find(|found| !found.is_null());
        let response = response.unwrap_or_else(|| panic!("{method} {template} knows no status {status}"));
        let response = resolve(&self.spec, response);
        let schema = &response["content"]["application/json"]["schema"];
        self.seen.insert(format!("{method} {template} {status}"));
        if schema.is_null() {
            return;
        }
        let mut schema = schema.clone();
        forgive_deprecated(&mut schema);
        let mut components = self.spec["components"].clone();
        forgive_deprecated(&mut components);
        schema["components"] = components;
        let validator = jsonschema::validator_for(&schema).unwrap();
        let complaints: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(complaints.is_empty(), "{method} {template} {status}:\n{}", complaints.join("\n"));
    }
}

fn find_operation<'a>(spec: &'a Value, method: &str, path: &str) -> (&'a str, &'a Value) {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let wanted: Vec<&str> = template.split('/').collect();
        wanted.len() == parts.len() && wanted.iter().zip(&parts).all(|(w, p)| w == p || w.starts_with('{'))
    };
    let mut found: Vec<(&str, &Value)> = spec["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(template, item)| fits(template) && item.get(method.to_lowercase()).is_some())
        .map(|(template, item)| (template.as_str(), &item[method.to_lowercase()]))
        .collect();
    // The template with the fewest variables is the one that is meant.
    found.sort_by_key(|(template, _)| template.matches('{').count());
    *found.first().unwrap_or_else(|| panic!("no operation for {method} {path}"))
}

fn resolve<'a>(spec: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => spec.pointer(pointer).unwrap(),
        None => value,
    }
}

/// The field `deprecated` disappeared on 2026-11-02, though the description still requires it.
fn forgive_deprecated(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(required)) = object.get_mut("required") {
                required.retain(|name| name != "deprecated");
            }
            object.values_mut().for_each(forgive_deprecated);
        }
        Value::Array(items) => items.iter_mut().for_each(forgive_deprecated),
        _ => {}
    }
}
