//! A reader of shell scripts: enough of the language to see which commands with which words could be run.
//!
//! Every command counts, whatever `if` or function it stands in. Plain assignments and positional parameters are
//! expanded, command substitutions are not.

use std::collections::BTreeMap;

/// A script with its variables.
pub(super) struct Script {
    variables: BTreeMap<String, String>,
}

impl Script {
    pub(super) fn new(arguments: &[String]) -> Self {
        let numbered = arguments.iter().enumerate().map(|(at, value)| ((at + 1).to_string(), value.clone()));
        Self { variables: numbered.collect() }
    }

    /// All commands of the text, with their words expanded. `file` finds what `.` and `source` read.
    pub(super) fn commands(&mut self, text: &str, file: &dyn Fn(&str) -> Option<String>) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        for raw in split(text) {
            let mut words: Vec<String> = raw.iter().map(|word| self.expand(word)).collect();
            while let Some((name, value)) = words.first().and_then(|word| assignment(word)) {
                self.variables.insert(name, value);
                words.remove(0);
            }
            if let [dot, path, ..] = words.as_slice()
                && (dot == "." || dot == "source")
                && let Some(text) = file(path)
            {
                let path_commands = self.commands(&text, file);
                commands.extend(path_commands);
            }
            if !words.is_empty() {
                commands.push(words);
            }
        }
        commands
    }

    /// Puts values in place of `$name`, `${name}` and `${name:-usual}`. Marks from the splitter say where single quotes
    /// forbid it.
    fn expand(&self, word: &str) -> String {
        let mut out = String::new();
        let mut letters = word.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                LITERAL_DOLLAR => out.push('$'),
                '$' if letters.peek() == Some(&'{') => {
                    let inner: String = letters.by_ref().skip(1).take_while(|letter| *letter != '}').collect();
                    let (name, usual) = inner.split_once(":-").unwrap_or((inner.as_str(), ""));
                    out.push_str(self.variables.get(name).map_or(usual, String::as_str));
                }
                '$' => {
                    let mut name = String::new();
                    while let Some(next) = letters.peek().filter(|next| next.is_ascii_alphanumeric() || **next == '_') {
                        name.push(*next);
                        let digit = next.is_ascii_digit() && name.len() == 1;
                        letters.next();
                        if digit {
                            break;
                        }
                    }
                    out.push_str(self.variables.get(&name).map_or("", String::as_str));
                }
                letter => out.push(letter),
            }
        }
        out
    }
}

/// Stands for a `$` that quotes protect. A private-use character: no script holds it.
const LITERAL_DOLLAR: char = '\u{e000}';

/// `NAME=value`.
fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let plain = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    (plain && !name.starts_with(|letter: char| letter.is_ascii_digit())).then(|| (name.to_owned(), value.to_owned()))
}

/// Words that only steer.
const KEYWORDS: [&str; 14] =
    ["if", "then", "else", "elif", "fi", "while", "until", "do", "done", "!", "{", "}", "time", "exec"];

/// Splits a script into commands of raw words: quotes removed, comments dropped, lines joined.
fn split(text: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut letters = text.chars().peekable();
    let end_word = |words: &mut Vec<String>, word: &mut Option<String>| {
        if let Some(done) = word.take()
            && !(words.is_empty() && KEYWORDS.contains(&done.as_str()))
        {
            words.push(done);
        }
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&'\n') => {
                letters.next();
            }
            '\\' => {
                let next = letters.next().unwrap_or('\\');
                word.get_or_insert_default().push(if next == '$' { LITERAL_DOLLAR } else { next });
            }
            '\'' => {
                let quoted = letters.by_ref().take_while(|letter| *letter != '\'');
                let quoted: String = quoted.map(|l| if l == '$' { LITERAL_DOLLAR } else { l }).collect();
                word.get_or_insert_default().push_str(&quoted);
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
                    match (letter, letters.peek()) {
                        ('\\', Some('$')) => {
                            letters.next();
                            word.push(LITERAL_DOLLAR);
                        }
                        ('\\', Some('"' | '\\')) => word.extend(letters.next()),
                        _ => word.push(letter),
                    }
                }
            }
            '#' if word.is_none() => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '\n' | ';' | '&' | '|' | '(' | ')' => {
                end_word(&mut words, &mut word);
                if !words.is_empty() {
                    commands.push(std::mem::take(&mut words));
                }
            }
            letter if letter.is_whitespace() => end_word(&mut words, &mut word),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    end_word(&mut words, &mut word);
    if !words.is_empty() {
        commands.push(words);
    }
    commands
}
