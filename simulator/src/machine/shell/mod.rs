//! A reader of shell scripts: what would run, with which words, as far as the text alone tells.
//!
//! It runs nothing. Where the text decides which way a script goes (`[ "$2" = install ]`, a function, an `exit`), that
//! way is followed; where only a running machine could tell, every way is followed, in doubt: there, an `exit` ends its
//! branch alone and nothing is removed. What a program would print is [`UNKNOWN`], except for a few plain ones.

mod expand;
mod syntax;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use syntax::{List, Node, Simple};

use super::program;
use super::system::System;

/// Stands in a word for a text that only a running machine would know. A private-use character: no script holds it.
pub(super) const UNKNOWN: char = '\u{e000}';

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    Failure,
    Unknown,
}

impl Status {
    pub(super) fn of(success: bool) -> Self {
        if success { Self::Success } else { Self::Failure }
    }

    fn not(self) -> Self {
        match self {
            Self::Success => Self::Failure,
            Self::Failure => Self::Success,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// What happens behind a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next one runs.
    On(Status),
    /// The loop ends.
    Break,
    /// The loop's next round begins.
    Continue,
    /// The function, or the file that is read in, ends.
    Return(Status),
    /// The script ends.
    Exit(Status),
    /// The machine has joined: nothing behind it matters.
    Joined,
}

/// One running shell.
pub(super) struct Shell<'a> {
    pub system: &'a mut System,
    pub variables: BTreeMap<String, String>,
    /// The variables that programs get to see.
    pub exported: BTreeSet<String>,
    /// `$0`, then `$1` and so on.
    pub arguments: Vec<String>,
    functions: BTreeMap<String, Rc<Node>>,
    /// `-e`: a failure ends the script.
    pub errexit: bool,
    /// `-u`: so does a variable that nobody has set.
    pub nounset: bool,
    /// `-a`: whatever is set is exported.
    pub allexport: bool,
    /// A file of the machine was read in, so variables may be set that the text does not show.
    pub foreign: bool,
    /// How many undecided branches this is in.
    doubt: u32,
    /// In how many conditions this is, where `-e` does not count.
    guarded: u32,
    /// Commands that may still be read: functions that call themselves end here.
    patience: u32,
}

const PATIENCE: u32 = 5_000;
const DEEPEST: u32 = 32;

/// Reads a script as a shell that is started for it would run it: its arguments begin with its name.
pub(super) fn run(system: &mut System, text: &str, arguments: Vec<String>, env: BTreeMap<String, String>) -> Flow {
    start(system, text, arguments, env, (0, PATIENCE)).0
}

/// The same for a shell that another one starts, whose doubts and patience it shares.
pub(super) fn run_below(
    outer: &mut Shell<'_>,
    text: &str,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
) -> Flow {
    let (flow, patience) = start(outer.system, text, arguments, env, (outer.doubt, outer.patience));
    outer.patience = patience;
    flow
}

fn start(
    system: &mut System,
    text: &str,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
    (doubt, patience): (u32, u32),
) -> (Flow, u32) {
    let exported = env.keys().cloned().collect();
    let mut shell = Shell {
        system,
        variables: env,
        exported,
        arguments,
        functions: BTreeMap::new(),
        errexit: false,
        nounset: false,
        allexport: false,
        foreign: false,
        doubt,
        guarded: 0,
        patience,
    };
    let flow = shell.script(text);
    (flow, shell.patience)
}

impl Shell<'_> {
    /// Reads commands in this shell.
    pub(super) fn script(&mut self, text: &str) -> Flow {
        if self.system.depth >= DEEPEST {
            self.system.note("scripts call each other without end");
            return Flow::Exit(Status::Failure);
        }
        self.system.depth += 1;
        let (list, mistake) = syntax::parse(text);
        let mut flow = self.list(&list);
        self.system.depth -= 1;
        if let (Flow::On(_), Some(mistake)) = (flow, mistake) {
            self.system.note(&format!("syntax error: {mistake}"));
            flow = Flow::Exit(Status::Failure);
        }
        flow
    }

    /// The words of a script that is one plain command; they may come from commands themselves.
    pub(super) fn single_command(&mut self, script: &str) -> Option<Vec<String>> {
        let (list, mistake) = syntax::parse(script);
        let [node] = list.as_slice() else { return None };
        let Node::Simple(simple) = &**node else { return None };
        if mistake.is_some() || !simple.assignments.is_empty() || self.patience == 0 {
            return None;
        }
        self.patience -= 1;
        let mut words = Vec::new();
        for word in &simple.words {
            self.fields(word, &mut words).ok()?;
        }
        Some(words)
    }

    /// Whether it is sure that this command runs at all.
    pub(super) fn is_sure(&self) -> bool {
        self.doubt == 0
    }

