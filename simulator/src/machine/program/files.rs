//! Programs that make, change and remove files, and the few whose output is plain.

use crate::machine::shell::{Flow, Shell, Status, UNKNOWN};
use crate::machine::system::File;

pub(super) fn change(shell: &mut Shell<'_>, name: &str, words: &[String], input: Option<&str>) -> Flow {
    let paths: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let system_knows = |shell: &Shell<'_>, path: &str| shell.system.file(path).is_some();
    let mut status = Status::Success;
    match (name, paths.as_slice()) {
        // In doubt a file may still be there, so it stays.
        ("rm" | "shred", paths) if shell.is_sure() && (name == "rm" || removes(words)) => {
            for path in paths {
                shell.system.remove(path);
            }
        }
        ("chmod", [mode, paths @ ..]) => {
            for path in paths {
                shell.system.set_mode(path, |before| changed(before, mode));
            }
        }
        ("cp" | "mv" | "install", [from, to]) if system_knows(shell, from) => {
            let Some(file) = shell.system.file(from).cloned() else { return Flow::On(Status::Unknown) };
            let to = if to.ends_with('/') { format!("{to}{}", super::base(from)) } else { (*to).clone() };
            if name == "mv" && shell.is_sure() {
                shell.system.remove(from);
            }
            let mode = if name == "install" { 0o755 } else { file.mode };
            shell.system.put(&to, File { mode, ..file });
        }
        ("tee", paths) => {
            let append = words.iter().any(|word| word == "-a");
            for path in paths {
                shell.system.write(path, input.map(str::to_owned), append);
            }
        }
        ("touch", paths) => {
            for path in paths {
                shell.system.write(path, Some(String::new()), true);
            }
        }
        ("mkdir" | "echo" | "printf", _) => {}
        _ => status = Status::Unknown,
    }
    Flow::On(status)
}

fn removes(words: &[String]) -> bool {
    words.iter().any(|word| word.starts_with('-') && word.contains('u'))
}

/// `chmod`'s first argument: digits, or what is added for whom; other ways to say it leave the mode.
fn changed(before: u32, mode: &str) -> u32 {
    if let Ok(mode) = u32::from_str_radix(mode, 8) {
        return mode;
    }
    let sets_x = mode.split(',').any(|part| part.split_once('+').is_some_and(|(_, what)| what.contains('x')));
    if sets_x { before | 0o111 } else { before }
}

/// What a command prints, if its words alone say so.
pub(in crate::machine) fn output(shell: &Shell<'_>, words: &[String], input: Option<&str>) -> Option<String> {
    let [name, rest @ ..] = words else { return None };
    match (super::base(name), rest) {
        ("echo", [flag, rest @ ..]) if flag == "-n" => Some(rest.join(" ")),
        ("echo", [flag, ..]) if flag.starts_with('-') => None,
        ("echo", rest) => Some(format!("{}\n", rest.join(" "))),
        ("printf", [text]) if !text.contains('%') => Some(text.replace("\\n", "\n")),
        ("printf", [format, text]) if format == "%s" => Some(text.clone()),
        ("printf", [format, text]) if format == "%s\\n" => Some(format!("{text}\n")),
        ("cat", []) => input.map(str::to_owned),
        ("cat", paths) => {
            let texts = paths.iter().map(|path| shell.system.file(path)?.text.as_deref());
            texts.collect::<Option<Vec<_>>>().map(|texts| texts.concat())
        }
        ("hostname", []) => Some(format!("{}\n", shell.system.hostname)),
        _ => None,
    }
}

/// What stands in place of `$(SCRIPT)`: the output of one plain command, else nobody knows.
pub(in crate::machine) fn substitute(shell: &mut Shell<'_>, script: &str) -> String {
    let text = shell.single_command(script).and_then(|words| output(shell, &words, None));
    text.map_or_else(|| UNKNOWN.to_string(), |text| text.trim_end_matches('\n').to_owned())
}

/// Whether a text fits a pattern with `*` and `?`.
pub(in crate::machine) fn matches(pattern: &str, text: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => text.is_empty(),
        Some('*') => {
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(letters.as_str(), &text[at..]))
        }
        Some(letter) => {
            let mut rest = text.chars();
            rest.next().is_some_and(|first| letter == '?' || letter == first)
                && matches(letters.as_str(), rest.as_str())
        }
    }
}
