//! What a caller adds to the first boot. Nothing of it happens before the join, or can spoil it.
//!
//! cloud-init writes files and installs its own `packages` before `runcmd` runs, and an item of `runcmd` becomes a line of the
//! one script that joins: a slip in its quotes would cost the join, an `exit` what comes after it. So files are delivered to a
//! folder of ours and put in their places after the join, packages are installed by a script of ours, and every command gets a
//! process of its own.

use std::borrow::Cow;

use serde::Serialize;

use super::document::{DIRECTORY, WriteFile};
use crate::secret::Secret;

pub(super) const SCRIPT_FILE: &str = "/root/provision-vm/packages.sh";
pub(super) const SCRIPT: &str = include_str!("packages.sh");
const FILES: &str = "/root/provision-vm/files";

/// Packages, files and commands of the caller's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// Files to put in their places after the join.
    pub files: Vec<File>,
    /// Packages to install after that, as `apt-get install` takes them: `name` or `name=version`.
    pub packages: Vec<String>,
    /// Commands to run after that, in this order, as root.
    pub commands: Vec<Command>,
}

/// A file to write. Its owner is root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where: an absolute path.
    pub path: String,
    /// What it holds. May be a secret.
    pub content: Secret,
    /// Its mode, in octal digits such as `0644`.
    pub permissions: String,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Text for a shell of its own.
    Text(String),
    /// A program and its arguments, which no shell touches.
    Words(Vec<String>),
}

impl Additions {
    pub(super) fn write_files(&self) -> impl Iterator<Item = WriteFile<'_>> {
        let script = (!self.packages.is_empty()).then(|| WriteFile::new(SCRIPT_FILE, "0700", SCRIPT));
        let of_caller = self.files.iter().enumerate();
        let of_caller = of_caller.map(|(at, file)| WriteFile::new(delivered(at), "0600", file.content.expose()));
        of_caller.chain(script)
    }

    pub(super) fn commands(&self) -> Vec<Words<'_>> {
        let mut commands = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            let ours = ["install", "-D", "-m", &*file.permissions, "--"].map(Cow::Borrowed);
            commands.push(Words(ours.into_iter().chain([delivered(at), Cow::Borrowed(&*file.path)]).collect()));
        }
        if !self.files.is_empty() {
            commands.push(words(["rm", "-rf", FILES]));
        }
        if !self.packages.is_empty() {
            commands.push(words(["sh", SCRIPT_FILE].into_iter().chain(self.packages.iter().map(String::as_str))));
        }
        commands.extend(self.commands.iter().map(|command| match command {
            Command::Text(text) => words(["sh", "-c", text]),
            // A bare `exit` would be that of the one script.
            Command::Words(own) => {
                words(["sh", "-c", r#"exec "$0" "$@""#].into_iter().chain(own.iter().map(String::as_str)))
            }
        }));
        commands
    }
}

fn words<'a>(all: impl IntoIterator<Item = &'a str>) -> Words<'a> {
    Words(all.into_iter().map(Cow::Borrowed).collect())
}

/// Where a file waits for the join.
fn delivered(at: usize) -> Cow<'static, str> {
    format!("{FILES}/{at}").into()
}

/// An item of `runcmd`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Words<'a>(pub Vec<Cow<'a, str>>);

/// Whether a text can be the path of a file of the caller's: absolute, plain, and not one of ours.
pub fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 1024
        && !text.ends_with('/')
        && !text.chars().any(char::is_control)
        && text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
        && !text.starts_with(DIRECTORY)
}

/// Whether a text is a mode in octal digits.
pub fn is_permissions(text: &str) -> bool {
    (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
}

/// Whether a text is the name of a Debian package, with a version or without (Debian policy, 5.6.1 and 5.6.12).
pub fn is_package(text: &str) -> bool {
    let (name, version) = text.split_once('=').map_or((text, None), |(name, version)| (name, Some(version)));
    let of = |byte: u8, more: &[u8]| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(&byte);
    let starts_well = name.bytes().next().is_some_and(|byte| of(byte, b""));
    let is_version = |version: &str| {
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_uppercase() || of(byte, b".+-~:"))
    };
    (2..=128).contains(&name.len())
        && starts_well
        && name.bytes().all(|byte| of(byte, b"+-."))
        && version.is_none_or(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_added_is_plain() {
        for good in ["nginx", "g++", "libc6=2.36-9+deb12u1", "python3.11", "a1=1:2.0~rc1-1"] {
            assert!(is_package(good), "{good}");
        }
        for bad in ["", "n", "-y", "--allow", "Nginx", "a b", "a;b", "a=", "a=1;b", "../x", "a\n"] {
            assert!(!is_package(bad), "{bad:?}");
        }
        for good in ["/etc/app.conf", "/opt/my app/x", "/a"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["", "etc", "/", "/etc/", "/etc/../x", "/a//b", "/a\nb", "/root/provision-vm/join.sh"] {
            assert!(!is_path(bad), "{bad:?}");
        }
        for (text, good) in
            [("644", true), ("0600", true), ("4755", true), ("8", false), ("0x1", false), ("00644", false)]
        {
            assert_eq!(is_permissions(text), good, "{text}");
        }
    }
}
