//! The fault matrix.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[path = "matrix/concurrent.rs"]
mod concurrent;
#[path = "matrix/form.rs"]
mod form;
#[path = "matrix/happening.rs"]
mod happening;
#[path = "matrix/interruption.rs"]
mod interruption;
#[path = "matrix/judge.rs"]
mod judge;
#[path = "matrix/pair.rs"]
mod pair;
#[path = "matrix/pool.rs"]
mod pool;
#[path = "matrix/role.rs"]
mod role;
#[path = "matrix/scenario.rs"]
mod scenario;
#[path = "matrix/single.rs"]
mod single;
#[path = "matrix/special.rs"]
mod special;
mod support;
#[path = "matrix/wire.rs"]
mod wire;

#[test]
fn explore() {
    for scenario in scenario::Scenario::ALL {
        let calm = single::calm(scenario);
        println!("{scenario:?} {:?} {} {:?}", calm.code, calm.length, calm.wrong);
    }
    println!("{} cases", single::cases().len());
    let t = std::time::SystemTime::now();
    let all = single::all();
    println!("took {:?}", t.elapsed().unwrap());
    let delays = single::delays_of_survivors();
    println!("median {} of {}", delays[delays.len() / 2], delays.len());
    println!("longest {:?}", all.iter().max_by_key(|s| s.longest_wait).map(|s| (s.longest_wait, s.case.name())));
    println!("hetzner {:?}", all.iter().max_by_key(|s| s.requests.0).map(|s| (s.requests, s.case.name())));
    println!("tailscale {:?}", all.iter().max_by_key(|s| s.requests.1).map(|s| (s.requests, s.case.name())));
    println!("WRONG {}", all.iter().filter(|s| !s.wrong.is_empty()).count());
    for seen in all.iter().filter(|seen| !seen.wrong.is_empty()) {
        println!("* {} [{:?}]\n    {}", seen.case.name(), seen.role, seen.wrong.join("\n    "));
    }
}

#[test]
fn explore2() {
    let t = std::time::SystemTime::now();
    let all = interruption::all();
    println!("interruptions {} took {:?}, longest reaction {:?}", all.len(), t.elapsed().unwrap(), all.iter().filter_map(|s| s.reaction).max());
    println!("IWRONG {}", all.iter().filter(|s| !s.wrong.is_empty()).count());
    for seen in all.iter().filter(|seen| !seen.wrong.is_empty()) {
        println!("- {}\n    {}", seen.case.name(), seen.wrong.join("\n    "));
    }
    let t = std::time::SystemTime::now();
    let all = pair::all();
    println!("pairs {} of {} took {:?}, both {}", all.len(), pair::count(), t.elapsed().unwrap(), all.iter().filter(|s| s.both).count());
    println!("PWRONG {}", all.iter().filter(|s| !s.wrong.is_empty()).count());
    for seen in all.iter().filter(|seen| !seen.wrong.is_empty()) {
        println!("- {}\n    {}", seen.case.name(), seen.wrong.join("\n    "));
    }
}

#[test]
fn explore3() {
    for (seen, situation) in concurrent::all().iter().zip(concurrent::ALL).filter(|(seen, _)| !seen.is_empty()) {
        println!("- {} {}\n    {}", situation.row, situation.name, seen.join("\n    "));
    }
    for seen in happening::all().iter().filter(|seen| !seen.wrong.is_empty()) {
        println!("- {} {}\n    {}", seen.row, seen.name, seen.wrong.join("\n    "));
    }
}
