//! Programs and builtins: what a command with these words does to the machine, or to the shell that runs it.

mod files;
mod test;

use std::collections::BTreeMap;

use super::shell::{self, Flow, Shell, Status, UNKNOWN};
use super::tailscale_up;

pub(super) use files::{matches, output, substitute};

/// Runs a command. `input` is the here-document that it reads.
pub(super) fn call(shell: &mut Shell<'_>, words: &[String], input: Option<&str>) -> Flow {
    let Some(name) = words.first() else { return Flow::On(Status::Success) };
    if let Some(inner) = behind_wrapper(words) {
        let flow = call(shell, inner, input);
        return match (name.as_str(), flow) {
            ("exec", Flow::On(status)) if shell.is_sure() && !inner.is_empty() => {
                shell.forget_trap();
                Flow::Exit(status)
            }
            (_, flow) => flow,
        };
    }
    if let Some(flow) = shell.call_function(words) {
        return flow;
    }
    builtin(shell, name, words).unwrap_or_else(|| program(shell, words, input))
}

/// The command that another one runs for it: `timeout 60 tailscale up`, `sudo -E sh x`. Options that take a value of
/// their own are known by name.
fn behind_wrapper(words: &[String]) -> Option<&[String]> {
    let (values, arguments): (&[&str], usize) = match base(&words[0]) {
        "command" if words.get(1).is_some_and(|word| word == "-v" || word == "-V") => return None,
        "command" | "exec" | "nohup" | "time" | "setsid" => (&[], 0),
        "sudo" => (&["-u", "-g", "-h"], 0),
        "env" => (&["-u", "-C"], 0),
        "nice" => (&["-n"], 0),
        "stdbuf" => (&["-i", "-o", "-e"], 0),
        "timeout" => (&["-k", "-s"], 1),
        "flock" => (&["-w", "-E"], 1),
        _ => return None,
    };
    let mut at = 1;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-') && word.len() > 1) {
        at += 1 + usize::from(values.contains(&word.as_str()));
    }
    at += arguments;
    while base(&words[0]) == "env" && words.get(at).is_some_and(|word| word.contains('=')) {
        at += 1;
    }
    Some(words.get(at..).unwrap_or_default())
}

/// What the shell does itself.
fn builtin(shell: &mut Shell<'_>, name: &str, words: &[String]) -> Option<Flow> {
    let done = Flow::On(Status::Success);
    Some(match name {
        ":" | "true" | "umask" | "cd" => done,
        "trap" => {
            let words: Vec<String> = words[1..].iter().filter(|word| *word != "--").cloned().collect();
            shell.set_trap(&words);
            done
        }
        "wait" => shell.wait(&words[1..]),
        "false" => Flow::On(Status::Failure),
        "[" | "[[" | "test" => Flow::On(test::holds(shell, words)),
        "exit" => Flow::Exit(status(words.get(1))),
        "return" => Flow::Return(status(words.get(1))),
        "break" => Flow::Break,
        "continue" => Flow::Continue,
        "shift" => {
            let count = words.get(1).and_then(|count| count.parse().ok()).unwrap_or(1);
            let last = shell.arguments.len().min(count + 1);
            shell.arguments.drain(1.min(last)..last);
            done
        }
        "set" => {
            set(shell, &words[1..]);
            done
        }
        "export" | "readonly" | "local" | "declare" | "typeset" => {
            for word in words[1..].iter().filter(|word| !word.starts_with('-')) {
                let (name, value) =
                    word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
                if matches!(words[0].as_str(), "local" | "declare" | "typeset") {
                    shell.hide(name);
                }
                if let Some(value) = value {
                    shell.assign(name, value.to_owned());
                }
                if words[0] == "export" {
                    shell.exported.insert(name.to_owned());
                }
            }
            done
        }
        "unset" => {
            for word in &words[1..] {
                shell.variables.remove(word);
            }
            done
        }
        "read" => read_line(shell, &words[1..]),
        "eval" => shell.script(&words[1..].join(" ")),
        "." | "source" => read_in(shell, words),
        _ => return None,
    })
}

