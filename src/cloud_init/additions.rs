//! What a caller adds to the first boot. Nothing of it happens before the join unless asked, or can spoil it.
//!
//! cloud-init writes files, makes users and installs its own `packages` before `runcmd` runs, and an item of `runcmd` becomes a
//! line of the one script that joins: a slip in its quotes would cost the join, an `exit` what comes after it. So files are
//! delivered to a folder of ours and put in their places when it is their turn, users and packages have scripts of ours, and
//! every command gets a process of its own.

use std::borrow::Cow;

use serde::Serialize;

use super::document::{DIRECTORY, WriteFile};
use crate::secret::Secret;

const FILES: &str = "/root/provision-vm/files";
const PACKAGES: Script = Script {
    file: "/root/provision-vm/packages.sh",
    text: concat!(include_str!("apt.sh"), include_str!("packages.sh")),
};
const USER: Script = Script { file: "/root/provision-vm/user.sh", text: include_str!("user.sh") };
const HARDEN: Script =
    Script { file: "/root/provision-vm/harden.sh", text: concat!(include_str!("apt.sh"), include_str!("harden.sh")) };

/// One of our scripts, and where it is delivered.
struct Script {
    file: &'static str,
    text: &'static str,
}

/// What the caller wants of a machine beside the join, in the order in which it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// All of it but the hardening comes before the join, which waits for it. Whatever fails of it, the machine joins.
    pub before_join: bool,
    /// Users to make.
    pub users: Vec<User>,
    /// Files to put in their places.
    pub files: Vec<File>,
    /// Packages to install, as `apt-get install` takes them: `name` or `name=version`.
    pub packages: Vec<String>,
    /// Commands to run, in this order, as root.
    pub commands: Vec<Command>,
    /// Close the metadata address to all but root and the ports to the public internet, and keep the system up to date.
    pub hardening: bool,
}

/// A user to make, who logs in by SSH key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Public keys, a line each.
    pub ssh_keys: Vec<String>,
    /// Groups beside its own; those that are missing are made.
    pub groups: Vec<String>,
    /// Whether it may do everything, without a password.
    pub sudo: bool,
    /// Its shell: an absolute path.
    pub shell: String,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where: an absolute path.
    pub path: String,
    /// What it holds. May be a secret.
    pub content: Secret,
    /// Its mode, in octal digits such as `0644`.
    pub permissions: String,
    /// Who owns it.
    pub owner: Owner,
}

/// A user and a group, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group.
    pub group: String,
}

impl Default for Owner {
    fn default() -> Self {
        Self { user: "root".to_owned(), group: "root".to_owned() }
    }
}

impl Owner {
    /// Reads `user` or `user:group`; alone, the user's name is the group's too.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        (is_user(user) && is_user(group)).then(|| Self { user: user.to_owned(), group: group.to_owned() })
    }
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
        let of_caller = self.files.iter().enumerate();
        let of_caller = of_caller.map(|(at, file)| WriteFile::new(delivered(at), "0600", file.content.expose()));
        let scripts = [(USER, !self.users.is_empty()), (PACKAGES, !self.packages.is_empty()), (HARDEN, self.hardening)];
        let scripts = scripts.into_iter().filter(|(_, is_used)| *is_used);
        of_caller.chain(scripts.map(|(script, _)| WriteFile::new(script.file, "0700", script.text)))
    }

    pub(super) fn commands(&self) -> Vec<Words<'_>> {
        let mut commands: Vec<Words<'_>> = self.users.iter().map(User::command).collect();
        for (at, file) in self.files.iter().enumerate() {
            let ours = ["install", "-D", "-m", &file.permissions, "--"].map(Cow::Borrowed);
            commands.push(Words(ours.into_iter().chain([delivered(at), Cow::Borrowed(&*file.path)]).collect()));
        }
        if !self.files.is_empty() {
            commands.push(words(["rm", "-rf", FILES]));
        }
        if !self.packages.is_empty() {
            commands.push(words(["sh", PACKAGES.file].into_iter().chain(self.packages.iter().map(String::as_str))));
        }
        // Files are there before the packages that read them, and their owners may come with these.
        for file in self.files.iter().filter(|file| file.owner != Owner::default()) {
            let owner = format!("{}:{}", file.owner.user, file.owner.group);
            let ours = ["chown", "--"].map(Cow::Borrowed);
            commands.push(Words(ours.into_iter().chain([Cow::Owned(owner), Cow::Borrowed(&*file.path)]).collect()));
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

    /// What comes behind the join in any case: it takes long, and only a machine that stays needs it.
    pub(super) fn last(&self) -> Option<Words<'_>> {
        self.hardening.then(|| words(["sh", HARDEN.file]))
    }
}

impl User {
    fn command(&self) -> Words<'_> {
        let sudo = if self.sudo { "sudo" } else { "" };
        let ours = ["sh", USER.file, &self.name, &self.shell].map(Cow::Borrowed);
        let ours = ours.into_iter().chain([Cow::Owned(self.groups.join(",")), Cow::Borrowed(sudo)]);
        Words(ours.chain(self.ssh_keys.iter().map(|key| Cow::Borrowed(key.as_str()))).collect())
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

/// Whether a text is the name of a user or a group, as Debian takes them.
pub fn is_user(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
        && text.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
}

/// Whether a text is a public key, as a line of `authorized_keys` without options.
pub fn is_ssh_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let kind = words.next().unwrap_or_default();
    let is_kind = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"].iter().any(|start| kind.starts_with(start));
    let is_key =
        |key: &str| key.len() >= 16 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    is_kind && words.next().is_some_and(is_key) && text.len() <= 2048 && !text.chars().any(char::is_control)
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
        for (text, good) in
            [("deploy", true), ("_apt", true), ("1a", false), ("a b", false), ("-a", false), ("", false)]
        {
            assert_eq!(is_user(text), good, "{text}");
        }
        for (text, good) in [
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here", true),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\nssh-rsa x", false),
            ("command=\"x\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", false),
            ("ssh-ed25519", false),
        ] {
            assert_eq!(is_ssh_key(text), good, "{text}");
        }
        let owner = |user: &str, group: &str| Some(Owner { user: user.into(), group: group.into() });
        for (text, parsed) in
            [("www-data", owner("www-data", "www-data")), ("a:b", owner("a", "b")), ("a:", None), ("a b", None)]
        {
            assert_eq!(Owner::parse(text), parsed, "{text}");
        }
    }
}
