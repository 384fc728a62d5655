//! The arrows of the architecture, held against the source. Rust does not stop a room from importing its neighbour;
//! this does. The two tables are the documentation.
//!
//! Every path of every file is resolved (`crate`, `self`, `super`, braces, inline modules) and looked up in them. What
//! would hide a path is refused: globs, other names for the root of the crate, rooms passed on, files brought in from
//! elsewhere. Test modules in `src/` are held to the same arrows; they may use the development dependencies as well.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[path = "layers/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::{Found, paths, tokens};

/// Room, and the rooms it may know. Arrows point down; neighbours do not know each other; no layer is skipped.
const ROOMS: [(&str, &[&str]); 7] = [
    ("binding", &["provision", "secret"]),
    ("provision", &["hetzner", "tailscale", "cloud_init", "transport", "secret"]),
    ("hetzner", &["transport", "secret"]),
    ("tailscale", &["transport", "secret"]),
    ("cloud_init", &["secret"]),
    ("transport", &["secret"]),
    ("secret", &[]),
];

/// All rooms.
const ALL: &[&str] = &["binding", "provision", "hetzner", "tailscale", "cloud_init", "transport", "secret"];

/// Outside crate or path, and the rooms or files that alone may name it. Every dependency has a line; of several that
/// fit a path the longest decides.
const OUTSIDE: [(&str, &[&str]); 47] = [
    // JavaScript.
    ("napi", &["binding"]),
    ("napi_derive", &["binding"]),
    ("strsim", &["binding"]),
    ("tracing_subscriber", &["binding"]),
    // The network: what opens connections, and what speaks over them.
    ("hyper_rustls", &["transport/connect.rs"]),
    ("tower_service", &["transport/connect.rs"]),
    ("rustls", &["transport/connect.rs", "transport/tls.rs"]),
    ("webpki", &["transport/tls.rs"]),
    ("webpki_roots", &["transport/tls.rs"]),
    ("hyper_util", &["transport/connect.rs", "transport/live.rs"]),
    ("hyper", &["transport/live.rs"]),
    ("http_body_util", &["transport/live.rs"]),
    ("h2", &["transport/live.rs"]),
    ("url", &["transport"]),
    // Named by nobody: it chooses how `url` reads names.
    ("idna_adapter", &[]),
    ("std::net", &["transport/live.rs"]),
    ("std::net::IpAddr", ALL),
    ("std::net::Ipv4Addr", ALL),
    ("std::net::Ipv6Addr", ALL),
    ("std::net::SocketAddr", ALL),
    ("tokio::net", &["transport/live.rs"]),
    // HTTP and JSON belong to the rooms of the outside systems. The job knows neither.
    ("http", &["transport", "hetzner", "tailscale"]),
    // In `secret`, bodies that hold secrets and are wiped.
    ("bytes", &["secret", "transport", "hetzner", "tailscale"]),
    ("serde", &["hetzner", "tailscale", "cloud_init", "binding"]),
    ("serde_json", &["hetzner", "tailscale", "cloud_init", "binding"]),
    // Time and chance have one reader.
    ("httpdate", &["transport"]),
    ("fastrand", &["transport/clock.rs"]),
    ("getrandom", &["transport/clock.rs", "transport/tls.rs"]),
    ("tokio::time", &["transport/clock.rs"]),
    ("std::time::SystemTime", &["transport/clock.rs"]),
    ("std::time::Instant", &[]),
    // The dates that the clouds write.
    ("time", &["hetzner", "tailscale"]),
    // The machine we run on.
    ("std::fs", &[]),
    ("tokio::fs", &[]),
    ("std::env", &[]),
    ("std::process", &[]),
    ("std::thread", &[]),
    // The tokens of boot reports.
    ("base64", &["cloud_init"]),
    ("hmac", &["cloud_init"]),
    // Tools.
    ("futures_util", &["provision", "transport"]),
    ("sha2", &["provision", "cloud_init"]),
    ("thiserror", &["provision", "hetzner", "tailscale", "cloud_init", "transport"]),
    ("tokio", ALL),
    ("tokio_util", &["provision"]),
    ("tracing", ALL),
    ("zeroize", &["secret", "cloud_init"]),
    ("simulator", &[]),
];

