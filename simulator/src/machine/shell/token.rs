//! Shell text as words and operators.
//!
//! A word keeps its quoting and its expansions unread: what they stand for depends on the moment at which the command
//! runs. Command substitutions are kept as text.

/// A part of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// `;`, `&&`, `(`, a line end (`\n`) and their kin.
    Operator(&'static str),
    /// `>`, `>>`, `<`, `>&` and their kin; the next word is the target. The number is the descriptor that is meant.
    Redirect(&'static str, u32),
    /// A here-document, taken from below.
    HereDocument(Word),
}

/// One word, before any expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(pub Vec<Part>);

/// A stretch of a word, and whether quotes keep it in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub piece: Piece,
    pub quoted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// `$name`, `${name}` and `${name:-usual}`: the name, and what is done if it is (not) there.
    Parameter(String, Option<(String, Word)>),
    /// `$(...)` and backquotes.
    Substitution(String),
    /// `$(( ... ))`.
    Arithmetic(Word),
    /// Something whose value is not read here.
    Opaque,
}

impl Word {
    /// The text, if nothing in it is quoted or expanded: only such words are keywords or names.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part { piece: Piece::Text(text), quoted: false }] => Some(text),
            _ => None,
        }
    }

    fn push(&mut self, letter: char, quoted: bool) {
        match self.0.last_mut() {
            Some(Part { piece: Piece::Text(text), quoted: same }) if *same == quoted => text.push(letter),
            _ => self.add(Piece::Text(letter.to_string()), quoted),
        }
    }

    fn add(&mut self, piece: Piece, quoted: bool) {
        self.0.push(Part { piece, quoted });
    }
}

/// Takes a script apart. The error is the shell's complaint; what came before it is there.
pub(super) fn tokens(text: &str) -> (Vec<Token>, Option<String>) {
    let mut lexer = Lexer { letters: text.chars().collect(), at: 0, tokens: Vec::new(), awaited: Vec::new() };
    let error = lexer.read().err();
    (lexer.tokens, error)
}

/// A text in which expansions stand, but quotes mean nothing.
fn inside(text: &str) -> Word {
    let mut word = Word::default();
    let mut lexer = Lexer { letters: text.chars().collect(), at: 0, tokens: Vec::new(), awaited: Vec::new() };
    while let Some(letter) = lexer.peek(0) {
        if lexer.quoted_letter(&mut word, letter, false).is_err() {
            word.add(Piece::Opaque, true);
        }
    }
    word
}

const OPERATORS: [&str; 8] = ["&&", "||", ";;", ";", "&", "|", "(", ")"];
/// What `${name...}` can do, the longer ones first.
const ACTIONS: [&str; 12] = [":-", ":=", ":?", ":+", "##", "%%", "-", "=", "?", "+", "#", "%"];
const REDIRECTS: [&str; 11] = ["<<<", "<<-", "&>", ">>", ">|", ">&", "<<", "<&", "<>", ">", "<"];

struct Lexer {
    letters: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
    /// Here-documents whose text begins below the line: their place in the tokens, and whether tabs are dropped.
    awaited: Vec<(usize, bool)>,
}

