//! The rows of the matrix, by the ids under which the project knows its faults.
//!
//! What befalls a request is in `form.rs` and `special.rs`, what happens in the world in `happening.rs`, what several
//! calls do to each other in `concurrent.rs`; each names its row. This table says what the rows are, which rows are
//! another row at one kind of request, and where a row is proven that no run of this suite can show.

use crate::role::Role;
use crate::scenario::Scenario;
use crate::single::{self, Seen};

/// A class of faults.
pub struct Class {
    pub title: &'static str,
    pub words: &'static str,
    pub rows: &'static [Row],
}

/// Id, what it is, and a remark: where the row is proven, or how the design settles it.
pub type Row = (&'static str, &'static str, &'static str);

pub const CLASSES: &[Class] = &[
    Class {
        title: "Any request",
        words: "What can go wrong on the way to either API, whatever the request asks for. Each form of each row \
             befalls every request of every story.",
        rows: &[
            ("G01", "connection refused", ""),
            ("G02", "name not resolved", ""),
            ("G03", "TLS handshake cut", ""),
            ("G04", "certificate not acceptable", "Over real TLS: `__test__/network.test.js`."),
            ("G05", "no connection in time", ""),
            ("G06", "no answer", ""),
            (
                "G07",
                "an answer that comes too slowly",
                "A body that drips over a socket: unproven; one clock limits the whole attempt \
             (`src/transport/chain.rs`).",
            ),
            ("G08", "connection reset", ""),
            ("G09", "400: the request is not understood", ""),
            ("G10", "401 of Hetzner", ""),
            ("G11", "401 of Tailscale", "The token is renewed once."),
            ("G12", "403: forbidden", ""),
            ("G13", "403: maintenance", ""),
            ("G14", "404 on an action", "Actions expire; the server and the device decide."),
            ("G15", "404 on the server", ""),
            ("G16", "409: conflict", ""),
            ("G17", "410: the function was removed", ""),
            ("G18", "422: not accepted", ""),
            ("G19", "423: locked", ""),
            ("G20", "429 with a reset an hour ahead", "The reset is never used as a wait."),
            ("G21", "429 without headers", ""),
            ("G22", "429 as a page of HTML", ""),
            ("G23", "429 with any `Retry-After`", ""),
            ("G24", "5xx", ""),
            ("G25", "200 with JSON that is cut short", ""),
            ("G26", "200 with a page of HTML", ""),
            ("G27", "200 with nothing, or with another shape", ""),
            (
                "G28",
                "200 with a body that is too large, too deep, or no text",
                "What is too large is not asked for again, the rest is. An endless body over a socket: \
             `__test__/network.test.js`.",
            ),
            ("G29", "a redirect", "Never followed. Over a socket: `__test__/network.test.js`."),
            ("G30", "unknown fields and states", ""),
            ("G31", "a list with several pages, or with pages that lead back", ""),
            ("G32", "reads that lag behind", ""),
            ("G33", "a bucket that others have emptied", "Empty for good is G20."),
        ],
    },
    Class {
        title: "The order of a server",
        words: "`POST /servers` costs money and must not be made twice. After any reply that does not prove \"not \
             applied\" the name is looked up.",
        rows: &[
            ("P01", "surely not sent", ""),
            ("P02", "certificate not acceptable", ""),
            ("P03", "no answer, not applied", ""),
            ("P04", "no answer, applied", ""),
            ("P05", "applied only after the look-up", ""),
            (
                "P06",
                "applied only after the call gave up",
                "Named as \"may appear\" if it is still open when the time for the undo ends.",
            ),
            ("P07", "400, or 422 with the name of a field", ""),
            ("P08", "401: the token is wrong or may only read", ""),
            ("P09", "403: forbidden", ""),
            ("P10", "403: the quota is used up", ""),
            ("P11", "403: maintenance", ""),
            ("P12", "an image, a key, a type or a location that does not exist", ""),
            ("P13", "405 or 410", ""),
            (
                "P14",
                "409, and the name is held by our own attempt",
                "The late order of P05 makes the second one meet it.",
            ),
            ("P15", "409, and the name is held by a finished attempt of the job", ""),
            ("P16", "409, and the name is held by a living attempt of the job", ""),
            (
                "P17",
                "409, and the name is held by a dead attempt of the job",
                "The story that takes a dead attempt over, with every fault of this page at each of its requests.",
            ),
            ("P18", "409, and the name is held by a stranger", ""),
            ("P19", "409, and no read shows who holds the name", ""),
            ("P20", "409: conflict", ""),
            ("P21", "out of stock", "The next type is ordered."),
            ("P22", "422: service_error", ""),
            ("P23", "a type that is not sold there", "The next type is ordered."),
            ("P24", "423: locked", ""),
            ("P25", "429", ""),
            ("P26", "5xx", ""),
            ("P27", "201 that cannot be read", ""),
            ("P28", "201 without an action, or with an impossible id", ""),
            ("P29", "201 without an IPv4 address", "The result needs one, so the code is PROTOCOL."),
            ("P30", "201 that describes another server", ""),
            ("P31", "201 with a root password", "It is not read at all."),
            ("P32", "a redirect", ""),
            ("P33", "the first order is carried out after the second one's server was removed", ""),
        ],
    },
    Class {
        title: "Tokens and auth keys",
        words: "An access token dies by itself; an auth key lets a machine in, so it is revoked whatever happens.",
        rows: &[
            ("T01", "the token request gets no answer", ""),
            ("T02", "the credential is refused", "The answer is never quoted."),
            ("T03", "429, 5xx, or an answer that cannot be read", ""),
            ("T04", "200 with a token that is none", "A token that does not say how long it lives counts for 60 s."),
            ("T05", "the token ends during the call", ""),
            ("T06", "workload identity: the issuer refuses or is down, or the audience is wrong", ""),
            ("K01", "the order of a key was surely not sent", ""),
            (
                "K02",
                "no answer, applied or not",
                "The key is looked for by its description and revoked, and another one is ordered.",
            ),
            ("K03", "no answer, and keys may not be listed", "Nobody has the lost key's text, and it ends by itself."),
            ("K04", "the tag is not the client's, or a scope is missing", ""),
            ("K05", "429, 5xx, HTML", ""),
            ("K06", "200 with a key that is none", "No server is bought."),
            ("K07", "200 with a key that may do other things than were ordered", "It is revoked; no server is bought."),
            ("K08", "a key that ends before the machine joins", "Its life is the deadline and a minute more."),
        ],
    },
    Class {
        title: "Actions and enrollment",
        words: "Every answer is well formed, and what it says is the trouble.",
        rows: &[
            ("M01", "the create action fails", ""),
            ("M02", "a further action fails", ""),
            ("M03", "an action never ends", ""),
            ("M04", "an action with an unknown state, or whose progress goes back", "Counts as running."),
            ("M05", "the actions succeed and the server is off", "It is switched on once."),
            ("M06", "the device joins although an action still runs", "Both are waited for: the runs of M04."),
            ("M07", "the device never joins", ""),
            ("M08", "the device joins around the deadline", ""),
            ("M09", "the device shows after the server was undone", ""),
            ("M10", "the device waits for approval", ""),
            (
                "M11",
                "the device has other tags",
                "The design waits until the deadline, since tags may be mended; a further tag is no fault. What \
             joined with our key and is not provably ours is named, not deleted.",
            ),
            ("M12", "a device of the same name was there before", "The design leaves it alone."),
            ("M13", "an impostor of the same name, without our tag", ""),
            (
                "M14",
                "two devices of our name and tag",
                "The design deletes only what is provably this call's; the other one is named.",
            ),
            ("M15", "the device's name got a suffix", ""),
            ("M16", "the device has no single address of the tailnet", ""),
            ("M17", "the device vanishes or flaps", "Overruled by the design: one good read is enough."),
            ("M18", "the device is not connected", ""),
            ("M19", "tailnet lock refuses the device", ""),
            (
                "M20",
                "a first-boot document that cannot be",
                "Before any request: `src/cloud_init/document.rs`, `src/provision/job.rs`.",
            ),
            (
                "M21",
                "cloud-init says \"degraded\"",
                "Nothing in a call reads that; the device decides. On real images: unproven.",
            ),
            (
                "M22",
                "the mark `ready` cannot be written",
                "Overruled by the design: no call succeeds without the mark.",
            ),
            ("M23", "the spent key cannot be revoked", "A warning: nobody can use it any more."),
            ("M24", "addresses outlive their server", ""),
            ("M25", "the server is protected against deletion", ""),
        ],
    },
    Class {
        title: "Several calls at once",
        words: "Any number of processes may call for the same job at the same time.",
        rows: &[
            ("Q01", "the same job twice in one process", ""),
            ("Q02", "the same job in two processes", ""),
            ("Q03", "the followed attempt fails", ""),
            (
                "Q04",
                "the followed attempt dies",
                "Overruled by the design: a follower never becomes an owner; its error says when a call may begin \
             anew.",
            ),
            (
                "Q05",
                "the follower gives up",
                "The story that follows, interrupted between any two events, says the same.",
            ),
            ("Q06", "a reaper comes by while a slow call is alive", ""),
            ("Q07", "two reapers", ""),
            (
                "Q08",
                "the job is done already",
                "The story of that call, with every fault of this page at each of its requests.",
            ),
            ("Q09", "two jobs of one agent", ""),
            ("Q10", "two jobs with one name", ""),
            ("Q11", "50 calls at once", ""),
        ],
    },
    Class {
        title: "The undo itself fails",
        words: "It has a minute of its own. The code stays that of the first cause; what could not be removed is \
             named.",
        rows: &[
            ("X01", "a removal meets a transport fault, 5xx or 429", ""),
            ("X02", "it is gone already", ""),
            ("X03", "it still shows after its removal", ""),
            ("X04", "423: locked", ""),
            ("X05", "423: protected", ""),
            ("X06", "401 or 403", ""),
            ("X07", "the reply is lost", ""),
            ("X08", "the delete's action fails", ""),
            ("X09", "the server goes and the device does not", ""),
            ("X10", "403 on the device", ""),
            ("X11", "the key cannot be revoked", ""),
            ("X12", "an undo panics", ""),
            ("X13", "the job fails and its undo too", ""),
            ("X14", "somebody changed the labels", "It is not deleted."),
            ("X15", "no request is left for the undo", ""),
            ("X16", "the time for the undo ends", ""),
        ],
    },
    Class {
        title: "Time",
        words: "Waiting uses a clock that only goes forward; what is written into labels is the cloud's time.",
        rows: &[
            ("Z01", "our clock is wrong", ""),
            (
                "Z02",
                "our clock jumps during a call",
                "Nothing that decides reads it: `clippy.toml` forbids it, `src/transport/clock.rs` is the one reader.",
            ),
            ("Z03", "our machine sleeps during a call", ""),
            ("Z04", "the machine's clock is wrong", ""),
            ("Z05", "times beyond 2038", ""),
        ],
    },
];

/// The single-fault runs that belong to a row: its own forms, or those of other rows at one kind of request.
pub fn runs_of(row: &str) -> Vec<&'static Seen> {
    let at = |role: Role, rows: &'static [&'static str]| {
        move |seen: &Seen| seen.role == role && seen.case.special.is_none() && rows.contains(&seen.case.form.row)
    };
    let named = |names: &'static [&'static str]| {
        move |seen: &Seen| seen.role == Role::OrderServer && names.contains(&seen.case.form.name)
    };
    let fits: Box<dyn Fn(&Seen) -> bool> = match row {
        "P01" => Box::new(at(Role::OrderServer, &["G01", "G02", "G03", "G05"])),
        "P02" => Box::new(at(Role::OrderServer, &["G04"])),
        "P03" => Box::new(named(&["silence, not applied", "reset, not applied"])),
        "P04" => Box::new(named(&["silence, applied", "reset, applied", "reset in the middle of the body"])),
        "P05" | "P14" => Box::new(named(&["reset, applied 3 s later"])),
        "P25" => Box::new(at(Role::OrderServer, &["G20", "G21", "G22", "G23"])),
        "P26" => Box::new(at(Role::OrderServer, &["G24"])),
        "P27" => Box::new(at(Role::OrderServer, &["G25", "G26", "G27", "G28"])),
        "P32" => Box::new(at(Role::OrderServer, &["G29"])),
        "T01" => Box::new(at(Role::Token, &["G01", "G02", "G03", "G04", "G05", "G06", "G07", "G08"])),
        "T03" => Box::new(at(Role::Token, &["G20", "G21", "G22", "G23", "G24", "G25", "G26", "G27", "G28"])),
        "K01" => Box::new(at(Role::OrderKey, &["G01", "G02", "G03", "G05"])),
        "K02" => Box::new(at(Role::OrderKey, &["G06", "G08", "G25"])),
        "K05" => Box::new(at(Role::OrderKey, &["G20", "G21", "G22", "G23", "G24", "G26"])),
        "X01" => Box::new(at(Role::Undo, &["G01", "G05", "G06", "G08", "G20", "G21", "G22", "G23", "G24"])),
        "X07" => Box::new(|seen: &Seen| {
            seen.role == Role::Undo && ["silence, applied", "reset, applied"].contains(&seen.case.form.name)
        }),
        "M06" => Box::new(|seen: &Seen| seen.case.form.row == "M04"),
        "P17" => Box::new(|seen: &Seen| seen.case.scenario == Scenario::TakesOver),
        "Q08" => Box::new(|seen: &Seen| seen.case.scenario == Scenario::Returned),
        own => {
            let own = own.to_owned();
            Box::new(move |seen: &Seen| seen.case.form.row == own)
        }
    };
    single::all().iter().filter(|seen| fits(seen)).collect()
}
