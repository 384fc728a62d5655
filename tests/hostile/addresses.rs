//! Base addresses, and headers that speak of time (Y13, Y14, G23, Z01).

use std::time::Duration;

use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use proptest::prelude::*;
use provision_vm::secret::Secret;
use provision_vm::transport::{BaseUrl, Clock, retry};

use super::{cases, hostile_text, paused};

/// Pieces of addresses, put together at random.
fn address() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => proptest::sample::select(PARTS.as_slice()).prop_map(str::to_owned),
        1 => hostile_text(),
    ];
    proptest::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
}

const PARTS: [&str; 36] = [
    "https://",
    "http://",
    "HTTP://",
    "https:",
    "http:/",
    "//",
    "file:///",
    "data:",
    "javascript:",
    "api.hetzner.cloud",
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "localhost.",
    "evil.example",
    ".localhost",
    "@",
    "user:pass@",
    "\\",
    "\\@",
    "#",
    "?",
    "?x=y",
    "/",
    "/v1",
    "/..",
    "/%2e%2e",
    ":80",
    ":443",
    ":99999",
    " ",
    "\u{3002}",
];

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_name = host == "localhost" || host.ends_with(".localhost");
    is_name || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The token would go there; so it goes to nobody else, and never in the clear over a network.
fn check(base: &BaseUrl) -> Result<(), TestCaseError> {
    let text = base.to_string();
    let authority = text.split('/').nth(2).unwrap();
    prop_assert!(!authority.contains('@') && !text.contains('#'), "{text}");
    let draft = base.request(http::Method::GET, "/servers", &[("name", "a&b=/../@")]).bearer(&Secret::new("s3cret"));
    let Ok(request) = draft.build() else { return Ok(()) };
    let uri = request.uri();
    let host = uri.host().unwrap();
    prop_assert!(uri.scheme_str() == Some("https") || is_loopback(host), "{uri} in the clear");
    let stays = text.split('?').next().unwrap().trim_end_matches('/').to_owned();
    prop_assert!(uri.to_string().starts_with(&format!("{stays}/servers?")), "{uri} is not below {text}");
    prop_assert!(uri.query().unwrap().ends_with("name=a%26b%3D%2F..%2F%40"), "{uri}");
    Ok(())
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn y13_an_accepted_address_keeps_the_token_from_the_open_network(text in address()) {
        if let Ok(base) = BaseUrl::parse(&text) {
            prop_assert!(!base.to_string().contains('?'));
            check(&base)?;
        }
        if let Ok(base) = BaseUrl::parse_with_query(&text) {
            check(&base)?;
        }
    }

    #[test]
    fn g23_retry_after_is_a_sensible_wait_or_none(header in header(), now in any::<i64>()) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, header);
        if let Some(wait) = retry::retry_after(&headers, now) {
            prop_assert!((1..=30).contains(&wait.as_secs()), "{wait:?}");
        }
    }

    #[test]
    fn z01_whatever_a_date_says_the_clock_goes_on(headers in proptest::collection::vec(header(), 1..4)) {
        paused().block_on(async {
            let clock = Clock::default();
            for header in headers {
                clock.observe(&HeaderMap::from_iter([(DATE, header)]));
                let before = clock.cloud_unix();
                prop_assert!(before >= 0);
                tokio::time::advance(Duration::from_secs(7)).await;
                // A clock that no answer has set yet is this machine's.
                prop_assert!((0..=8).contains(&(clock.cloud_unix() - before)) );
            }
            Ok(())
        })?;
    }
}

fn header() -> impl Strategy<Value = HeaderValue> {
    let date = (0_u8..40, 0_usize..14, 0_u16..12_000, any::<[u8; 3]>()).prop_map(|(day, month, year, [h, m, s])| {
        const MONTHS: [&str; 14] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "jan", "???"];
        format!("Mon, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT", MONTHS[month], h % 30, m % 70, s % 70).into_bytes()
    });
    prop_oneof![
        2 => date,
        1 => any::<i128>().prop_map(|number| number.to_string().into_bytes()),
        1 => (0_u8..60).prop_map(|number| number.to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
    .prop_filter_map("no header can hold it", |bytes| HeaderValue::from_bytes(&bytes).ok())
}