    fn list(&mut self, list: &List) -> Flow {
        let mut flow = Flow::On(Status::Success);
        for node in list {
            flow = self.node(node);
            if !matches!(flow, Flow::On(_)) {
                break;
            }
        }
        flow
    }

    fn node(&mut self, node: &Rc<Node>) -> Flow {
        if self.patience == 0 {
            return Flow::Exit(Status::Unknown);
        }
        self.patience -= 1;
        let flow = match &**node {
            Node::Simple(simple) => self.simple(simple).unwrap_or_else(|stop| stop),
            Node::Pipeline { negated, stages } => self.pipeline(*negated, stages),
            Node::AndOr { first, rest } => return self.and_or(first, rest),
            Node::If { arms, otherwise } => return self.choose(arms, otherwise.as_ref()),
            Node::Loop { until, condition, body } => return self.repeat(*until, condition, body),
            Node::For { name, values, body } => {
                return self.for_each(name, values, body).unwrap_or_else(|stop| stop);
            }
            Node::Case { subject, arms } => return self.case(subject, arms).unwrap_or_else(|stop| stop),
            Node::Group(list) => return self.list(list),
            Node::Subshell(list) => self.apart(list),
            Node::Function { name, body } => {
                self.functions.insert(name.clone(), Rc::clone(body));
                Flow::On(Status::Success)
            }
        };
        if flow == Flow::On(Status::Failure) && self.errexit && self.guarded == 0 && self.is_sure() {
            self.system.note("a command failed under `set -e`, so the script ends");
            return Flow::Exit(Status::Failure);
        }
        flow
    }

    fn simple(&mut self, simple: &Simple) -> Result<Flow, Flow> {
        let mut assigned = Vec::new();
        for (name, value) in &simple.assignments {
            assigned.push((name.clone(), self.text(value)?));
        }
        let mut words = Vec::new();
        for word in &simple.words {
            self.fields(word, &mut words)?;
        }
        let mut outputs = Vec::new();
        for (word, append) in &simple.outputs {
            outputs.push((self.text(word)?, *append));
        }
        let input = simple.input.as_ref().map(|word| self.text(word)).transpose()?;
        if words.is_empty() {
            for (name, value) in assigned {
                self.assign(&name, value);
            }
            return Ok(Flow::On(if simple.outputs.is_empty() { Status::Success } else { Status::Unknown }));
        }
        // Before a program's name, an assignment is for that program alone.
        let mut before = Vec::new();
        for (name, value) in assigned {
            let exported = !self.exported.insert(name.clone());
            before.push((name.clone(), self.variables.insert(name, value), exported));
        }
        let flow = program::call(self, &words, input.as_deref());
        for (name, value, exported) in before {
            if !exported {
                self.exported.remove(&name);
            }
            match value {
                Some(value) => self.variables.insert(name, value),
                None => self.variables.remove(&name),
            };
        }
        for (path, append) in outputs {
            let text = program::output(self, &words, input.as_deref());
            self.system.write(&path, text, append);
        }
        Ok(flow)
    }

    pub(super) fn assign(&mut self, name: &str, value: String) {
        if self.allexport {
            self.exported.insert(name.to_owned());
        }
        self.variables.insert(name.to_owned(), value);
    }

    /// Calls a function of this name, if there is one.
    pub(super) fn call_function(&mut self, words: &[String]) -> Option<Flow> {
        let body = Rc::clone(self.functions.get(words.first()?)?);
        if self.system.depth >= DEEPEST {
            return Some(Flow::Exit(Status::Unknown));
        }
        let name = self.arguments.first().cloned().unwrap_or_default();
        let arguments = std::iter::once(name).chain(words[1..].iter().cloned()).collect();
        let outer = std::mem::replace(&mut self.arguments, arguments);
        self.system.depth += 1;
        let flow = self.node(&body);
        self.system.depth -= 1;
        self.arguments = outer;
        Some(match flow {
            Flow::Return(status) => Flow::On(status),
            Flow::Break | Flow::Continue => Flow::On(Status::Success),
            flow => flow,
        })
    }

    fn pipeline(&mut self, negated: bool, stages: &List) -> Flow {
        self.guarded += u32::from(negated);
        let flow = match stages.as_slice() {
            [only] => self.node(only),
            stages => {
                let mut flow = Flow::On(Status::Success);
                for stage in stages {
                    flow = self.apart(std::slice::from_ref(stage));
                    if flow == Flow::Joined {
                        break;
                    }
                }
                flow
            }
        };
        self.guarded -= u32::from(negated);
        match flow {
            Flow::On(status) if negated => Flow::On(status.not()),
            flow => flow,
        }
    }

    /// Commands in a shell of their own: what they set is gone behind them, and their `exit` is theirs.
    fn apart(&mut self, nodes: &[Rc<Node>]) -> Flow {
        let variables = self.variables.clone();
        let flow = self.list(&nodes.to_vec());
        self.variables = variables;
        match flow {
            Flow::Exit(status) | Flow::Return(status) => Flow::On(status),
            Flow::Break | Flow::Continue => Flow::On(Status::Success),
            flow => flow,
        }
    }

