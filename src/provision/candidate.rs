//! Which server types to try, in which order (design 6, "Server types").

use crate::hetzner::{Price, ServerType};

/// The usual order: x86, at least 2 GB, cheapest known first. Gen-1 types are sold in the US only since 2026.
pub const USUAL: [&str; 5] = ["cpx11", "cx23", "cpx12", "cpx22", "cpx21"];

const LEAST_MEMORY_MIB: u64 = 2048;

/// A type worth ordering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The type's name.
    pub server_type: String,
    /// The location's name.
    pub location: String,
    /// What it costs there, where Hetzner says.
    pub price: Option<Price>,
    /// Whether Hetzner says that it is in stock.
    pub is_in_stock: bool,
}

/// A type that was considered, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateAttempt {
    /// The type's name.
    pub server_type: String,
    /// The location's name.
    pub location: String,
    /// Why it was not taken; nothing if it was.
    pub refused: Option<String>,
}

/// The wanted types in the order in which to try them: each an offer, or the reason against it.
///
/// A type that is out of stock just now is tried last: Hetzner's flag is no promise either way
/// (`facts/hetzner.md` 3.3). `now` is the cloud's time in unix seconds.
pub fn choose(
    wanted: &[String],
    types: &[ServerType],
    location: &str,
    now: i64,
) -> Vec<Result<Candidate, CandidateAttempt>> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for name in wanted {
        match offer(types, name, location, now) {
            Ok(candidate) if candidate.is_in_stock => first.push(Ok(candidate)),
            Ok(candidate) => last.push(Ok(candidate)),
            Err(reason) => first.push(Err(CandidateAttempt {
                server_type: name.clone(),
                location: location.to_owned(),
                refused: Some(reason),
            })),
        }
    }
    first.append(&mut last);
    first
}

fn offer(types: &[ServerType], name: &str, location: &str, now: i64) -> Result<Candidate, String> {
    let server_type = types.iter().find(|t| t.name == name).ok_or("unknown to Hetzner")?;
    if server_type.architecture != "x86" {
        return Err(format!("its architecture is {}, not x86", server_type.architecture));
    }
    if server_type.memory_mib < LEAST_MEMORY_MIB {
        return Err("it has less than 2 GB of memory".to_owned());
    }
    let offer = server_type.offers.iter().find(|offer| offer.location == location);
    let offer = offer.ok_or_else(|| format!("not sold in {location}"))?;
    if offer.unavailable_after.is_some_and(|end| end <= now) {
        return Err(format!("no longer sold in {location}"));
    }
    let (server_type, location) = (name.to_owned(), location.to_owned());
    Ok(Candidate { server_type, location, price: offer.price.clone(), is_in_stock: offer.available })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hetzner::Offer;

    fn server_type(name: &str, architecture: &str, memory_mib: u64, available: bool, end: Option<i64>) -> ServerType {
        let offer = Offer { location: "nbg1".into(), available, unavailable_after: end, price: None };
        ServerType { name: name.into(), architecture: architecture.into(), memory_mib, offers: vec![offer] }
    }

    #[test]
    fn withdrawn_types_are_left_out_and_those_out_of_stock_come_last() {
        let types = [
            server_type("cpx11", "x86", 2048, false, Some(100)),
            server_type("cx23", "x86", 4096, false, None),
            server_type("cpx12", "x86", 2048, true, Some(300)),
            server_type("cpx22", "x86", 4096, true, None),
            server_type("cax11", "arm", 4096, true, None),
            server_type("tiny", "x86", 1024, true, None),
        ];
        let wanted: Vec<String> =
            ["cpx11", "cx23", "cpx12", "cpx22", "cax11", "tiny", "nope"].map(str::to_owned).to_vec();
        let names: Vec<String> = choose(&wanted, &types, "nbg1", 200)
            .into_iter()
            .map(|considered| considered.map_or_else(|no| format!("not {}", no.server_type), |yes| yes.server_type))
            .collect();
        assert_eq!(names, ["not cpx11", "cpx12", "cpx22", "not cax11", "not tiny", "not nope", "cx23"]);
        assert!(choose(&wanted, &types, "hil", 200).iter().all(Result::is_err));
    }
}
