//! What words stand for at the moment at which a command runs.

use super::arithmetic::evaluate;
use super::token::{Piece, Word};
use super::{Flow, Shell, Status, UNKNOWN};
use crate::machine::program;

impl Shell<'_> {
    /// A word as one text: for assignments and file names, which are never split.
    pub(super) fn text(&mut self, word: &Word) -> Result<String, Flow> {
        let mut out = String::new();
        for part in &word.0 {
            match &part.piece {
                Piece::Text(text) => out.push_str(text),
                piece => out.push_str(&self.value(piece)?),
            }
        }
        Ok(out)
    }

    /// A word as a pattern: quotes take their meaning from its signs.
    pub(super) fn pattern(&mut self, word: &Word) -> Result<String, Flow> {
        let mut out = String::new();
        for part in &word.0 {
            let text = match &part.piece {
                Piece::Text(text) => text.clone(),
                piece => self.value(piece)?,
            };
            for letter in text.chars() {
                if part.quoted && "*?[]\\".contains(letter) {
                    out.push('\\');
                }
                out.push(letter);
            }
        }
        Ok(out)
    }

    /// A word as the arguments that it becomes: an expansion without quotes is split at blanks and may leave none,
    /// `"$@"` becomes as many as there are.
    pub(super) fn fields(&mut self, word: &Word, fields: &mut Vec<String>) -> Result<(), Flow> {
        let mut current: Option<String> = None;
        for part in &word.0 {
            match &part.piece {
                Piece::Text(text) => current.get_or_insert_default().push_str(text),
                Piece::Parameter(name, None) if name == "@" || (name == "*" && !part.quoted) => {
                    for (at, argument) in self.arguments.iter().skip(1).enumerate() {
                        if at > 0 {
                            fields.extend(current.take());
                        }
                        current.get_or_insert_default().push_str(argument);
                    }
                }
                piece if part.quoted => {
                    let value = self.value(piece)?;
                    current.get_or_insert_default().push_str(&value);
                }
                piece => {
                    let value = self.value(piece)?;
                    if value.starts_with(char::is_whitespace) {
                        fields.extend(current.take());
                    }
                    for (at, field) in value.split_whitespace().enumerate() {
                        if at > 0 {
                            fields.extend(current.take());
                        }
                        current.get_or_insert_default().push_str(field);
                    }
                    if value.ends_with(char::is_whitespace) {
                        fields.extend(current.take());
                    }
                }
            }
        }
        // `"$@"` without arguments is no word at all, though its quotes would make an empty one.
        let only_arguments = word.0.iter().all(|part| match &part.piece {
            Piece::Text(text) => text.is_empty(),
            Piece::Parameter(name, None) => name == "@",
            _ => false,
        });
        let has_arguments = word.0.iter().any(|part| matches!(part.piece, Piece::Parameter(..)));
        if only_arguments && has_arguments && self.arguments.len() < 2 {
            return Ok(());
        }
        fields.extend(current);
        Ok(())
    }

    fn value(&mut self, piece: &Piece) -> Result<String, Flow> {
        match piece {
            Piece::Text(text) => Ok(text.clone()),
            Piece::Opaque => Ok(UNKNOWN.to_string()),
            Piece::Substitution(script) => Ok(program::substitute(self, script)),
            Piece::Arithmetic(word) => {
                let text = self.text(word)?;
                let known = (!text.contains(UNKNOWN)).then(|| evaluate(&text, &|name| self.number(name))).flatten();
                Ok(known.map_or_else(|| UNKNOWN.to_string(), |number| number.to_string()))
            }
            Piece::Parameter(name, action) => {
                let value = self.lookup(name);
                match action {
                    None => match value {
                        Some(value) => Ok(value),
                        None if self.nounset && !self.foreign => self.stop(&format!("{name} is not set")),
                        None if self.foreign => Ok(UNKNOWN.to_string()),
                        None => Ok(String::new()),
                    },
                    Some((action, operand)) => self.conditional(name, value, action, operand),
                }
            }
        }
    }

    fn conditional(&mut self, name: &str, value: Option<String>, action: &str, operand: &Word) -> Result<String, Flow> {
        if value.is_none() && self.foreign {
            return Ok(UNKNOWN.to_string());
        }
        if matches!(action, "length" | "#" | "##" | "%" | "%%") {
            return match value {
                None if self.nounset => self.stop(&format!("{name} is not set")),
                value => self.shortened(&value.unwrap_or_default(), action, operand),
            };
        }
        // With a colon, an empty value counts as none.
        let value = value.filter(|value| !action.starts_with(':') || !value.is_empty());
        match (action.trim_start_matches(':'), value) {
            ("+", Some(_)) => self.text(operand),
            ("+", None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            ("?", None) => self.stop(&format!("{name} is not set")),
            ("=", None) => {
                let value = self.text(operand)?;
                self.assign(name, value.clone());
                Ok(value)
            }
            (_, None) => self.text(operand),
        }
    }

    /// `${#name}`, and a value without what a pattern takes from its beginning or end.
    fn shortened(&mut self, value: &str, action: &str, operand: &Word) -> Result<String, Flow> {
        let pattern = self.pattern(operand)?;
        if value.contains(UNKNOWN) || pattern.contains(UNKNOWN) {
            return Ok(UNKNOWN.to_string());
        }
        if action == "length" {
            return Ok(value.chars().count().to_string());
        }
        let fits = |at: &usize| {
            let (start, end) = value.split_at(*at);
            program::matches(&pattern, if action.starts_with('#') { start } else { end })
        };
        let mut ends: Vec<usize> = (0..=value.len()).filter(|at| value.is_char_boundary(*at)).collect();
        // The shortest that fits, or the longest, seen from the side that it is taken from.
        if matches!(action, "##" | "%") {
            ends.reverse();
        }
        let at = ends.into_iter().find(fits);
        Ok(match (at, action.starts_with('#')) {
            (Some(at), true) => value[at..].to_owned(),
            (Some(at), false) => value[..at].to_owned(),
            (None, _) => value.to_owned(),
        })
    }

    /// What a name counts for in a calculation.
    fn number(&self, name: &str) -> Option<i64> {
        match self.lookup(name) {
            Some(value) => value.trim().parse().ok(),
            None => (!self.foreign).then_some(0),
        }
    }

    /// The shell gives up; in doubt, it only may.
    fn stop(&mut self, why: &str) -> Result<String, Flow> {
        if !self.is_sure() {
            return Ok(UNKNOWN.to_string());
        }
        self.system.note(why);
        Err(Flow::Exit(Status::Failure))
    }

    fn lookup(&self, name: &str) -> Option<String> {
        match name {
            "@" | "*" => Some(self.arguments.iter().skip(1).cloned().collect::<Vec<_>>().join(" ")),
            "#" => Some(self.arguments.len().saturating_sub(1).to_string()),
            "!" => Some(self.last_job.clone().unwrap_or_default()),
            "?" | "$" | "-" => Some(UNKNOWN.to_string()),
            name if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                name.parse().ok().and_then(|at: usize| self.arguments.get(at).cloned())
            }
            name => self.variables.get(name).cloned().or_else(|| {
                // Every shell has these, whoever started it.
                ["PATH", "PWD", "IFS", "PPID", "HOME", "USER", "LANG", "SHELL", "TERM"]
                    .contains(&name)
                    .then(|| UNKNOWN.to_string())
            }),
        }
    }
}
