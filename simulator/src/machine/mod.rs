//! A booting machine: it reads its user data as cloud-init would, and joins with what it finds, or does not.
//!
//! The rules are those of `facts/tailscale-and-first-boot.md`, part B. Scripts are not run but read: the reader follows
//! `runcmd` into the scripts that the document delivers, and looks for `tailscale up`. What it cannot follow is a
//! machine that never joins, with the reason.

mod cloud_config;
mod shell;

use cloud_config::{CloudConfig, Command, Reading};
use shell::Script;

/// What becomes of a first boot.
#[derive(Clone, Debug)]
pub struct FirstBoot {
    /// How the machine joins, or why it never will.
    pub join: Result<JoinPlan, String>,
}

/// How a machine joins.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinPlan {
    /// The key.
    pub auth_key: String,
    /// The name.
    pub hostname: String,
    /// Whether it installs Tailscale first.
    pub installs: bool,
}

impl std::fmt::Debug for JoinPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinPlan")
            .field("hostname", &self.hostname)
            .field("installs", &self.installs)
            .finish_non_exhaustive()
    }
}

/// Reads user data as a machine of this name would at its first boot.
pub fn first_boot(user_data: Option<&str>, server_name: &str) -> FirstBoot {
    FirstBoot { join: plan(user_data.unwrap_or_default(), server_name) }
}

fn plan(user_data: &str, server_name: &str) -> Result<JoinPlan, String> {
    let config = match cloud_config::read(user_data)? {
        Reading::CloudConfig(config) => config,
        Reading::Script(text) => CloudConfig { commands: vec![Command::Line(text)], ..CloudConfig::default() },
    };
    let mut found =
        Found { hostname: config.hostname.clone().unwrap_or_else(|| server_name.to_owned()), ..Found::default() };
    for command in &config.commands {
        match command {
            Command::Line(text) => found.read(&config, text, &[], 0),
            Command::Words(words) => found.call(&config, words, 0),
        }
    }
    found.into_plan()
}

/// What was found on the way through the scripts.
#[derive(Default)]
struct Found {
    hostname: String,
    installs: bool,
    up: Option<Result<(String, Option<String>), String>>,
}

/// Scripts that call scripts that call scripts are not followed for ever.
const DEEPEST: u32 = 5;

impl Found {
    fn read(&mut self, config: &CloudConfig, text: &str, arguments: &[String], depth: u32) {
        if depth > DEEPEST {
            return;
        }
        let mut script = Script::new(arguments);
        for words in script.commands(text, &|path| config.file(path)) {
            self.call(config, &words, depth);
        }
    }

    fn call(&mut self, config: &CloudConfig, words: &[String], depth: u32) {
        self.installs |= installs_tailscale(words);
        if let Some(at) = words.windows(2).position(|pair| is_program(&pair[0], "tailscale") && pair[1] == "up") {
            // The first that is reached counts; a second `up` is a retry.
            let flags = read_flags(config, &words[at + 2..]);
            self.up.get_or_insert(flags);
        }
        let shells = ["sh", "bash", "dash", "/bin/sh", "/bin/bash"];
        let rest =
            if words.first().is_some_and(|first| shells.contains(&first.as_str())) { &words[1..] } else { words };
        match rest {
            [flag, text, arguments @ ..] if flag == "-c" => self.read(config, text, arguments, depth + 1),
            [path, arguments @ ..] => {
                let path = path.clone();
                if let Some(text) = config.file(&path) {
                    self.read(config, &text, arguments, depth + 1);
                }
            }
            [] => {}
        }
    }

    fn into_plan(self) -> Result<JoinPlan, String> {
        let (auth_key, hostname) = self.up.ok_or("nothing calls `tailscale up`")??;
        let hostname = hostname.unwrap_or(self.hostname);
        if !auth_key.starts_with("tskey-auth-") {
            return Err("the auth key is none".to_owned());
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !hostname.split('.').all(label) {
            return Err(format!("tailscale refuses the host name {hostname:?}"));
        }
        Ok(JoinPlan { auth_key, hostname, installs: self.installs })
    }
}

fn is_program(word: &str, name: &str) -> bool {
    word.rsplit('/').next() == Some(name)
}

fn installs_tailscale(words: &[String]) -> bool {
    let has = |wanted: &str| words.iter().any(|word| word == wanted || word.starts_with(&format!("{wanted}=")));
    let by_package = words.iter().any(|word| is_program(word, "apt-get") || is_program(word, "apt"))
        && has("install")
        && has("tailscale");
    by_package
        || words.iter().any(|word| word.contains("tailscale.com/install.sh") || word.contains("pkgs.tailscale.com"))
}

/// The key and the name out of the flags, given as `--flag=value` or `--flag value`.
fn read_flags(config: &CloudConfig, words: &[String]) -> Result<(String, Option<String>), String> {
    let (mut key, mut hostname) = (None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        match flag.trim_start_matches('-') {
            "auth-key" | "authkey" => key = value.or_else(|| words.next().cloned()),
            "hostname" => hostname = value.or_else(|| words.next().cloned()),
            _ => {}
        }
    }
    let key = key.ok_or("`tailscale up` is given no auth key")?;
    let key = match key.strip_prefix("file:") {
        Some(path) => {
            config.file(path).ok_or_else(|| format!("no file {path}, where the auth key should be"))?.trim().to_owned()
        }
        None => key,
    };
    Ok((key, hostname))
}

#[cfg(test)]
mod tests;
