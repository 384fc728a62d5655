//! The grammar of the shell, as far as first-boot scripts go.

use std::rc::Rc;

use super::token::{Token, Word, tokens};

/// Commands, in order.
pub(super) type List = Vec<Rc<Node>>;

/// A command, or several that hang together.
#[derive(Debug)]
pub(super) enum Node {
    Simple(Simple),
    /// `a | b`; with `!` before it if negated.
    Pipeline {
        negated: bool,
        stages: List,
    },
    /// `a && b || c`: the first, then each with whether it follows an `&&`.
    AndOr {
        first: Rc<Node>,
        rest: Vec<(bool, Rc<Node>)>,
    },
    If {
        arms: Vec<(List, List)>,
        otherwise: Option<List>,
    },
    /// `while`, or `until`.
    Loop {
        until: bool,
        condition: List,
        body: List,
    },
    For {
        name: String,
        values: Vec<Word>,
        body: List,
    },
    Case {
        subject: Word,
        arms: Vec<(Vec<Word>, List)>,
    },
    Group(List),
    /// `( ... )`: what it assigns is forgotten behind it.
    Subshell(List),
    /// `... &`: it runs beside what follows.
    Job(Rc<Node>),
    /// A block with redirections of its own.
    Redirected {
        block: Rc<Node>,
        to: Redirections,
    },
    Function {
        name: String,
        body: Rc<Node>,
    },
}

/// A command with its words.
#[derive(Debug, Default)]
pub(super) struct Simple {
    pub assignments: Vec<(String, Word)>,
    pub words: Vec<Word>,
    pub to: Redirections,
}

/// Where a command's standard input and output are.
#[derive(Debug, Default)]
pub(super) struct Redirections {
    /// Files that its output goes to, and whether it is added there.
    pub outputs: Vec<(Word, bool)>,
    /// What it reads, if it is not what the shell reads.
    pub input: Option<Input>,
}

#[derive(Debug)]
pub(super) enum Input {
    /// A here-document.
    Text(Word),
    File(Word),
}

