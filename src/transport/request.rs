//! Requests as values: built here by pure functions, sent elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use url::{Host, Url};

use super::TransportError;
use crate::secret::Secret;

/// The address under which an API is found, with its path, such as `https://api.hetzner.cloud/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Arc<Url>);

/// Why a text is no base address. Does not quote the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Not an absolute address, or not in plain letters: names of other scripts are not read.
    #[error("is not an absolute URL in plain ASCII")]
    Unreadable,
    /// `http:` to another machine would send the token in the clear.
    #[error("must begin with https: (http: is allowed for loopback addresses only)")]
    Insecure,
    /// User, password, query or fragment have no place in a base address.
    #[error("must not hold user name, password, query or fragment")]
    Extras,
}

impl BaseUrl {
    /// Reads a base address: `https:`, or `http:` for loopback only.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let text = with_plain_host(text.trim()).ok_or(BaseUrlError::Unreadable)?;
        let mut url = Url::parse(&text).map_err(|_| BaseUrlError::Unreadable)?;
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(BaseUrlError::Unreadable),
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(BaseUrlError::Insecure);
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Extras);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(Arc::new(url)))
    }

    /// Reads an address that is complete in itself and may have a query, such as the one GitHub names for its OIDC
    /// tokens. What [`BaseUrl::request`] adds comes behind that query.
    pub fn parse_with_query(text: &str) -> Result<Self, BaseUrlError> {
        let (address, query) = text.trim().split_once('?').unwrap_or((text.trim(), ""));
        let mut url = Url::clone(&Self::parse(address)?.0);
        url.set_query((!query.is_empty()).then_some(query));
        Ok(Self(Arc::new(url)))
    }

    /// Begins a request to a path below this address, with a query that is encoded here.
    pub fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Draft {
        let mut url = Url::clone(&self.0);
        if !path.is_empty() {
            url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Draft { method, url, headers: HeaderMap::new(), body: Bytes::new(), broken: false }
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// An absolute address with its host in lower case; nothing if it is not plain.
///
/// What `url` is built with here knows no script but ASCII, which saves 270 KB of tables. So no name reaches it that asks
/// for another one: not as it is, not escaped, and not in Punycode.
pub(super) fn with_plain_host(text: &str) -> Option<String> {
    let from = text.find("://")? + 3;
    let to = text[from..].find(['/', '\\', '?', '#']).map_or(text.len(), |length| from + length);
    let from = text[from..to].rfind('@').map_or(from, |at| from + at + 1);
    let host = text[from..to].to_ascii_lowercase();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !host.contains('%') && !host.contains("xn--");
    is_plain.then(|| format!("{}{host}{}", &text[..from], &text[to..]))
}

/// A request in the making.
#[derive(Debug)]
pub struct Draft {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    broken: bool,
}

impl Draft {
    /// Adds a bearer token, marked so that no dump shows it.
    #[must_use]
    pub fn bearer(mut self, token: &Secret) -> Self {
        match HeaderValue::try_from(format!("Bearer {}", token.expose())) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(AUTHORIZATION, value);
            }
            Err(_) => self.broken = true,
        }
        self
    }

    /// Adds a body and its type.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = body.into();
        self
    }

    /// The finished request.
    ///
    /// # Errors
    ///
    /// [`TransportError::Connect`] if a token or an address cannot be sent at all; settings are checked long before.
    pub fn build(self) -> Result<http::Request<Bytes>, TransportError> {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let unsendable = |why: &str| TransportError::Connect { host: host.clone(), why: why.to_owned() };
        if self.broken {
            return Err(unsendable("the token holds characters that no header may hold"));
        }
        let uri: http::Uri = self.url.as_str().parse().map_err(|_| unsendable("the address cannot be sent"))?;
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// A form body, `application/x-www-form-urlencoded`.
pub fn form(fields: &[(&str, &str)]) -> Bytes {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_addresses_are_https_or_loopback() {
        for (text, outcome) in [
            ("https://api.hetzner.cloud/v1", Ok("https://api.hetzner.cloud/v1")),
            ("https://api.hetzner.cloud/v1/", Ok("https://api.hetzner.cloud/v1")),
            ("http://127.0.0.1:8080/v1", Ok("http://127.0.0.1:8080/v1")),
            ("http://[::1]:8080/v1", Ok("http://[::1]:8080/v1")),
            ("http://localhost:1/api/v2", Ok("http://localhost:1/api/v2")),
            ("http://api.hetzner.cloud/v1", Err(BaseUrlError::Insecure)),
            ("http://10.0.0.1/v1", Err(BaseUrlError::Insecure)),
            ("http://localhost.evil.example/v1", Err(BaseUrlError::Insecure)),
            ("ftp://127.0.0.1/v1", Err(BaseUrlError::Insecure)),
            ("https://user:pw@host/v1", Err(BaseUrlError::Extras)),
            ("https://host/v1?x=y", Err(BaseUrlError::Extras)),
            ("api.hetzner.cloud/v1", Err(BaseUrlError::Unreadable)),
            ("HTTPS://API.Hetzner.Cloud/V1", Ok("https://api.hetzner.cloud/V1")),
            ("https://b\u{fc}cher.example/v1", Err(BaseUrlError::Unreadable)),
            ("https://XN--bcher-kva.example/v1", Err(BaseUrlError::Unreadable)),
            ("https://%61pi.hetzner.cloud/v1", Err(BaseUrlError::Unreadable)),
            ("https://api.hetzner.cloud/a%62c", Ok("https://api.hetzner.cloud/a%62c")),
            ("https://api.hetz\tner.cloud/v1", Err(BaseUrlError::Unreadable)),
            ("", Err(BaseUrlError::Unreadable)),
        ] {
            let outcome = outcome.map(str::to_owned);
            assert_eq!(BaseUrl::parse(text).map(|base| base.to_string()), outcome, "{text}");
        }
    }

    #[test]
    fn queries_are_encoded_and_tokens_stay_hidden() {
        let base = BaseUrl::parse("https://api.hetzner.cloud/v1").unwrap();
        let request = base
            .request(Method::GET, "/servers", &[("label_selector", "a=b c")])
            .bearer(&Secret::new("s3cret"))
            .build()
            .unwrap();
        assert_eq!(request.uri(), "https://api.hetzner.cloud/v1/servers?label_selector=a%3Db+c");
        assert!(!format!("{request:?}").contains("s3cret"));
        let broken = base.request(Method::GET, "/servers", &[]).bearer(&Secret::new("a\nb")).build();
        assert!(broken.is_err_and(|error| !error.to_string().contains("a\nb")));
    }
}
