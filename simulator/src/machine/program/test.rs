//! `[ ... ]`, as far as its words tell.

use crate::machine::shell::{Shell, Status, UNKNOWN};

pub(super) fn holds(shell: &Shell<'_>, words: &[String]) -> Status {
    let end = match words[0].as_str() {
        "[" => "]",
        "[[" => "]]",
        _ => return decide(shell, &words[1..]),
    };
    match words.split_last() {
        Some((last, rest)) if last == end && !rest.is_empty() => decide(shell, &rest[1..]),
        // `[[ a && b ]]` is taken apart at the `&&`, and `[` without its end is an error.
        _ => Status::Unknown,
    }
}

fn decide(shell: &Shell<'_>, words: &[String]) -> Status {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Status::Failure,
        ["!", rest @ ..] => match decide_plain(shell, rest) {
            Status::Success => Status::Failure,
            Status::Failure => Status::Success,
            Status::Unknown => Status::Unknown,
        },
        words => decide_plain(shell, words),
    }
}

fn decide_plain(shell: &Shell<'_>, words: &[&str]) -> Status {
    // Only a file that is sure to be there tells something: images bring others.
    let file = |path: &str, wanted: &dyn Fn(&crate::machine::system::File) -> bool| {
        shell.system.file(path).map_or(Status::Unknown, |file| Status::of(wanted(file)))
    };
    match words {
        ["-e" | "-f" | "-r" | "-w", path] => file(path, &|_| true),
        ["-x", path] => file(path, &|file| file.mode & 0o111 != 0),
        ["-s", path] => file(path, &|file| file.text.as_deref() != Some("")),
        [operator, text] if is_text_test(operator) && !text.contains(UNKNOWN) => {
            Status::of(text.is_empty() == (*operator == "-z"))
        }
        // A text that is unknown in part has at least its known part.
        [operator, text] if is_text_test(operator) && text.chars().any(|letter| letter != UNKNOWN) => {
            Status::of(*operator == "-n")
        }
        words if words.iter().any(|word| word.contains(UNKNOWN)) => Status::Unknown,
        [text] => Status::of(!text.is_empty()),
        [left, "=" | "==", right] => Status::of(left == right),
        [left, "!=", right] => Status::of(left != right),
        [left, operator, right] => {
            let (Ok(left), Ok(right)) = (left.parse::<i64>(), right.parse::<i64>()) else { return Status::Unknown };
            match *operator {
                "-eq" => Status::of(left == right),
                "-ne" => Status::of(left != right),
                "-lt" => Status::of(left < right),
                "-le" => Status::of(left <= right),
                "-gt" => Status::of(left > right),
                "-ge" => Status::of(left >= right),
                _ => Status::Unknown,
            }
        }
        _ => Status::Unknown,
    }
}

fn is_text_test(operator: &str) -> bool {
    operator == "-n" || operator == "-z"
}
