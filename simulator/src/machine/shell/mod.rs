//! A reader of shell scripts: what would run, with which words, as far as the text alone tells.
//!
//! It runs nothing. Where the text decides which way a script goes (`[ "$2" = install ]`, a function, an `exit`), that
//! way is followed; where only a running machine could tell, every way is followed, in doubt: there, an `exit` ends its
//! branch alone and nothing is removed. What a program would print is [`UNKNOWN`], except for a few plain ones.

mod arithmetic;
mod expand;
mod flow;
mod syntax;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use syntax::{Input, List, Node, Redirections, Simple};

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
    /// What `local` hides, for each function that runs.
    hidden: Vec<Vec<(String, Option<String>)>>,
    /// What runs when the shell ends, and whether that is sure.
    trap: Option<(String, bool)>,
    /// The jobs beside it, and how they ended.
    jobs: BTreeMap<String, Status>,
    last_job: Option<String>,
    /// What is left of what it reads, if that is known.
    pub stdin: Option<String>,
    /// What the command before it in a pipe printed, and what this one did, if that is known.
    piped: Option<String>,
    printed: Option<String>,
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
        hidden: Vec::new(),
        trap: None,
        jobs: BTreeMap::new(),
        last_job: None,
        stdin: None,
        piped: None,
        printed: None,
        errexit: false,
        nounset: false,
        allexport: false,
        foreign: false,
        doubt,
        guarded: 0,
        patience,
    };
    let flow = shell.script(text);
    let flow = shell.leave(flow);
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

    /// `trap ACTION SIGNALS`, of which the end of the shell is one.
    pub(super) fn set_trap(&mut self, words: &[String]) {
        let (action, signals) = match words {
            [] => return,
            [signal] => ("-", std::slice::from_ref(signal)),
            [action, signals @ ..] => (action.as_str(), signals),
        };
        if signals.iter().any(|signal| signal == "EXIT" || signal == "0") {
            let sure = self.is_sure();
            self.trap = Some((action.to_owned(), sure)).filter(|_| action != "-" && !action.is_empty());
        }
    }

    /// The shell gives its place to another program.
    pub(super) fn forget_trap(&mut self) {
        self.trap = None;
    }

    /// The shell ends, and what was put off until then happens.
    fn leave(&mut self, flow: Flow) -> Flow {
        let Some((action, sure)) = self.trap.take().filter(|_| flow != Flow::Joined) else { return flow };
        self.doubt += u32::from(!sure);
        let last = self.script(&action);
        self.doubt -= u32::from(!sure);
        if matches!(last, Flow::Joined | Flow::Exit(_)) { last } else { flow }
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
            Node::Job(inner) => return self.job(inner),
            Node::Redirected { block, to } => {
                return self.redirected(block, to).unwrap_or_else(|stop| stop);
            }
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
        for (word, append) in &simple.to.outputs {
            outputs.push((self.text(word)?, *append));
        }
        let piped = self.piped.take();
        let input = if simple.to.input.is_some() { self.input(&simple.to)? } else { piped };
        if words.is_empty() {
            for (name, value) in assigned {
                self.assign(&name, value);
            }
            return Ok(Flow::On(if simple.to.outputs.is_empty() { Status::Success } else { Status::Unknown }));
        }
        // Before a program's name, an assignment is for that program alone.
        let mut before = Vec::new();
        for (name, value) in assigned {
            let exported = !self.exported.insert(name.clone());
            before.push((name.clone(), self.variables.insert(name, value), exported));
        }
        let outer = simple.to.input.is_some().then(|| std::mem::replace(&mut self.stdin, input.clone()));
        let flow = program::call(self, &words, input.as_deref());
        if let Some(outer) = outer {
            self.stdin = outer;
        }
        for (name, value, exported) in before {
            if !exported {
                self.exported.remove(&name);
            }
            match value {
                Some(value) => self.variables.insert(name, value),
                None => self.variables.remove(&name),
            };
        }
        let text = program::output(self, &words, input.as_deref());
        self.printed = text.clone().filter(|_| outputs.is_empty());
        for (path, append) in outputs {
            self.system.write(&path, text.clone(), append);
        }
        Ok(flow)
    }

    /// What a command reads, if a redirection says so; without text, nobody knows.
    fn input(&mut self, to: &Redirections) -> Result<Option<String>, Flow> {
        Ok(match &to.input {
            None => None,
            Some(Input::Text(word)) => Some(self.text(word)?),
            Some(Input::File(word)) => {
                let path = self.text(word)?;
                self.system.file(&path).and_then(|file| file.text.clone())
            }
        })
    }

    pub(super) fn assign(&mut self, name: &str, value: String) {
        if self.allexport {
            self.exported.insert(name.to_owned());
        }
        self.variables.insert(name.to_owned(), value);
    }

    /// `local`: the function's own from here on, with the value that it had.
    pub(super) fn hide(&mut self, name: &str) {
        let before = self.variables.get(name).cloned();
        if let Some(hidden) = self.hidden.last_mut() {
            hidden.push((name.to_owned(), before));
        }
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
        self.hidden.push(Vec::new());
        let flow = self.node(&body);
        for (name, value) in self.hidden.pop().into_iter().flatten().rev() {
            match value {
                Some(value) => self.variables.insert(name, value),
                None => self.variables.remove(&name),
            };
        }
        self.system.depth -= 1;
        self.arguments = outer;
        Some(match flow {
            Flow::Return(status) => Flow::On(status),
            Flow::Break | Flow::Continue => Flow::On(Status::Success),
            flow => flow,
        })
    }
}