/// `read NAMES`: a line of what is read, a word for each name and the rest for the last.
fn read_line(shell: &mut Shell<'_>, words: &[String]) -> Flow {
    let names = words.iter().filter(|word| !word.starts_with('-'));
    let Some(text) = shell.stdin.clone().filter(|text| !text.contains(UNKNOWN)) else {
        names.for_each(|name| shell.assign(name, UNKNOWN.to_string()));
        return Flow::On(Status::Unknown);
    };
    let (line, rest) = text.split_once('\n').map_or((text.as_str(), None), |(line, rest)| (line, Some(rest)));
    shell.stdin = Some(rest.unwrap_or_default().to_owned());
    let mut line = line.trim();
    let mut names = names.peekable();
    while let Some(name) = names.next() {
        let end = line.find(char::is_whitespace).filter(|_| names.peek().is_some()).unwrap_or(line.len());
        shell.assign(name, line[..end].to_owned());
        line = line[end..].trim_start();
    }
    // At the end of what is read, it fails.
    Flow::On(Status::of(rest.is_some()))
}

fn status(word: Option<&String>) -> Status {
    match word.map(String::as_str) {
        None => Status::Unknown,
        Some(word) => word.parse().map_or(Status::Unknown, |code: u32| Status::of(code == 0)),
    }
}

