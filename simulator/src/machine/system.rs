//! What a booting machine has: the files that are known, its name, and what was seen so far.

use std::collections::BTreeMap;

use super::tailscale_up::Join;

/// A machine during its first boot.
#[derive(Clone, Debug, Default)]
pub(super) struct System {
    /// The files that its document or its scripts wrote. What an image brings is not known.
    files: BTreeMap<String, File>,
    /// What `hostname` says.
    pub hostname: String,
    /// Whether Tailscale was installed before the join.
    pub installs: bool,
    /// The first `tailscale up` that could work, or why the last one cannot.
    pub join: Option<Result<Join, String>>,
    /// What happened, one line each, without secrets.
    pub log: Vec<String>,
    /// How deep scripts and functions are nested at the moment.
    pub depth: u32,
}

/// A file with its mode. Without text, nobody knows what is in it.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub text: Option<String>,
    pub mode: u32,
}

impl System {
    /// A machine of this name, about which nothing else is known.
    pub(super) fn named(hostname: &str) -> Self {
        Self { hostname: hostname.to_owned(), ..Self::default() }
    }

    /// Adds a line to the log.
    pub(super) fn note(&mut self, line: &str) {
        self.log.push(line.replace(super::shell::UNKNOWN, "?"));
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Puts a file there, or adds to it. A file that is there keeps its mode.
    pub(super) fn write(&mut self, path: &str, text: Option<String>, append: bool) {
        if path.starts_with("/dev/") || path.contains(super::shell::UNKNOWN) {
            return;
        }
        let before = self.files.get(path);
        let mode = before.map_or(0o644, |file| file.mode);
        let text = match before {
            Some(File { text: start, .. }) if append => {
                start.as_ref().zip(text).map(|(start, more)| format!("{start}{more}"))
            }
            // Nothing that matters here comes with an image, so the file is new.
            _ => text,
        };
        self.files.insert(path.to_owned(), File { text, mode });
    }

    pub(super) fn set_mode(&mut self, path: &str, change: impl FnOnce(u32) -> u32) {
        if let Some(file) = self.files.get_mut(path) {
            file.mode = change(file.mode);
        }
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<File> {
        self.files.remove(path)
    }

    pub(super) fn put(&mut self, path: &str, file: File) {
        self.files.insert(path.to_owned(), file);
    }
}
