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
    /// How many jobs were begun beside others, and in which one this is.
    jobs: u32,
    job: Option<String>,
    /// What jobs remove that nobody has waited for yet.
    put_off: Vec<(String, String)>,
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
        let line = line.replace(super::shell::UNKNOWN, "?");
        // A loop says the same again and again.
        if self.log.last() != Some(&line) {
            self.log.push(line);
        }
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

    /// Removes a file; if a job does it, once that has been waited for: who comes first, nobody can tell.
    pub(super) fn remove(&mut self, path: &str) {
        match &self.job {
            Some(job) => self.put_off.push((job.clone(), path.to_owned())),
            None => drop(self.files.remove(path)),
        }
    }

    /// A job begins: its number, as `$!` says it, and the job that began it.
    pub(super) fn begin_job(&mut self) -> (String, Option<String>) {
        self.jobs += 1;
        let job = (1000 + self.jobs).to_string();
        let outer = self.job.replace(job.clone());
        (job, outer)
    }

    pub(super) fn leave_job(&mut self, outer: Option<String>) {
        self.job = outer;
    }

    /// These jobs have ended, or all if none is named: what they removed is gone.
    pub(super) fn settle(&mut self, jobs: &[String]) {
        let (done, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.put_off).into_iter().partition(|(job, _)| jobs.is_empty() || jobs.contains(job));
        self.put_off = open;
        for (_, path) in done {
            self.files.remove(&path);
        }
    }

    pub(super) fn put(&mut self, path: &str, file: File) {
        self.files.insert(path.to_owned(), file);
    }
}
