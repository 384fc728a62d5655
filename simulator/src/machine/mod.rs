//! A booting machine: it reads its user data as cloud-init would, and joins with what it finds, or does not.
//!
//! The rules are those of `facts/tailscale-and-first-boot.md`, part B. Nothing is run: `runcmd` becomes one shell script
//! as it does on a real machine, and that script is read, with the scripts that the document delivers, until a
//! `tailscale up` is found that could work. What cannot be followed is a machine that never joins, with the reason.
//!
//! A document passes through `user_data` (what is this blob?), `cloud_config` (files, name, script), `shell` (which
//! commands?), `program` (what do they do?) and `tailscale_up` (would that work?); `system` is what they work on.

mod cloud_config;
mod program;
mod shell;
mod system;
mod tailscale_up;
mod user_data;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use cloud_config::Document;
use shell::Flow;
use system::System;
use user_data::UserData;

/// What becomes of a first boot.
#[derive(Clone, Debug)]
pub struct FirstBoot {
    /// How the machine joins, or why it never will.
    pub join: Result<JoinPlan, String>,
    /// What happened on the way, a line each, without secrets. cloud-init would log much of it and report success.
    pub log: Vec<String>,
}

/// How a machine joins.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinPlan {
    /// The key, `tskey-auth-...`; whether it is any good is the tailnet's to say.
    pub auth_key: String,
    /// The name that it reports.
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
    let mut system = System::named(cloud_config::first_label(server_name).unwrap_or(server_name));
    let join = plan(&mut system, user_data.unwrap_or_default());
    FirstBoot { join, log: system.log }
}

fn plan(system: &mut System, user_data: &str) -> Result<JoinPlan, String> {
    let (before, lines) = match user_data::open(user_data)? {
        UserData::CloudConfig(text) => {
            let document = Document::parse(&text)?;
            document.note_the_rest(system);
            let before = document.bootcmd(system).map(|script| run(system, "bootcmd", &script));
            document.write_files(system);
            document.name(system);
            (before, document.runcmd(system))
        }
        UserData::Script(text) => (None, vec![text]),
    };
    if before != Some(Flow::Joined) {
        run_lines(system, &lines);
    }
    match system.join.take() {
        Some(Ok(join)) => Ok(JoinPlan { auth_key: join.auth_key, hostname: join.hostname, installs: system.installs }),
        Some(Err(why)) => Err(why),
        // What stopped it, if anything was noted, tells more than that nothing came.
        None => Err(match system.log.last() {
            Some(last) => format!("nothing comes to `tailscale up`; the last that happened: {last}"),
            None => "nothing calls `tailscale up`".to_owned(),
        }),
    }
}

fn run(system: &mut System, name: &str, script: &str) -> Flow {
    shell::run(system, script, vec![name.to_owned()], BTreeMap::new())
}

/// Runs the script of `runcmd`. What comes after the join is not followed, but told.
fn run_lines(system: &mut System, lines: &[String]) {
    let before = (lines.len() > 1).then(|| system.clone());
    if run(system, "runcmd", &lines.join("\n")) != Flow::Joined {
        return;
    }
    let Some(before) = before else { return };
    let joins = |count: &usize| run(&mut before.clone(), "runcmd", &lines[..*count].join("\n")) == Flow::Joined;
    let joined = (1..=lines.len()).find(joins).unwrap_or(lines.len());
    for line in &lines[joined..] {
        system.note(&format!("then runs {line}"));
    }
}

#[cfg(test)]
mod tests;