/// `set -eu`, `set -o errexit`, `set -- a b`.
fn set(shell: &mut Shell<'_>, words: &[String]) {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let on = word.starts_with('-');
        match word.as_str() {
            "--" => {
                shell.arguments.truncate(1);
                shell.arguments.extend(words.by_ref().cloned());
            }
            "-o" | "+o" => match words.next().map(String::as_str) {
                Some("errexit") => shell.errexit = on,
                Some("nounset") => shell.nounset = on,
                Some("allexport") => shell.allexport = on,
                _ => {}
            },
            word => {
                for letter in word.chars().skip(1) {
                    match letter {
                        'e' => shell.errexit = on,
                        'u' => shell.nounset = on,
                        'a' => shell.allexport = on,
                        // `set -euo pipefail`: the name follows.
                        'o' => drop(words.next()),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// `. FILE`: a delivered file is read in this shell; one of the image may set anything.
fn read_in(shell: &mut Shell<'_>, words: &[String]) -> Flow {
    let text = words.get(1).and_then(|path| shell.system.file(path)).map(|file| file.text.clone());
    let Some(Some(text)) = text else {
        shell.foreign = true;
        return Flow::On(Status::Unknown);
    };
    match shell.script(&text) {
        Flow::Return(status) => Flow::On(status),
        flow => flow,
    }
}

fn program(shell: &mut Shell<'_>, words: &[String], input: Option<&str>) -> Flow {
    let name = base(&words[0]);
    if installs_tailscale(words) {
        shell.system.note(&format!("installs Tailscale with {name}"));
        shell.system.installs = true;
        return Flow::On(Status::Unknown);
    }
    match name {
        "tailscale" => tailscale(shell, &words[1..]),
        "sh" | "bash" | "dash" | "ash" | "busybox" => interpreter(shell, words, input),
        "hostname" if words.len() == 2 && !words[1].starts_with('-') => rename(shell, &words[1]),
        "hostnamectl" if words.len() == 3 && matches!(words[1].as_str(), "set-hostname" | "hostname") => {
            rename(shell, &words[2])
        }
        "rm" | "shred" | "chmod" | "cp" | "mv" | "install" | "tee" | "touch" | "mkdir" | "echo" | "printf" | "cat" => {
            files::change(shell, name, &words[1..], input)
        }
        _ => match shell.system.file(&words[0]).cloned() {
            Some(file) if file.mode & 0o111 == 0 => {
                shell.system.note(&format!("{}: permission denied", words[0]));
                Flow::On(Status::Failure)
            }
            Some(file) => execute(shell, file.text.as_deref(), words),
            None => Flow::On(Status::Unknown),
        },
    }
}

fn rename(shell: &mut Shell<'_>, name: &str) -> Flow {
    name.clone_into(&mut shell.system.hostname);
    Flow::On(Status::Success)
}

/// The part of a program's name that its place does not change.
fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// `sh FILE ARGUMENTS`, `sh -c TEXT`, and a shell that reads a here-document.
fn interpreter(shell: &mut Shell<'_>, words: &[String], input: Option<&str>) -> Flow {
    let mut at = 1;
    let mut options = String::new();
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-') || word.starts_with('+')) {
        options.push_str(word);
        at += 1;
        if word == "-s" || word == "--" {
            break;
        }
    }
    let rest = words.get(at..).unwrap_or_default();
    let with_c = options.contains('c') && !options.contains("--");
    match (rest, input) {
        ([text, arguments @ ..], _) if with_c => {
            let mut arguments = arguments.to_vec();
            if arguments.is_empty() {
                arguments.push(words[0].clone());
            }
            start(shell, text, arguments, &options)
        }
        ([path, ..], _) if !options.contains('s') => match shell.system.file(path).cloned() {
            Some(file) => match file.text {
                Some(text) => start(shell, &text, rest.to_vec(), &options),
                None => Flow::On(Status::Unknown),
            },
            None => Flow::On(Status::Unknown),
        },
        (arguments, Some(text)) => {
            let arguments = std::iter::once(words[0].clone()).chain(arguments.iter().cloned()).collect();
            start(shell, text, arguments, &options)
        }
        _ => Flow::On(Status::Unknown),
    }
}

/// A delivered file that is called by its own name.
fn execute(shell: &mut Shell<'_>, text: Option<&str>, words: &[String]) -> Flow {
    let Some(text) = text else { return Flow::On(Status::Unknown) };
    let first = text.lines().next().unwrap_or_default();
    let interpreter = first.strip_prefix("#!").map(str::trim);
    let options = interpreter.and_then(|line| line.split_once(' ')).map_or("", |(_, options)| options);
    let is_shell = interpreter.is_none_or(|line| {
        let names = line.split_whitespace().map(base);
        names.into_iter().any(|name| matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh"))
    });
    if is_shell { start(shell, text, words.to_vec(), options) } else { Flow::On(Status::Unknown) }
}

/// Another shell: it gets what is exported, and what it sets is its own.
fn start(shell: &mut Shell<'_>, text: &str, arguments: Vec<String>, options: &str) -> Flow {
    let exported = shell.exported.iter();
    let env: BTreeMap<String, String> =
        exported.filter_map(|name| Some((name.clone(), shell.variables.get(name)?.clone()))).collect();
    let name = arguments.first().cloned().unwrap_or_default();
    if shell.system.file(&name).is_some() {
        shell.system.note(&format!("runs {name}"));
    }
    // Options before the script count as if it began with them.
    let letters: String = options.chars().filter(|letter| "eu".contains(*letter)).collect();
    let text =
        if letters.is_empty() || options.contains("--") { text.to_owned() } else { format!("set -{letters}\n{text}") };
    match shell::run_below(shell, &text, arguments, env) {
        Flow::Joined => Flow::Joined,
        Flow::Exit(status) | Flow::Return(status) | Flow::On(status) => Flow::On(status),
        Flow::Break | Flow::Continue => Flow::On(Status::Success),
    }
}

fn tailscale(shell: &mut Shell<'_>, words: &[String]) -> Flow {
    let mut words = words.iter().skip_while(|word| word.starts_with("--socket="));
    match words.next().map(String::as_str) {
        Some("up") => {
            let words: Vec<String> = words.cloned().collect();
            let join = tailscale_up::read(shell.system, &words);
            let (line, flow) = match &join {
                Ok(join) => (format!("tailscale up as {}", join.hostname), Flow::Joined),
                Err(why) => (format!("tailscale up fails: {why}"), Flow::On(Status::Failure)),
            };
            shell.system.note(&line);
            shell.system.join = Some(join);
            flow
        }
        // Logged out, it says so and fails; as JSON, it says so and does not.
        Some("status") => Flow::On(if words.any(|word| word == "--json") { Status::Unknown } else { Status::Failure }),
        _ => Flow::On(Status::Unknown),
    }
}

/// `apt-get install ... tailscale`, or a download of the installer or of a static build.
fn installs_tailscale(words: &[String]) -> bool {
    let rest = &words[1..];
    match base(&words[0]) {
        "apt-get" | "apt" | "dnf" | "yum" | "zypper" | "snap" | "apk" => {
            let is_package =
                |word: &String| word == "tailscale" || word.starts_with("tailscale=") || word.ends_with("/tailscale");
            let is_verb = |word: &String| word == "install" || word == "add";
            rest.iter().any(is_verb) && rest.iter().any(is_package)
        }
        "curl" | "wget" => rest.iter().any(|word| {
            let build = [".tgz", ".deb"].into_iter().any(|kind| word.ends_with(kind));
            word.contains("tailscale.com/install.sh") || (build && word.contains("pkgs.tailscale.com/"))
        }),
        _ => false,
    }
}
