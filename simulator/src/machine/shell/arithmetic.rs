//! `$(( ... ))`: whole numbers, as far as they are known.

/// The value of an expression; nothing if it is none, or if only a running machine could tell. `value` is what a name
/// stands for.
pub(super) fn evaluate(text: &str, value: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
    let mut reader = Reader { rest: text.trim_start(), value };
    let number = reader.binary(0)?;
    reader.rest.is_empty().then_some(number)
}

struct Reader<'a> {
    rest: &'a str,
    value: &'a dyn Fn(&str) -> Option<i64>,
}

/// The operators between two numbers with how firmly they bind, the longer ones of a beginning first.
const OPERATORS: [(&str, u8); 13] = [
    ("||", 1),
    ("&&", 2),
    ("==", 3),
    ("!=", 3),
    ("<=", 4),
    (">=", 4),
    ("<", 4),
    (">", 4),
    ("+", 5),
    ("-", 5),
    ("*", 6),
    ("/", 6),
    ("%", 6),
];

impl Reader<'_> {
    fn takes(&mut self, sign: &str) -> bool {
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    fn binary(&mut self, least: u8) -> Option<i64> {
        let mut left = self.unary()?;
        while let Some((sign, firmness)) = OPERATORS.into_iter().find(|(sign, _)| self.rest.starts_with(sign)) {
            if firmness < least {
                break;
            }
            self.takes(sign);
            let right = self.binary(firmness + 1)?;
            left = match sign {
                "||" => i64::from(left != 0 || right != 0),
                "&&" => i64::from(left != 0 && right != 0),
                "==" => i64::from(left == right),
                "!=" => i64::from(left != right),
                "<=" => i64::from(left <= right),
                ">=" => i64::from(left >= right),
                "<" => i64::from(left < right),
                ">" => i64::from(left > right),
                "+" => left.checked_add(right)?,
                "-" => left.checked_sub(right)?,
                "*" => left.checked_mul(right)?,
                "/" => left.checked_div(right)?,
                _ => left.checked_rem(right)?,
            };
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<i64> {
        if self.takes("-") {
            return self.unary()?.checked_neg();
        }
        if self.takes("!") {
            return Some(i64::from(self.unary()? == 0));
        }
        if self.takes("(") {
            let inner = self.binary(0)?;
            return self.takes(")").then_some(inner);
        }
        let end = self.rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        if word.starts_with(|letter: char| letter.is_ascii_digit()) {
            // 010 is eight.
            let octal = word.strip_prefix('0').filter(|digits| !digits.is_empty());
            return octal.map_or_else(|| word.parse(), |digits| i64::from_str_radix(digits, 8)).ok();
        }
        if word.is_empty() { None } else { (self.value)(word) }
    }
}