impl Lexer {
    fn read(&mut self) -> Result<(), String> {
        while let Some(letter) = self.peek(0) {
            if self.starts("\\\n") {
                self.at += 2;
            } else if letter == '\n' {
                self.at += 1;
                self.tokens.push(Token::Operator("\n"));
                self.here_documents();
            } else if letter.is_whitespace() {
                self.at += 1;
            } else if letter == '#' {
                while self.peek(0).is_some_and(|letter| letter != '\n') {
                    self.at += 1;
                }
            } else if let Some(token) = self.redirect() {
                self.tokens.push(token);
            } else if let Some(operator) = OPERATORS.into_iter().find(|operator| self.starts(operator)) {
                self.at += operator.len();
                self.tokens.push(Token::Operator(operator));
            } else {
                let word = self.word(|letter| letter.is_whitespace() || ";&|()<>".contains(letter))?;
                let opener = self.tokens.last().cloned();
                self.tokens.push(Token::Word(word));
                if let Some(Token::Redirect(operator @ ("<<" | "<<-"), _)) = opener {
                    self.awaited.push((self.tokens.len() - 1, operator == "<<-"));
                }
            }
        }
        self.here_documents();
        Ok(())
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, letter)| self.peek(ahead) == Some(letter))
    }

    fn redirect(&mut self) -> Option<Token> {
        let digits = self.letters[self.at..].iter().take_while(|letter| letter.is_ascii_digit()).count();
        self.at += digits;
        let Some(operator) = REDIRECTS.into_iter().find(|operator| self.starts(operator)) else {
            self.at -= digits;
            return None;
        };
        let number: String = self.letters[self.at - digits..self.at].iter().collect();
        self.at += operator.len();
        Some(Token::Redirect(operator, number.parse().unwrap_or(u32::from(!operator.starts_with('<')))))
    }

    /// Reads the texts of the here-documents that were announced on the line above.
    fn here_documents(&mut self) {
        for (at, without_tabs) in std::mem::take(&mut self.awaited) {
            let Some(Token::Word(end)) = self.tokens.get(at).cloned() else { continue };
            let verbatim = end.0.iter().any(|part| part.quoted);
            let end: String =
                end.0.iter().map(|part| if let Piece::Text(text) = &part.piece { text.as_str() } else { "" }).collect();
            let mut body = String::new();
            while self.at < self.letters.len() {
                let line: String = self.letters[self.at..].iter().take_while(|letter| **letter != '\n').collect();
                self.at += line.chars().count() + 1;
                let line = if without_tabs { line.trim_start_matches('\t') } else { line.as_str() };
                if line == end {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            self.at = self.at.min(self.letters.len());
            let mut word = Word::default();
            if verbatim {
                word.add(Piece::Text(body), true);
            } else {
                word = inside(&body);
            }
            self.tokens[at] = Token::HereDocument(word);
        }
    }

    fn word(&mut self, ends: impl Fn(char) -> bool) -> Result<Word, String> {
        let mut word = Word::default();
        while let Some(letter) = self.peek(0).filter(|letter| !ends(*letter)) {
            match letter {
                '\\' => {
                    if let Some(next) = self.peek(1).filter(|next| *next != '\n') {
                        word.push(next, true);
                    }
                    self.at += 2;
                }
                '\'' => {
                    self.at += 1;
                    word.add(Piece::Text(String::new()), true);
                    while let Some(letter) = self.peek(0).filter(|letter| *letter != '\'') {
                        word.push(letter, true);
                        self.at += 1;
                    }
                    self.close('\'')?;
                }
                '"' => {
                    self.at += 1;
                    // Empty quotes make an empty word, not none.
                    word.add(Piece::Text(String::new()), true);
                    while let Some(letter) = self.peek(0).filter(|letter| *letter != '"') {
                        self.quoted_letter(&mut word, letter, true)?;
                    }
                    self.close('"')?;
                }
                '$' | '`' => self.expansion(&mut word, false)?,
                letter => {
                    word.push(letter, false);
                    self.at += 1;
                }
            }
        }
        Ok(word)
    }

    /// One letter between double quotes, or in a here-document, where quotes mean nothing.
    fn quoted_letter(&mut self, word: &mut Word, letter: char, in_quotes: bool) -> Result<(), String> {
        let special = |letter: char| "$`\\\n".contains(letter) || (in_quotes && letter == '"');
        match letter {
            '\\' if self.peek(1).is_some_and(special) => {
                if let Some(next) = self.peek(1).filter(|next| *next != '\n') {
                    word.push(next, true);
                }
                self.at += 2;
            }
            '$' | '`' => self.expansion(word, true)?,
            letter => {
                word.push(letter, true);
                self.at += 1;
            }
        }
        Ok(())
    }

    fn close(&mut self, letter: char) -> Result<(), String> {
        if self.peek(0) != Some(letter) {
            return Err(format!("a {letter} is not closed"));
        }
        self.at += 1;
        Ok(())
    }

    /// What a `$` or a backquote begins.
    fn expansion(&mut self, word: &mut Word, quoted: bool) -> Result<(), String> {
        if self.peek(0) == Some('`') {
            self.at += 1;
            let from = self.at;
            while self.peek(0).is_some_and(|letter| letter != '`') {
                self.at += 1;
            }
            let script = self.letters[from..self.at].iter().collect();
            self.close('`')?;
            word.add(Piece::Substitution(script), quoted);
            return Ok(());
        }
        self.at += 1;
        match self.peek(0) {
            Some('{') => {
                self.at += 1;
                let piece = self.braces()?;
                word.add(piece, quoted);
            }
            Some('(') => {
                let is_arithmetic = self.starts("((");
                let script = self.parentheses()?;
                let inner = script.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).filter(|_| is_arithmetic);
                let piece = inner.map(|inner| Piece::Arithmetic(inside(inner)));
                word.add(piece.unwrap_or(Piece::Substitution(script)), quoted);
            }
            Some(letter) if "@*#?$!-0123456789".contains(letter) => {
                self.at += 1;
                word.add(Piece::Parameter(letter.to_string(), None), quoted);
            }
            Some(letter) if letter.is_ascii_alphabetic() || letter == '_' => {
                let name = self.name();
                word.add(Piece::Parameter(name, None), quoted);
            }
            _ => word.push('$', quoted),
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let from = self.at;
        while self.peek(0).is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            self.at += 1;
        }
        self.letters[from..self.at].iter().collect()
    }

    /// The inside of `${...}`.
    fn braces(&mut self) -> Result<Piece, String> {
        let name = match self.peek(0) {
            Some(letter) if "@*?$!-#".contains(letter) && self.peek(1) == Some('}') => {
                self.at += 1;
                letter.to_string()
            }
            Some('#') => {
                self.at += 1;
                let name = self.name();
                self.close('}')?;
                return Ok(Piece::Parameter(name, Some(("length".to_owned(), Word::default()))));
            }
            _ => self.name(),
        };
        let rest = self.word(|letter| letter == '}')?;
        self.close('}')?;
        let Some(first) = rest.0.first().cloned() else { return Ok(Piece::Parameter(name, None)) };
        let Piece::Text(text) = first.piece else { return Ok(Piece::Opaque) };
        let Some(action) = ACTIONS.into_iter().find(|action| text.starts_with(action)).filter(|_| !name.is_empty())
        else {
            return Ok(Piece::Opaque);
        };
        let action = action.to_owned();
        let mut operand = rest;
        operand.0[0].piece = Piece::Text(text[action.len()..].to_owned());
        Ok(Piece::Parameter(name, Some((action, operand))))
    }

    /// The inside of `$(...)`, with whatever is nested in it.
    fn parentheses(&mut self) -> Result<String, String> {
        let from = self.at + 1;
        let mut depth = 0;
        let mut quote = None;
        while let Some(letter) = self.peek(0) {
            self.at += 1;
            match (quote, letter) {
                (Some('\''), '\\') => {}
                (_, '\\') => self.at += 1,
                (Some(open), letter) if open == letter => quote = None,
                (None, '\'' | '"') => quote = Some(letter),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(self.letters[from..self.at - 1].iter().collect());
            }
        }
        Err("a ( is not closed".to_owned())
    }
}