    fn and_or(&mut self, first: &Rc<Node>, rest: &[(bool, Rc<Node>)]) -> Flow {
        self.guarded += 1;
        let mut flow = self.node(first);
        self.guarded -= 1;
        for (at, (and, node)) in rest.iter().enumerate() {
            let Flow::On(status) = flow else { return flow };
            let is_last = at + 1 == rest.len();
            self.guarded += u32::from(!is_last);
            flow = match (status, and) {
                (Status::Success, true) | (Status::Failure, false) => self.node(node),
                (Status::Unknown, _) => self.in_doubt(&[std::slice::from_ref(node)], false),
                _ => Flow::On(status),
            };
            self.guarded -= u32::from(!is_last);
        }
        flow
    }

    /// Reads branches of which nobody knows which one is taken. `whole`: one of them is for sure.
    fn in_doubt(&mut self, branches: &[&[Rc<Node>]], whole: bool) -> Flow {
        let before = self.variables.clone();
        let mut ends = Vec::new();
        self.doubt += 1;
        for branch in branches {
            self.variables.clone_from(&before);
            if self.list(&branch.to_vec()) == Flow::Joined {
                self.doubt -= 1;
                return Flow::Joined;
            }
            ends.push(std::mem::take(&mut self.variables));
        }
        self.doubt -= 1;
        if !whole {
            ends.push(before);
        }
        // A value that all branches agree on is known; so is one that only some of them give, since nothing else can.
        let mut merged: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in ends.into_iter().flatten() {
            merged
                .entry(name)
                .and_modify(|known| {
                    if *known != value {
                        *known = UNKNOWN.to_string();
                    }
                })
                .or_insert_with(|| value.clone());
        }
        self.variables = merged;
        Flow::On(Status::Unknown)
    }

    fn condition(&mut self, list: &List) -> Flow {
        self.guarded += 1;
        let flow = self.list(list);
        self.guarded -= 1;
        flow
    }

    fn choose(&mut self, arms: &[(List, List)], otherwise: Option<&List>) -> Flow {
        for (at, (condition, body)) in arms.iter().enumerate() {
            match self.condition(condition) {
                Flow::On(Status::Success) => return self.list(body),
                Flow::On(Status::Failure) => {}
                Flow::On(Status::Unknown) => {
                    let mut branches: Vec<&[Rc<Node>]> = vec![body];
                    for (condition, body) in &arms[at + 1..] {
                        branches.push(condition);
                        branches.push(body);
                    }
                    branches.extend(otherwise.map(Vec::as_slice));
                    return self.in_doubt(&branches, otherwise.is_some());
                }
                other => return other,
            }
        }
        otherwise.map_or(Flow::On(Status::Success), |list| self.list(list))
    }

    /// One round is enough to see what a loop does; whether there is a second, nobody can tell.
    fn repeat(&mut self, until: bool, condition: &List, body: &List) -> Flow {
        match self.condition(condition) {
            Flow::On(status) => {
                let goes_on = if until { status.not() } else { status };
                let flow = match goes_on {
                    Status::Failure => return Flow::On(Status::Success),
                    Status::Success => self.list(body),
                    Status::Unknown => self.in_doubt(&[body], false),
                };
                match flow {
                    Flow::On(_) | Flow::Break | Flow::Continue => {}
                    other => return other,
                }
                // A body may make a condition true that was not, as a retry does.
                match self.condition(condition) {
                    Flow::Joined => Flow::Joined,
                    _ => Flow::On(Status::Unknown),
                }
            }
            other => other,
        }
    }

    fn for_each(&mut self, name: &str, values: &[token::Word], body: &List) -> Result<Flow, Flow> {
        let mut fields = Vec::new();
        for value in values {
            self.fields(value, &mut fields)?;
        }
        for field in fields {
            self.assign(name, field);
            match self.list(body) {
                Flow::On(_) | Flow::Continue => {}
                Flow::Break => break,
                other => return Ok(other),
            }
        }
        Ok(Flow::On(Status::Unknown))
    }

    fn case(&mut self, subject: &token::Word, arms: &[(Vec<token::Word>, List)]) -> Result<Flow, Flow> {
        let subject = self.text(subject)?;
        for (patterns, body) in arms {
            for pattern in patterns {
                let pattern = self.text(pattern)?;
                if subject.contains(UNKNOWN) || pattern.contains(UNKNOWN) || pattern.contains('[') {
                    let branches: Vec<&[Rc<Node>]> = arms.iter().map(|(_, body)| body.as_slice()).collect();
                    return Ok(self.in_doubt(&branches, false));
                }
                if program::matches(&pattern, &subject) {
                    return Ok(self.list(body));
                }
            }
        }
        Ok(Flow::On(Status::Success))
    }
}
