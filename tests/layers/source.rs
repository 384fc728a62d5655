//! A reader of Rust that knows just enough to find every path: what is code, what is inside which module.

/// Words and signs of a source, without comments, texts and characters.
pub fn tokens(source: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), source);
    while let Some(letter) = rest.chars().next() {
        let (length, counts) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (comment_end(rest), false)
        } else if letter == '"' {
            (text_end(rest), false)
        } else if letter == '\'' {
            (character_end(rest), false)
        } else if is_word(rest) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let raw = matches!(&rest[..end], "r" | "br" | "cr").then(|| raw_text_length(&rest[end..])).flatten();
            raw.map_or((end, true), |length| (end + length, false))
        } else {
            (letter.len_utf8(), !letter.is_whitespace())
        };
        let (token, after) = rest.split_at(length);
        if counts {
            tokens.push(token);
        }
        rest = after;
    }
    tokens
}

/// Comments nest.
fn comment_end(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(sign) = rest[at..].find(['/', '*']).map(|next| at + next) {
        let step = match rest.get(sign..sign + 2) {
            Some("/*") => 1,
            Some("*/") => -1,
            _ => 0,
        };
        depth = depth.saturating_add_signed(step);
        at = sign + if step == 0 { 1 } else { 2 };
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn text_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The end of a character, or of the mark of a lifetime.
fn character_end(rest: &str) -> usize {
    let mut letters = rest.char_indices().skip(1);
    match (letters.next(), letters.next(), letters.next()) {
        // What is escaped may itself be a quote: the closing one comes after it.
        (Some((_, '\\')), _, Some((from, _))) => rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1),
        (_, Some((at, '\'')), _) => at + 1,
        _ => 1,
    }
}

/// The length of `##"..."##`, if that is what follows.
fn raw_text_length(rest: &str) -> Option<usize> {
    let open = rest.find('"')?;
    let marks = &rest[..open];
    let close = format!("\"{marks}");
    let is_raw = marks.chars().all(|mark| mark == '#');
    is_raw.then(|| rest[open + 1..].find(&close).map_or(rest.len(), |end| open + 1 + end + close.len()))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
}

/// A path, and where it was found.
pub struct Found {
    pub path: String,
    /// The inline modules around it.
    pub inside: Vec<String>,
    pub in_use: bool,
    /// In a `pub use`.
    pub passed_on: bool,
    /// In a module for tests.
    pub in_tests: bool,
}

/// All paths, with the braces of `use` written out.
pub fn paths(tokens: &[&str]) -> Vec<Found> {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut found = Vec::new();
    // One entry for each open brace: the module it belongs to, if it does, and whether that is for tests.
    let mut braces: Vec<(Option<&str>, bool)> = Vec::new();
    let mut for_tests = false;
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at];
        let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at]);
        for_tests |= tokens[at..].starts_with(&CFG_TEST);
        match token {
            "{" => {
                let module = (before(2) == "mod").then(|| before(1));
                let around = braces.last().is_some_and(|(_, tests)| *tests);
                braces.push((module, around || (module.is_some() && for_tests)));
                for_tests = false;
            }
            "}" => _ = braces.pop(),
            ";" => for_tests = false,
            _ => {}
        }
        let after_path = before(1) == ":" && before(2) == ":" && continues_path(before(4), before(3));
        let after_dot = before(1) == "." && before(2) != ".";
        if !is_word(token) || is_keyword(token) || after_dot || after_path {
            at += 1;
            continue;
        }
        let statement = tokens[..at].iter().rposition(|t| *t == ";" || *t == "}").map_or(0, |end| end + 1);
        // What stands between the path and the last sign that can only stand in front of an import.
        let head =
            tokens[statement..at].iter().rposition(|t| *t == "use" || *t == "crate").map(|head| statement + head);
        let in_use = head.is_some_and(|head| {
            let leads = tokens[head + 1..at].iter().all(|t| *t == ":");
            leads && (tokens[head] == "use" || head.checked_sub(1).is_some_and(|before| tokens[before] == "extern"))
        });
        let passed_on = head.filter(|_| in_use).and_then(|head| head.checked_sub(1)).is_some_and(|before| {
            tokens[before] == "pub" || (tokens[before] == ")" && tokens[statement..before].contains(&"pub"))
        });
        let mut list = Vec::new();
        read_path(tokens, &mut at, "", &mut list);
        let inside: Vec<String> = braces.iter().filter_map(|(module, _)| module.map(str::to_owned)).collect();
        let in_tests = braces.last().is_some_and(|(_, tests)| *tests);
        found.extend(list.into_iter().map(|path| Found { path, inside: inside.clone(), in_use, passed_on, in_tests }));
    }
    found
}

/// Words that no path begins with. After them `::` begins one.
fn is_keyword(token: &str) -> bool {
    const WORDS: [&str; 16] = [
        "as", "dyn", "else", "extern", "fn", "if", "impl", "in", "match", "mod", "mut", "pub", "ref", "return", "use",
        "where",
    ];
    WORDS.contains(&token)
}

/// Whether `::` after these two goes on with a path: after `A` and `A<B>`, not after an arrow.
fn continues_path(before: &str, token: &str) -> bool {
    (token == ">" && !matches!(before, "-" | "=")) || (is_word(token) && !is_keyword(token))
}

fn read_path(tokens: &[&str], at: &mut usize, prefix: &str, paths: &mut Vec<String>) {
    let mut path = prefix.to_owned();
    loop {
        match tokens.get(*at).copied() {
            Some("{") if !path.is_empty() => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| *token != "}") {
                    if tokens[*at] == "as" {
                        *at += 2;
                    } else if is_word(tokens[*at]) || tokens[*at] == "*" {
                        read_path(tokens, at, &path, paths);
                    } else {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            Some(word) if is_word(word) || (word == "*" && !path.is_empty()) => {
                path.push_str(word);
                *at += 1;
            }
            _ => break,
        }
        if tokens.get(*at..*at + 2) != Some([":", ":"].as_slice()) {
            break;
        }
        path.push_str("::");
        *at += 2;
    }
    paths.push(path);
}