/// Reads a script. A shell runs what stands before a mistake, so that much is there.
pub(super) fn parse(text: &str) -> (List, Option<String>) {
    let (tokens, mistake) = tokens(text);
    let mut parser = Parser { tokens, at: 0 };
    let mut list = List::new();
    loop {
        parser.skip_lines();
        if parser.at >= parser.tokens.len() {
            return (list, mistake);
        }
        let from = parser.at;
        match parser.and_or() {
            Ok(node) => {
                let (node, ended) = parser.ended(node);
                if !ended && parser.at < parser.tokens.len() {
                    return (list, Some(mistake.unwrap_or_else(|| parser.unexpected())));
                }
                list.push(node);
            }
            Err(error) => {
                debug_assert!(parser.at >= from, "a parser never goes back");
                return (list, Some(mistake.unwrap_or(error)));
            }
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

type Parsed<T> = Result<T, String>;

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is_operator(&self, wanted: &str) -> bool {
        matches!(self.peek(), Some(Token::Operator(operator)) if *operator == wanted)
    }

    fn takes_operator(&mut self, wanted: &str) -> bool {
        let there = self.is_operator(wanted);
        self.at += usize::from(there);
        there
    }

    fn plain(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => word.plain(),
            _ => None,
        }
    }

    fn takes_keyword(&mut self, wanted: &str) -> bool {
        let there = self.plain() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn need_keyword(&mut self, wanted: &str) -> Parsed<()> {
        if self.takes_keyword(wanted) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> String {
        match self.peek() {
            None => "the script ends too early".to_owned(),
            Some(Token::Operator("\n")) => "unexpected line end".to_owned(),
            Some(Token::Operator(operator) | Token::Redirect(operator, _)) => format!("unexpected {operator}"),
            Some(Token::Word(word)) => format!("unexpected {}", word.plain().unwrap_or("word")),
            Some(Token::HereDocument(_)) => "unexpected here-document".to_owned(),
        }
    }

    fn skip_lines(&mut self) {
        while self.takes_operator("\n") {}
    }

    /// A command with what ends it, if something does: a `&` makes a job of it.
    fn ended(&mut self, node: Rc<Node>) -> (Rc<Node>, bool) {
        let is_job = self.takes_operator("&");
        let ended = is_job || self.takes_operator(";") || self.takes_operator("\n");
        self.skip_lines();
        (if is_job { Rc::new(Node::Job(node)) } else { node }, ended)
    }

    /// Commands up to one of these keywords or operators, which is left standing.
    fn list(&mut self, ends: &[&str]) -> Parsed<List> {
        let mut list = List::new();
        self.skip_lines();
        loop {
            if ends.iter().any(|end| self.plain() == Some(end) || self.is_operator(end)) {
                return if list.is_empty() { Err(self.unexpected()) } else { Ok(list) };
            }
            let node = self.and_or()?;
            let (node, ended) = self.ended(node);
            list.push(node);
            if !ended && !ends.iter().any(|end| self.is_operator(end)) {
                return Err(self.unexpected());
            }
        }
    }

    fn and_or(&mut self) -> Parsed<Rc<Node>> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            let and = self.takes_operator("&&");
            if !and && !self.takes_operator("||") {
                break;
            }
            self.skip_lines();
            rest.push((and, self.pipeline()?));
        }
        Ok(if rest.is_empty() { first } else { Rc::new(Node::AndOr { first, rest }) })
    }

    fn pipeline(&mut self) -> Parsed<Rc<Node>> {
        let mut negated = false;
        while self.takes_keyword("!") {
            negated = !negated;
        }
        let mut stages = vec![self.command()?];
        while self.takes_operator("|") {
            self.skip_lines();
            stages.push(self.command()?);
        }
        match stages.pop() {
            Some(only) if stages.is_empty() && !negated => Ok(only),
            Some(last) => {
                stages.push(last);
                Ok(Rc::new(Node::Pipeline { negated, stages }))
            }
            None => Err(self.unexpected()),
        }
    }

    fn command(&mut self) -> Parsed<Rc<Node>> {
        let node = if self.takes_operator("(") {
            let list = self.list(&[")"])?;
            self.at += 1;
            Node::Subshell(list)
        } else {
            match self.plain() {
                Some("{") => {
                    self.at += 1;
                    let list = self.list(&["}"])?;
                    self.at += 1;
                    Node::Group(list)
                }
                Some("if") => self.condition()?,
                Some(word @ ("while" | "until")) => {
                    let until = word == "until";
                    self.at += 1;
                    let condition = self.list(&["do"])?;
                    Node::Loop { until, condition, body: self.body()? }
                }
                Some("for") => self.for_each()?,
                Some("case") => self.case()?,
                Some("function") => {
                    self.at += 1;
                    self.function()?
                }
                Some("then" | "else" | "elif" | "fi" | "do" | "done" | "esac" | "}") => return Err(self.unexpected()),
                Some(_) if matches!(self.tokens.get(self.at + 1), Some(Token::Operator("("))) => self.function()?,
                _ => return Ok(Rc::new(Node::Simple(self.simple()?))),
            }
        };
        let mut to = Redirections::default();
        while self.redirection(&mut to)? {}
        let block = Rc::new(node);
        let is_plain = to.outputs.is_empty() && to.input.is_none();
        Ok(if is_plain { block } else { Rc::new(Node::Redirected { block, to }) })
    }

    fn body(&mut self) -> Parsed<List> {
        self.need_keyword("do")?;
        let body = self.list(&["done"])?;
        self.at += 1;
        Ok(body)
    }

    fn condition(&mut self) -> Parsed<Node> {
        let (mut arms, mut otherwise) = (Vec::new(), None);
        while self.takes_keyword("if") || self.takes_keyword("elif") {
            let condition = self.list(&["then"])?;
            self.at += 1;
            arms.push((condition, self.list(&["elif", "else", "fi"])?));
        }
        if self.takes_keyword("else") {
            otherwise = Some(self.list(&["fi"])?);
        }
        self.need_keyword("fi")?;
        Ok(Node::If { arms, otherwise })
    }

    fn for_each(&mut self) -> Parsed<Node> {
        self.at += 1;
        let name = self.plain().ok_or_else(|| self.unexpected())?.to_owned();
        self.at += 1;
        self.skip_lines();
        let mut values = Vec::new();
        if self.takes_keyword("in") {
            while let Some(Token::Word(word)) = self.peek() {
                values.push(word.clone());
                self.at += 1;
            }
        }
        self.takes_operator(";");
        self.skip_lines();
        Ok(Node::For { name, values, body: self.body()? })
    }

    fn case(&mut self) -> Parsed<Node> {
        self.at += 1;
        let subject = self.any_word()?;
        self.skip_lines();
        self.need_keyword("in")?;
        self.skip_lines();
        let mut arms = Vec::new();
        while !self.takes_keyword("esac") {
            self.takes_operator("(");
            let mut patterns = vec![self.any_word()?];
            while self.takes_operator("|") {
                patterns.push(self.any_word()?);
            }
            if !self.takes_operator(")") {
                return Err(self.unexpected());
            }
            self.skip_lines();
            let body = if self.is_operator(";;") || self.plain() == Some("esac") {
                List::new()
            } else {
                self.list(&[";;", "esac"])?
            };
            self.takes_operator(";;");
            self.skip_lines();
            arms.push((patterns, body));
        }
        Ok(Node::Case { subject, arms })
    }

    fn any_word(&mut self) -> Parsed<Word> {
        let Some(Token::Word(word)) = self.peek() else { return Err(self.unexpected()) };
        let word = word.clone();
        self.at += 1;
        Ok(word)
    }

    fn function(&mut self) -> Parsed<Node> {
        let name = self.plain().ok_or_else(|| self.unexpected())?.to_owned();
        self.at += 1;
        if self.takes_operator("(") && !self.takes_operator(")") {
            return Err(self.unexpected());
        }
        self.skip_lines();
        Ok(Node::Function { name, body: self.command()? })
    }

    /// Takes one redirection, if one stands here.
    fn redirection(&mut self, to: &mut Redirections) -> Parsed<bool> {
        let Some(Token::Redirect(operator, descriptor)) = self.peek().cloned() else { return Ok(false) };
        self.at += 1;
        match (operator, self.peek().cloned()) {
            ("<<" | "<<-", Some(Token::HereDocument(text))) => to.input = Some(Input::Text(text)),
            ("<", Some(Token::Word(file))) if descriptor == 0 => to.input = Some(Input::File(file)),
            (">" | ">|" | "&>", Some(Token::Word(file))) if descriptor == 1 => to.outputs.push((file, false)),
            (">>", Some(Token::Word(file))) if descriptor == 1 => to.outputs.push((file, true)),
            (_, Some(Token::Word(_) | Token::HereDocument(_))) => {}
            _ => return Err(self.unexpected()),
        }
        self.at += 1;
        Ok(true)
    }

    fn simple(&mut self) -> Parsed<Simple> {
        let mut simple = Simple::default();
        let from = self.at;
        loop {
            if let Some(Token::Word(word)) = self.peek().cloned() {
                self.at += 1;
                match simple.words.is_empty().then(|| assignment(&word)).flatten() {
                    Some(assignment) => simple.assignments.push(assignment),
                    None => simple.words.push(word),
                }
            } else if !self.redirection(&mut simple.to)? {
                break;
            }
        }
        if self.at == from { Err(self.unexpected()) } else { Ok(simple) }
    }
}

/// `NAME=value`, whose name and sign no quotes may touch.
fn assignment(word: &Word) -> Option<(String, Word)> {
    use super::token::{Part, Piece};
    let Some(Part { piece: Piece::Text(text), quoted: false }) = word.0.first() else { return None };
    let (name, start) = text.split_once('=')?;
    let plain = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let mut value = word.clone();
    value.0[0].piece = Piece::Text(start.to_owned());
    plain.then(|| (name.to_owned(), value))
}