/// What a test module may use beyond the table.
const FOR_TESTS: [&str; 2] = ["simulator", "tokio"];

#[test]
fn arrows_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 30, "only {} files were found", files.len());
    let complaints: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let name = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            check(&name, &std::fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_dependency_has_its_place() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, section) = manifest.split_once("\n[dependencies]\n").unwrap();
    let names = section.lines().take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
    let missing: Vec<String> = names
        .map(|(name, _)| name.replace('-', "_"))
        .filter(|name| !OUTSIDE.iter().any(|(outside, _)| outside == name))
        .collect();
    assert!(missing.is_empty(), "no line in OUTSIDE: {missing:?}");
}

#[test]
fn planted_violations_are_seen() {
    for (file, source, seen) in [
        // Sideways, upwards, past a layer.
        ("hetzner/a.rs", "use crate::tailscale::Device;", "may not know tailscale"),
        ("hetzner/a.rs", "fn f() { crate::provision::go() }", "may not know provision"),
        ("hetzner/a.rs", "impl From<crate::tailscale::Device> for X {}", "may not know tailscale"),
        ("transport/a.rs", "use crate::{hetzner::Server, secret::Secret};", "may not know hetzner"),
        ("transport/a.rs", "use crate::{secret::{A, B}, hetzner};", "may not know hetzner"),
        ("binding/a.rs", "use crate::hetzner::Hetzner;", "may not know hetzner"),
        ("secret.rs", "use super::transport::Chain;", "may not know transport"),
        ("lib.rs", "fn f() { hetzner::go(); hyper::get() }", "may not name hyper"),
        // By way of `super`, which means the parent of the module, not of the file.
        ("hetzner/mod.rs", "use super::tailscale::Device;", "may not know tailscale"),
        ("tailscale/a.rs", "use super::super::hetzner::Server;", "may not know hetzner"),
        ("tailscale/a.rs", "use super::{super::hetzner::Server, B};", "may not know hetzner"),
        ("tailscale/a.rs", "mod tests {} fn f() { super::super::hetzner::go() }", "may not know hetzner"),
        ("tailscale/a.rs", "mod b { mod c { use super::super::super::super::hetzner::X; } }", "may not know hetzner"),
        ("hetzner/a.rs", "#[cfg(test)] mod tests { use crate::tailscale::Device; }", "may not know tailscale"),
        ("hetzner/a.rs", "use super::super::super::x;", "climbs out of the crate"),
        // Outside crates, in whatever form.
        ("hetzner/a.rs", "use hyper::Client;", "may not name hyper"),
        ("hetzner/a.rs", "use hyper as r;", "may not name hyper"),
        ("hetzner/a.rs", "extern crate hyper;", "may not name hyper"),
        ("hetzner/a.rs", "fn f(c: ::hyper::Client) {}", "may not name hyper"),
        ("hetzner/a.rs", "use ::hyper::Client;", "may not name hyper"),
        ("hetzner/a.rs", "fn f() -> ::hyper::Client {}", "may not name hyper"),
        ("hetzner/a.rs", "let a = A { b, ..hyper::a() };", "may not name hyper"),
        ("transport/chain.rs", "let c = hyper::Client::new();", "may not name hyper"),
        ("provision/a.rs", "fn f(v: serde_json::Value) {}", "may not name serde_json"),
        ("provision/a.rs", "#[derive(serde::Serialize)] struct A;", "may not name serde"),
        ("provision/a.rs", "use napi::Env;", "may not name napi"),
        ("provision/a.rs", "let t = std::env::var(\"X\");", "may not name std::env"),
        ("provision/a.rs", "use std::{env, sync::Arc};", "may not name std::env"),
        ("provision/a.rs", "use std::net::{Ipv4Addr, TcpStream};", "may not name std::net"),
        ("provision/a.rs", "use std::net;", "may not name std::net"),
        ("provision/a.rs", "tokio::time::sleep(x).await", "may not name tokio::time"),
        ("hetzner/a.rs", "fn f() { simulator::go() }", "may not name simulator"),
        ("hetzner/a.rs", "#[cfg(test)] mod t { use hyper::Client; }", "may not name hyper"),
        ("hetzner/a.rs", "#[cfg(test)] mod t { mod u {} } fn f() { simulator::go() }", "may not name simulator"),
        // What would make it blind.
        ("hetzner/a.rs", "use crate::transport::*;", "takes everything"),
        ("hetzner/a.rs", "use crate::*;", "takes everything"),
        ("hetzner/a.rs", "use crate::{transport::{*}};", "takes everything"),
        ("hetzner/mod.rs", "use super::*;", "takes everything"),
        ("hetzner/a.rs", "use std::*;", "takes everything"),
        ("hetzner/a.rs", "use crate as c;", "renames the root"),
        ("hetzner/a.rs", "use crate::{self as c};", "renames the root"),
        ("hetzner/mod.rs", "use super as c;", "renames the root"),
        ("hetzner/a.rs", "use std as s;", "renames the root"),
        ("provision/a.rs", "pub use crate::hetzner;", "passes hetzner on"),
        ("provision/a.rs", "pub(crate) use crate::{hetzner as h, secret::Secret};", "passes hetzner on"),
        ("hetzner/a.rs", "use crate::nowhere::Thing;", "unknown room nowhere"),
        ("hetzner/a.rs", "#[path = \"../tailscale/mod.rs\"] mod t;", "brings in a file"),
        ("hetzner/a.rs", "include!(\"../tailscale/mod.rs\");", "brings in a file"),
        ("hetzner/a.rs", "use {hyper as r, crate as c};", "several roots"),
        ("hetzner/a.rs", "use ::{hyper as r};", "several roots"),
        ("attic/a.rs", "", "unknown room attic"),
        // Behind what is not code.
        ("hetzner/a.rs", "/* /* */ */ let c = b'\\''; use crate::tailscale::D;", "may not know tailscale"),
        ("hetzner/a.rs", "let s = br##\"\\\"##; use crate::tailscale::D;", "may not know tailscale"),
        ("hetzner/a.rs", "fn f<'a>(x: &'a str) { '\"'; crate::tailscale::D }", "may not know tailscale"),
    ] {
        let complaints = check(file, source).join("; ");
        assert!(complaints.contains(seen), "{source:?} in {file}: {complaints:?}");
    }
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    for (file, source) in [
        (
            "hetzner/a.rs",
            "// use crate::tailscale::Device;\nlet s = \"crate::tailscale\"; use crate::transport::Chain;",
        ),
        ("hetzner/a.rs", "/* hyper::Client /* */ crate::tailscale */ use super::Server;"),
        ("hetzner/a.rs", "let s = r#\"\" crate::tailscale::D\"#;"),
        ("hetzner/a.rs", "let x = some.http::<T>(); let prehttp = 1; let url = x.url; Vec::<u8>::napi::y();"),
        ("hetzner/mod.rs", "pub use action::{Action, ActionId}; pub(super) fn f() {} pub(crate) fn g() {}"),
        ("hetzner/a.rs", "#[cfg(test)] #[expect(dead_code)] mod tests { use super::*; use simulator::World; }"),
        ("transport/a.rs", "#[cfg(test)] mod tests { fn f() { tokio::time::advance(x) } }"),
        ("provision/step/a.rs", "use super::super::run::Run; pub(in super::super) enum Removal {}"),
        ("provision/a.rs", "use crate::hetzner; pub use crate::transport::{BaseUrl, Network}; use std::net::Ipv4Addr;"),
        ("cloud_init/a.rs", "const S: &str = include_str!(\"join.sh\");"),
        ("lib.rs", "pub mod hetzner; mod binding;"),
    ] {
        assert_eq!(check(file, source), Vec::<String>::new(), "{source}");
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// What a file does that it may not.
fn check(file: &str, source: &str) -> Vec<String> {
    let module: Vec<&str> = file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let (room, module) = if module == ["lib"] { ("the root", Vec::new()) } else { (module[0], module) };
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
    if allowed.is_none() && !module.is_empty() {
        return vec![format!("{file}: unknown room {room}")];
    }
    let tokens = tokens(source);
    let mut complaints = BTreeSet::new();
    for Found { path, inside, in_use, passed_on, in_tests } in paths(&tokens) {
        let inside: Vec<&str> = module.iter().copied().chain(inside.iter().map(String::as_str)).collect();
        let mut parts: Vec<&str> = path.split("::").collect();
        let glob = parts.pop_if(|last| *last == "*").is_some();
        parts.pop_if(|last| *last == "self");
        let shown = path.as_str();
        match resolve(&parts, &inside) {
            Place::Nowhere => _ = complaints.insert(format!("{file}: {shown} climbs out of the crate")),
            Place::Here(ours) => {
                let target = ours.first().copied();
                if glob && !(in_tests && target == Some(room) && parts == ["super"]) {
                    complaints.insert(format!("{file}: {shown} takes everything"));
                } else if target.is_none() && in_use {
                    complaints.insert(format!("{file}: {shown} renames the root"));
                }
                let Some(target) = target.filter(|target| *target != room) else { continue };
                if !ALL.contains(&target) {
                    complaints.insert(format!("{file}: unknown room {target} in {shown}"));
                } else if !allowed.unwrap_or(ALL).contains(&target) {
                    complaints.insert(format!("{file}: {room} may not know {target}"));
                } else if ours.len() == 1 && passed_on {
                    complaints.insert(format!("{file}: {room} passes {target} on"));
                }
            }
            Place::Outside => {
                let path = parts.join("::");
                if glob {
                    complaints.insert(format!("{file}: {shown} takes everything"));
                } else if in_use && path == "std" {
                    complaints.insert(format!("{file}: {shown} renames the root"));
                }
                // A crate is named by a path into it, or in a `use`; elsewhere a lone word may be anything.
                let lone = parts.len() == 1 && !in_use;
                let fits = |outside: &str| path == outside || path.starts_with(&format!("{outside}::"));
                let entry =
                    OUTSIDE.iter().filter(|(outside, _)| fits(outside)).max_by_key(|(outside, _)| outside.len());
                let Some((outside, rooms)) = entry.filter(|_| !lone) else { continue };
                let excused = in_tests && FOR_TESTS.contains(&parts[0]);
                if !excused && !rooms.iter().any(|may| room == *may || file == *may) {
                    complaints.insert(format!("{file}: {room} may not name {outside}"));
                }
            }
        }
    }
    let brings = |words: &[&str]| tokens.windows(words.len()).any(|window| window == words);
    if brings(&["[", "path", "="]) || brings(&["include", "!"]) {
        complaints.insert(format!("{file}: brings in a file from elsewhere"));
    }
    if brings(&["use", "{"]) || brings(&["use", ":", ":", "{"]) {
        complaints.insert(format!("{file}: one `use` of several roots is not read"));
    }
    complaints.into_iter().collect()
}

/// Where a path leads.
enum Place<'a> {
    /// To a module or item of this crate, named from the root.
    Here(Vec<&'a str>),
    /// To another crate, or to something that is in scope and was checked where it came into scope.
    Outside,
    /// Beyond the root.
    Nowhere,
}

fn resolve<'a>(parts: &[&'a str], inside: &[&'a str]) -> Place<'a> {
    let mut here = match parts.first() {
        Some(&"crate") => Vec::new(),
        Some(&("self" | "super")) => inside.to_vec(),
        _ => return Place::Outside,
    };
    for part in parts.iter().skip_while(|part| matches!(**part, "crate" | "self")) {
        if *part != "super" {
            here.push(*part);
        } else if here.pop().is_none() {
            return Place::Nowhere;
        }
    }
    Place::Here(here)
}
