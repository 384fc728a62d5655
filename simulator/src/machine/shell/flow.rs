//! Commands that hang together: which of them run, how often, and for sure or in doubt.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::syntax::{List, Node, Redirections};
use super::{Flow, Shell, Status, UNKNOWN, token};
use crate::machine::program;

/// Rounds of a loop that are followed, if the text says that there are more.
const ROUNDS: u32 = 20;

impl Shell<'_> {
    pub(super) fn pipeline(&mut self, negated: bool, stages: &List) -> Flow {
        self.guarded += u32::from(negated);
        let flow = match stages.as_slice() {
            [only] => self.node(only),
            stages => {
                let mut flow = Flow::On(Status::Success);
                let outer = self.stdin.clone();
                for (at, stage) in stages.iter().enumerate() {
                    // What one plain command prints, the next one reads, or a block does.
                    let is_plain = matches!(&**stage, Node::Simple(_));
                    let before = self.printed.take();
                    if at > 0 {
                        self.stdin.clone_from(&before);
                    }
                    self.piped = before.filter(|_| is_plain);
                    flow = self.apart(std::slice::from_ref(stage));
                    self.printed = self.printed.take().filter(|_| is_plain);
                    self.piped = None;
                    if flow == Flow::Joined {
                        break;
                    }
                }
                self.printed = None;
                self.stdin = outer;
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
    pub(super) fn apart(&mut self, nodes: &[Rc<Node>]) -> Flow {
        let variables = self.variables.clone();
        let trap = self.trap.take();
        let flow = self.list(&nodes.to_vec());
        let flow = self.leave(flow);
        self.variables = variables;
        self.trap = trap;
        match flow {
            Flow::Exit(status) | Flow::Return(status) => Flow::On(status),
            Flow::Break | Flow::Continue => Flow::On(Status::Success),
            flow => flow,
        }
    }

    /// A job beside what follows. It is followed at once; how it ended is what `wait` says, and what it removes is gone
    /// for sure only then. Its `exit` is its own.
    pub(super) fn job(&mut self, node: &Rc<Node>) -> Flow {
        let (job, outer) = self.system.begin_job();
        let flow = self.apart(std::slice::from_ref(node));
        self.system.leave_job(outer);
        if flow == Flow::Joined {
            return flow;
        }
        self.jobs.insert(job.clone(), if let Flow::On(status) = flow { status } else { Status::Unknown });
        self.last_job = Some(job);
        Flow::On(Status::Success)
    }

    /// `wait`: for these jobs, or for all.
    pub(in crate::machine) fn wait(&mut self, jobs: &[String]) -> Flow {
        self.system.settle(jobs);
        Flow::On(match jobs.last() {
            None => Status::Success,
            Some(job) => self.jobs.get(job).copied().unwrap_or(Status::Unknown),
        })
    }

    /// A block that reads and writes somewhere else. What it prints is not put together here.
    pub(super) fn redirected(&mut self, block: &Rc<Node>, to: &Redirections) -> Result<Flow, Flow> {
        let mut outputs = Vec::new();
        for (word, append) in &to.outputs {
            outputs.push((self.text(word)?, *append));
        }
        let input = self.input(to)?;
        let outer = to.input.is_some().then(|| std::mem::replace(&mut self.stdin, input));
        let flow = self.node(block);
        if let Some(outer) = outer {
            self.stdin = outer;
        }
        for (path, append) in outputs {
            self.system.write(&path, None, append);
        }
        Ok(flow)
    }

    pub(super) fn and_or(&mut self, first: &Rc<Node>, rest: &[(bool, Rc<Node>)]) -> Flow {
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

    pub(super) fn choose(&mut self, arms: &[(List, List)], otherwise: Option<&List>) -> Flow {
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

    /// A loop goes round as long as the text says so; where nobody can tell, one round is enough to see what it does.
    pub(super) fn repeat(&mut self, until: bool, condition: &List, body: &List) -> Flow {
        let before = self.variables.clone();
        for _ in 0..ROUNDS {
            let status = match self.condition(condition) {
                Flow::On(status) => status,
                Flow::Break => return Flow::On(Status::Success),
                other => return other,
            };
            let (at_first, read) = (self.variables.clone(), self.stdin.clone());
            let flow = match if until { status.not() } else { status } {
                Status::Failure => return Flow::On(Status::Success),
                Status::Success => self.list(body),
                Status::Unknown => {
                    let flow = self.in_doubt(&[body], false);
                    if flow == Flow::Joined {
                        return flow;
                    }
                    // A body may make a condition true that was not, as a retry does.
                    return match self.condition(condition) {
                        Flow::Joined => Flow::Joined,
                        _ => Flow::On(Status::Unknown),
                    };
                }
            };
            match flow {
                Flow::On(_) | Flow::Continue => {}
                Flow::Break => return Flow::On(Status::Success),
                other => return other,
            }
            // What changed nothing will change nothing.
            if self.variables == at_first && self.stdin == read {
                break;
            }
        }
        // It goes on for longer than anybody follows it.
        for (name, value) in &mut self.variables {
            if before.get(name) != Some(value) {
                *value = UNKNOWN.to_string();
            }
        }
        match self.condition(condition) {
            Flow::Joined => Flow::Joined,
            _ => Flow::On(Status::Unknown),
        }
    }

    pub(super) fn for_each(&mut self, name: &str, values: &[token::Word], body: &List) -> Result<Flow, Flow> {
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

    pub(super) fn case(&mut self, subject: &token::Word, arms: &[(Vec<token::Word>, List)]) -> Result<Flow, Flow> {
        let subject = self.text(subject)?;
        for (patterns, body) in arms {
            for pattern in patterns {
                let pattern = self.pattern(pattern)?;
                if subject.contains(UNKNOWN) || pattern.contains(UNKNOWN) {
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
