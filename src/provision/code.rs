//! The error codes, whether a repeat makes sense, and the hints.

/// The closed list of error codes. Each has a page in `docs/errors/`, whose first paragraph is the hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each code's page in docs/errors says what it means")]
pub enum Code {
    InvalidInput,
    Config,
    AuthHetzner,
    AuthTailscale,
    Forbidden,
    Quota,
    Capacity,
    CapReached,
    NameConflict,
    JobMismatch,
    NotFound,
    RateLimited,
    Unreachable,
    Tls,
    Upstream,
    Protocol,
    ApiRemoved,
    ActionFailed,
    ActionTimeout,
    EnrollTimeout,
    EnrollRejected,
    EnrollAmbiguous,
    NotReachable,
    Aborted,
    Deadline,
    Superseded,
    Internal,
}

macro_rules! codes {
    ($($code:ident $text:literal $retryable:literal,)*) => {
        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            /// The code as JavaScript sees it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text),* }
            }

            /// Whether the same call, made again later and unchanged, may well succeed.
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$code => $retryable),* }
            }

            fn page(self) -> &'static str {
                match self { $(Self::$code => include_str!(concat!("../../docs/errors/", $text, ".md"))),* }
            }
        }
    };
}

codes! {
    InvalidInput "INVALID_INPUT" false,
    Config "CONFIG" false,
    AuthHetzner "AUTH_HETZNER" false,
    AuthTailscale "AUTH_TAILSCALE" false,
    Forbidden "FORBIDDEN" false,
    Quota "QUOTA" false,
    Capacity "CAPACITY" true,
    CapReached "CAP_REACHED" false,
    NameConflict "NAME_CONFLICT" false,
    JobMismatch "JOB_MISMATCH" false,
    NotFound "NOT_FOUND" false,
    RateLimited "RATE_LIMITED" true,
    Unreachable "UNREACHABLE" true,
    Tls "TLS" false,
    Upstream "UPSTREAM" true,
    Protocol "PROTOCOL" false,
    ApiRemoved "API_REMOVED" false,
    ActionFailed "ACTION_FAILED" true,
    ActionTimeout "ACTION_TIMEOUT" true,
    EnrollTimeout "ENROLL_TIMEOUT" true,
    EnrollRejected "ENROLL_REJECTED" false,
    EnrollAmbiguous "ENROLL_AMBIGUOUS" false,
    NotReachable "NOT_REACHABLE" true,
    Aborted "ABORTED" true,
    Deadline "DEADLINE" true,
    Superseded "SUPERSEDED" true,
    Internal "INTERNAL" false,
}

impl Code {
    /// What a person should do: the first paragraph of the code's page.
    pub fn hint(self) -> String {
        let paragraph = self.page().split("\n\n").nth(1).unwrap_or_default();
        paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_with_its_name_and_a_hint() {
        for code in Code::ALL {
            assert!(code.page().starts_with(&format!("# {}\n\n", code.as_str())), "{code:?}");
            assert!((20..400).contains(&code.hint().len()), "{code:?}: {}", code.hint());
        }
    }
}
