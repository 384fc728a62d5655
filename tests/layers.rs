//! The arrows of the architecture, held against the source. Rust does not stop a room from importing its neighbour;
//! this does. The two tables are the documentation.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

/// Outside crate (or path), and the rooms or files that alone may name it.
const OUTSIDE: [(&str, &[&str]); 14] = [
    ("napi", &["binding"]),
    ("napi_derive", &["binding"]),
    ("tracing_subscriber", &["binding"]),
    ("strsim", &["binding"]),
    ("reqwest", &["transport/live.rs"]),
    ("rustls", &["transport/live.rs"]),
    ("webpki_roots", &["transport/live.rs"]),
    ("url", &["transport"]),
    ("http", &["transport", "hetzner", "tailscale"]),
    ("bytes", &["transport", "hetzner", "tailscale"]),
    ("serde_json", &["hetzner", "tailscale", "cloud_init", "binding"]),
    ("serde", &["hetzner", "tailscale", "cloud_init", "binding"]),
    ("std::fs", &["transport/live.rs"]),
    ("std::env", &[]),
];

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
fn planted_violations_are_seen() {
    for (file, source, seen) in [
        ("hetzner/a.rs", "use crate::tailscale::Device;", "may not know tailscale"),
        ("hetzner/a.rs", "fn f() { crate::provision::go() }", "may not know provision"),
        ("transport/a.rs", "use crate::{hetzner::Server, secret::Secret};", "may not know hetzner"),
        ("hetzner/a.rs", "use reqwest::Client;", "may not name reqwest"),
        ("transport/chain.rs", "let c = reqwest::Client::new();", "may not name reqwest"),
        ("provision/a.rs", "fn f(v: serde_json::Value) {}", "may not name serde_json"),
        ("provision/a.rs", "use napi::Env;", "may not name napi"),
        ("binding/a.rs", "use crate::hetzner::Hetzner;", "may not know hetzner"),
        ("hetzner/a.rs", "use crate::transport::*;", "takes everything"),
        ("hetzner/a.rs", "use crate::*;", "takes everything"),
        ("hetzner/a.rs", "use crate::nowhere::Thing;", "unknown room nowhere"),
        ("tailscale/a.rs", "use super::super::hetzner::Server;", "climbs out of its room"),
        ("provision/a.rs", "let t = std::env::var(\"X\");", "may not name std::env"),
        ("attic/a.rs", "", "unknown room attic"),
    ] {
        let complaints = check(file, source).join("; ");
        assert!(complaints.contains(seen), "{source:?} in {file}: {complaints:?}");
    }
    for (file, source) in [
        (
            "hetzner/a.rs",
            "// use crate::tailscale::Device;\nlet s = \"crate::tailscale\"; use crate::transport::Chain;",
        ),
        ("hetzner/a.rs", "/* reqwest::Client */ use super::Server;"),
        ("provision/step/a.rs", "use super::super::run::Run;"),
        ("hetzner/a.rs", "let x = some.http::<T>(); let prehttp = 1;"),
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
    let room = file.split('/').next().unwrap().trim_end_matches(".rs");
    if room == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{file}: unknown room {room}")];
    };
    let tokens = tokens(source);
    let mut complaints = BTreeSet::new();
    for path in paths(&tokens) {
        if let Some(rest) = path.strip_prefix("crate::") {
            let target = rest.split("::").next().unwrap();
            if rest.ends_with('*') && target != room {
                complaints.insert(format!("{file}: takes everything of {target}"));
            } else if !ROOMS.iter().any(|(name, _)| *name == target) {
                complaints.insert(format!("{file}: unknown room {target}"));
            } else if target != room && !allowed.contains(&target) {
                complaints.insert(format!("{file}: {room} may not know {target}"));
            }
        }
        let climbs = path.split("::").take_while(|part| *part == "super").count();
        // A file in `room/` may climb once to the room, one in `room/sub/` twice; a test module once more.
        let depth = file.matches('/').count() + usize::from(source.contains("mod tests"));
        if climbs > depth {
            complaints.insert(format!("{file}: {path} climbs out of its room"));
        }
        for (outside, rooms) in OUTSIDE {
            // A crate is named by a path into it; a lone word may be anything.
            let names = (outside.contains("::") && path == outside) || path.starts_with(&format!("{outside}::"));
            let may = rooms.iter().any(|may| room == *may || file == *may);
            if names && !may {
                complaints.insert(format!("{file}: {room} may not name {outside}"));
            }
        }
    }
    complaints.into_iter().collect()
}

/// Words and signs of a source, without comments, texts and characters.
fn tokens(source: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), source);
    while let Some(letter) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if letter == 'r' && (rest.starts_with("r\"") || rest.starts_with("r#\"")) {
            let close = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let open = rest.find('"').unwrap() + 1;
            rest[open..].find(close).map_or(rest.len(), |end| open + end + close.len())
        } else if letter == '"' {
            text_end(rest)
        } else if letter == '\'' {
            // A character, or the mark of a lifetime.
            let mut letters = rest.char_indices().skip(1);
            match (letters.next(), letters.next(), letters.next()) {
                (Some((_, '\\')), _, _) => rest[2..].find('\'').map_or(rest.len(), |end| end + 3),
                (_, Some((at, '\'')), _) => at + 1,
                _ => 1,
            }
        } else if letter.is_alphanumeric() || letter == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else {
            letter.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if !token.starts_with("//")
            && !token.starts_with("/*")
            && !token.trim().is_empty()
            && !token.contains(['"', '\''])
        {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

fn text_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// All paths, with the braces of `use` written out.
fn paths(tokens: &[String]) -> Vec<String> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = |back: usize| at.checked_sub(back).map(|at| tokens[at].as_str());
        let continues = before(1) == Some(".") || (before(1) == Some(":") && before(2) == Some(":"));
        let starts = is_word(&tokens[at]) && !continues;
        if starts {
            read_path(tokens, &mut at, "", &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

fn read_path(tokens: &[String], at: &mut usize, prefix: &str, paths: &mut Vec<String>) {
    let mut path = prefix.to_owned();
    loop {
        match tokens.get(*at).map(String::as_str) {
            Some("{") if !path.is_empty() => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| token != "}") {
                    if is_word(&tokens[*at]) || tokens[*at] == "*" {
                        read_path(tokens, at, &path, paths);
                    } else {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            Some(word) if is_word(word) || word == "*" => {
                path.push_str(word);
                *at += 1;
            }
            _ => break,
        }
        let more = tokens.get(*at).is_some_and(|t| t == ":") && tokens.get(*at + 1).is_some_and(|t| t == ":");
        if !more {
            break;
        }
        path.push_str("::");
        *at += 2;
    }
    paths.push(path);
}
