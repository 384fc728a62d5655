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
        ("printf", [format, arguments @ ..]) => printf(format, arguments),
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

/// What `printf` prints: the format, again and again as long as there are arguments. Nothing if a letter in it is not known
/// here.
fn printf(format: &str, arguments: &[String]) -> Option<String> {
    let mut rest = arguments.iter();
    let mut out = String::new();
    loop {
        let before = rest.len();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => out.push(escaped(letters.next()?)?),
                '%' => match letters.next()? {
                    '%' => out.push('%'),
                    's' => out.push_str(rest.next().map(String::as_str).unwrap_or_default()),
                    'd' => {
                        let number = rest.next().map_or("0", String::as_str);
                        out.push_str(&number.parse::<i64>().ok()?.to_string());
                    }
                    'b' => {
                        let mut inner = rest.next().map(String::as_str).unwrap_or_default().chars();
                        while let Some(letter) = inner.next() {
                            out.push(if letter == '\\' { escaped(inner.next()?)? } else { letter });
                        }
                    }
                    _ => return None,
                },
                letter => out.push(letter),
            }
        }
        if rest.len() == 0 || rest.len() == before {
            return Some(out);
        }
    }
}

fn escaped(letter: char) -> Option<char> {
    match letter {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        '\\' | '"' | '\'' => Some(letter),
        _ => None,
    }
}

/// Whether a text fits a pattern with `*`, `?` and `[...]`; a backslash takes the next sign's meaning.
pub(in crate::machine) fn matches(pattern: &str, text: &str) -> bool {
    let mut letters = pattern.chars();
    let Some(sign) = letters.next() else { return text.is_empty() };
    let pattern = letters.as_str();
    if sign == '*' {
        return (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(pattern, &text[at..]));
    }
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return false };
    let (fits, pattern) = match (sign, pattern.get(1..).and_then(|inner| inner.find(']'))) {
        ('?', _) => (true, pattern),
        ('[', Some(length)) => (is_one_of(&pattern[..=length], first), &pattern[length + 2..]),
        ('\\', _) => (letters.next() == Some(first), letters.as_str()),
        _ => (sign == first, pattern),
    };
    fits && matches(pattern, rest.as_str())
}

/// Whether a letter is of a class such as `a-z0-9` or `!x`.
fn is_one_of(class: &str, letter: char) -> bool {
    let inner = class.strip_prefix(['!', '^']);
    let letters: Vec<char> = inner.unwrap_or(class).chars().collect();
    let mut at = 0;
    let mut found = false;
    while let Some(start) = letters.get(at) {
        let end = letters.get(at + 2).filter(|_| letters.get(at + 1) == Some(&'-'));
        found |= (*start..=*end.unwrap_or(start)).contains(&letter);
        at += if end.is_some() { 3 } else { 1 };
    }
    found != inner.is_some()
}
