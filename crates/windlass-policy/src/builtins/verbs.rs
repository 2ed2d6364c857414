//! Formatting by Go's verbs (`%-10s`, `%05d`, `%v`), as the documentation of Go's package `fmt` has it, for the four types that
//! OPA formats: integers, big integers, floats and texts. What does not fit together is told in the text (`%!d(string=x)`,
//! `%!s(MISSING)`), never by an error or an empty text.

use super::strings::{can_backquote, digits, is_print, quote, quote_char};

/// What OPA hands to the formatter: everything that is no number has become its text before.
#[derive(Debug)]
pub(super) enum Operand {
    Int(i64),
    /// An integer that fits in no 64 bits.
    Big(regorus::Value),
    Float(f64),
    Text(String),
}

impl Operand {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::Big(_) => "*big.Int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
        }
    }
}

/// A larger width or precision is taken for an error, by Go too.
const LARGEST: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    sharp: bool,
    zero: bool,
    plus: bool,
    minus: bool,
    space: bool,
    /// `%#v` and `%+v` mean something else than the flags alone.
    sharp_v: bool,
    plus_v: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats, or says which verb cannot be formatted here.
pub(super) fn sprintf(format: &str, operands: &[Operand]) -> Result<String, &'static str> {
    let mut printer = Printer { out: String::new(), flags: Flags::default() };
    let mut scan =
        Scan { format: format.as_bytes(), at: 0, next: 0, count: operands.len(), good: true, reordered: false };
    while scan.at < format.len() {
        let rest = &format[scan.at..];
        let literal = rest.find('%').unwrap_or(rest.len());
        printer.out.push_str(&rest[..literal]);
        scan.at += literal;
        if scan.at >= format.len() {
            break;
        }
        scan.at += 1;
        scan.good = true;
        printer.flags = Flags::default();
        scan.flags(&mut printer.flags);
        scan.sizes(operands, &mut printer);
        let Some(verb) = format[scan.at..].chars().next() else {
            printer.out.push_str("%!(NOVERB)");
            break;
        };
        scan.at += verb.len_utf8();
        if verb == '%' {
            printer.out.push('%');
        } else if !scan.good {
            printer.out.push_str(&format!("%!{verb}(BADINDEX)"));
        } else if let Some(operand) = operands.get(scan.next) {
            if matches!(verb, 'v' | 'w') {
                let flags = &mut printer.flags;
                (flags.sharp_v, flags.sharp) = (flags.sharp, false);
                (flags.plus_v, flags.plus) = (flags.plus, false);
            }
            printer.print(operand, verb)?;
            scan.next += 1;
        } else {
            printer.out.push_str(&format!("%!{verb}(MISSING)"));
        }
    }
    if !scan.reordered && scan.next < operands.len() {
        printer.flags = Flags::default();
        printer.out.push_str("%!(EXTRA ");
        for (place, operand) in operands[scan.next..].iter().enumerate() {
            if place > 0 {
                printer.out.push_str(", ");
            }
            printer.out.push_str(operand.type_name());
            printer.out.push('=');
            printer.print(operand, 'v')?;
        }
        printer.out.push(')');
    }
    Ok(printer.out)
}

/// Reads what stands between `%` and the verb.
struct Scan<'a> {
    format: &'a [u8],
    at: usize,
    /// The operand that the next verb takes.
    next: usize,
    count: usize,
    /// False after a `[n]` that names no operand.
    good: bool,
    reordered: bool,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn flags(&mut self, flags: &mut Flags) {
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = true,
                b'+' => flags.plus = true,
                b'-' => flags.minus = true,
                b' ' => flags.space = true,
                _ => return,
            }
            self.at += 1;
        }
    }

    /// Operand index, width, precision and operand index again.
    fn sizes(&mut self, operands: &[Operand], printer: &mut Printer) {
        let mut after_index = self.index();
        if self.peek() == Some(b'*') {
            self.at += 1;
            let width = self.int_operand(operands);
            match width {
                None => printer.out.push_str("%!(BADWIDTH)"),
                Some(width) if width < 0 => {
                    printer.flags.minus = true;
                    printer.flags.zero = false;
                }
                Some(_) => {}
            }
            printer.flags.width = width.map(|width| width.unsigned_abs() as usize);
            after_index = false;
        } else {
            printer.flags.width = self.number(self.format.len());
            if after_index && printer.flags.width.is_some() {
                self.good = false;
            }
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if after_index {
                self.good = false;
            }
            after_index = self.index();
            if self.peek() == Some(b'*') {
                self.at += 1;
                let precision = self.int_operand(operands).and_then(|precision| usize::try_from(precision).ok());
                if precision.is_none() {
                    printer.out.push_str("%!(BADPREC)");
                }
                printer.flags.precision = precision;
                after_index = false;
            } else {
                printer.flags.precision = Some(self.number(self.format.len()).unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
    }

    /// `[n]`, counted from one; whether there was one.
    fn index(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let start = self.at;
        let close =
            self.format[start..].iter().position(|byte| *byte == b']').filter(|_| self.format.len() - start >= 3);
        let Some(close) = close else {
            self.good = false;
            self.at = start + 1;
            return false;
        };
        self.at = start + 1;
        let number = self.number(start + close);
        let whole = self.at == start + close;
        self.at = start + close + 1;
        match number.filter(|_| whole) {
            None => {
                self.good = false;
                false
            }
            Some(number) => {
                match number.checked_sub(1).filter(|index| *index < self.count) {
                    Some(index) => self.next = index,
                    None => self.good = false,
                }
                true
            }
        }
    }

    /// Digits up to `end`; too many of them swallow everything.
    fn number(&mut self, end: usize) -> Option<usize> {
        let mut number = None;
        while self.at < end
            && let Some(digit) = self.peek().filter(u8::is_ascii_digit)
        {
            let so_far = number.unwrap_or(0);
            if so_far > LARGEST as usize {
                self.at = end;
                return None;
            }
            number = Some(so_far * 10 + usize::from(digit - b'0'));
            self.at += 1;
        }
        number
    }

    fn int_operand(&mut self, operands: &[Operand]) -> Option<i64> {
        let operand = operands.get(self.next)?;
        self.next += 1;
        match operand {
            Operand::Int(number) if (-LARGEST..=LARGEST).contains(number) => Some(*number),
            _ => None,
        }
    }
}

struct Printer {
    out: String,
    flags: Flags,
}

impl Printer {
    fn print(&mut self, operand: &Operand, verb: char) -> Result<(), &'static str> {
        if verb == 'T' {
            self.text(operand.type_name());
            return Ok(());
        }
        match operand {
            Operand::Int(number) => match verb {
                'v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' => self.integer(*number, verb),
                'c' => self.pad(&character(*number).to_string()),
                'q' => self.pad(&quote_char(character(*number), self.flags.plus)),
                'U' => self.unicode(*number),
                _ => self.bad_verb(operand, verb)?,
            },
            Operand::Big(value) => match verb {
                'b' => self.big(value, 2, verb),
                'o' | 'O' => self.big(value, 8, verb),
                'd' | 's' | 'v' => self.big(value, 10, verb),
                'x' | 'X' => self.big(value, 16, verb),
                'p' | 'w' => return Err("%p and %w of a large number have no lasting answer"),
                _ => {
                    let (negative, digits) = digits(value, 10);
                    let sign = sign(negative, false, false);
                    self.out.push_str(&format!("%!{verb}(big.Int={sign}{digits})"));
                }
            },
            Operand::Float(number) => match verb {
                'v' | 'g' | 'G' | 'e' | 'E' | 'f' | 'F' => self.float(*number, verb),
                'b' | 'x' | 'X' => return Err("floats are not formatted as binary or hexadecimal here"),
                _ => self.bad_verb(operand, verb)?,
            },
            Operand::Text(text) => match verb {
                'v' if self.flags.sharp_v => self.quoted(text),
                'v' | 's' => self.text(text),
                'x' | 'X' => self.hexadecimal(text.as_bytes(), verb == 'X'),
                'q' => self.quoted(text),
                _ => self.bad_verb(operand, verb)?,
            },
        }
        Ok(())
    }

    fn bad_verb(&mut self, operand: &Operand, verb: char) -> Result<(), &'static str> {
        self.out.push_str(&format!("%!{verb}({}=", operand.type_name()));
        self.print(operand, 'v')?;
        self.out.push(')');
        Ok(())
    }

    fn padding(&mut self, count: usize) {
        let fill = if self.flags.zero && !self.flags.minus { '0' } else { ' ' };
        self.out.extend(std::iter::repeat_n(fill, count));
    }

    fn pad(&mut self, text: &str) {
        let missing = self.flags.width.unwrap_or(0).saturating_sub(text.chars().count());
        if !self.flags.minus {
            self.padding(missing);
        }
        self.out.push_str(text);
        if self.flags.minus {
            self.padding(missing);
        }
    }

    /// With spaces, whatever the flag says.
    fn pad_with_spaces(&mut self, text: &str) {
        let zero = std::mem::replace(&mut self.flags.zero, false);
        self.pad(text);
        self.flags.zero = zero;
    }

    fn truncated<'a>(&self, text: &'a str) -> &'a str {
        let end = self.flags.precision.and_then(|count| text.char_indices().nth(count)).map(|(at, _)| at);
        &text[..end.unwrap_or(text.len())]
    }

    fn text(&mut self, text: &str) {
        let text = self.truncated(text).to_owned();
        self.pad(&text);
    }

    fn quoted(&mut self, text: &str) {
        let text = self.truncated(text);
        let quoted =
            if self.flags.sharp && can_backquote(text) { format!("`{text}`") } else { quote(text, self.flags.plus) };
        self.pad(&quoted);
    }

    fn hexadecimal(&mut self, bytes: &[u8], upper: bool) {
        let bytes = &bytes[..bytes.len().min(self.flags.precision.unwrap_or(usize::MAX))];
        let prefix = match (self.flags.sharp, upper) {
            (false, _) => "",
            (true, false) => "0x",
            (true, true) => "0X",
        };
        let mut text = String::new();
        for (place, byte) in bytes.iter().enumerate() {
            if self.flags.space && place > 0 {
                text.push(' ');
            }
            if self.flags.space || place == 0 {
                text.push_str(prefix);
            }
            text.push_str(&if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
        }
        self.pad(&text);
    }

    fn integer(&mut self, number: i64, verb: char) {
        let magnitude = number.unsigned_abs();
        let mut digits = match verb {
            'b' => format!("{magnitude:b}"),
            'o' | 'O' => format!("{magnitude:o}"),
            'x' => format!("{magnitude:x}"),
            'X' => format!("{magnitude:X}"),
            _ => magnitude.to_string(),
        };
        let flags = self.flags;
        let signed = number < 0 || flags.plus || flags.space;
        let least = match (flags.precision, flags.width) {
            (Some(0), _) if magnitude == 0 => {
                // Nothing but padding, and that with spaces.
                self.pad_with_spaces("");
                return;
            }
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero && !flags.minus => width - usize::from(signed && width > 0),
            _ => 0,
        };
        if digits.len() < least {
            digits = "0".repeat(least - digits.len()) + &digits;
        }
        let prefix = match verb {
            'b' if flags.sharp => "0b",
            'o' if flags.sharp && !digits.starts_with('0') => "0",
            'x' if flags.sharp => "0x",
            'X' if flags.sharp => "0X",
            'O' => "0o",
            _ => "",
        };
        // `%#O` has both prefixes.
        let octal = if verb == 'O' && flags.sharp && !digits.starts_with('0') { "0" } else { "" };
        let sign = sign(number < 0, flags.plus, flags.space);
        self.pad_with_spaces(&format!("{sign}{prefix}{octal}{digits}"));
    }

    fn big(&mut self, value: &regorus::Value, base: u32, verb: char) {
        let (negative, mut digits) = digits(value, base);
        if verb == 'X' {
            digits.make_ascii_uppercase();
        }
        let flags = self.flags;
        let sign = sign(negative, flags.plus || flags.plus_v, flags.space);
        let prefix = match verb {
            'b' if flags.sharp => "0b",
            'o' if flags.sharp => "0",
            'x' if flags.sharp => "0x",
            'X' if flags.sharp => "0X",
            'O' => "0o",
            _ => "",
        };
        let mut zeros = flags.precision.unwrap_or(0).saturating_sub(digits.len());
        let missing = flags.width.unwrap_or(0).saturating_sub(sign.len() + prefix.len() + zeros + digits.len());
        let (mut left, mut right) = (0, 0);
        match () {
            () if flags.minus => right = missing,
            () if flags.zero && flags.precision.is_none() => zeros = missing,
            () => left = missing,
        }
        let (left, zeros, right) = (" ".repeat(left), "0".repeat(zeros), " ".repeat(right));
        self.out.push_str(&format!("{left}{sign}{prefix}{zeros}{digits}{right}"));
    }

    /// `U+1F600`, with `#` followed by the character.
    fn unicode(&mut self, number: i64) {
        let digits = format!("{:0width$X}", number as u64, width = self.flags.precision.unwrap_or(4).max(4));
        let shown = u32::try_from(number).ok().and_then(char::from_u32).filter(|c| self.flags.sharp && is_print(*c));
        let text = shown.map_or_else(|| format!("U+{digits}"), |c| format!("U+{digits} '{c}'"));
        self.pad_with_spaces(&text);
    }

    fn float(&mut self, number: f64, verb: char) {
        let flags = self.flags;
        let mut text = match verb {
            'f' | 'F' => format!("{:.*}", flags.precision.unwrap_or(6), number.abs()),
            'e' | 'E' => scientific(number.abs(), flags.precision.unwrap_or(6)),
            _ => general(number.abs(), flags.precision, flags.sharp),
        };
        if matches!(verb, 'f' | 'F' | 'e' | 'E') && flags.sharp && !text.contains('.') {
            let at = text.find('e').unwrap_or(text.len());
            text.insert(at, '.');
        }
        if matches!(verb, 'E' | 'G') {
            text = text.to_ascii_uppercase();
        }
        let sign = sign(number.is_sign_negative(), flags.plus, flags.space);
        match flags.width {
            // The zeros stand behind the sign.
            Some(width) if flags.zero && !flags.minus && !sign.is_empty() => {
                let missing = width.saturating_sub(sign.len() + text.len());
                self.out.push_str(sign);
                self.padding(missing);
                self.out.push_str(&text);
            }
            _ => self.pad(&format!("{sign}{text}")),
        }
    }
}

fn sign(negative: bool, plus: bool, space: bool) -> &'static str {
    match (negative, plus, space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn character(number: i64) -> char {
    u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// `1.5e+06`: the exponent has a sign and at least two digits.
fn scientific(number: f64, precision: usize) -> String {
    with_exponent(&format!("{number:.precision$e}"))
}

fn with_exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%g`: the shortest text that is the number, or as many significant digits as the precision says, without trailing zeros
/// unless they were asked for.
fn general(number: f64, precision: Option<usize>, keep_zeros: bool) -> String {
    let significant = precision.map(|precision| precision.max(1));
    let exact = match significant {
        Some(digits) => format!("{number:.*e}", digits - 1),
        None => format!("{number:e}"),
    };
    let (mantissa, exponent) = exact.split_once('e').unwrap_or((&exact, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let bare = digits.trim_end_matches('0').len().max(1);
    digits.truncate(bare);
    // Up to where digits are written out.
    let limit = match significant {
        None => 6,
        Some(wanted) if (digits.len() as i32) > exponent && wanted > digits.len() => {
            (digits.len() as i32).max(wanted as i32)
        }
        Some(wanted) => wanted as i32,
    };
    if keep_zeros {
        let wanted = significant.unwrap_or(6);
        while digits.len() < wanted {
            digits.push('0');
        }
    }
    let large = if exponent < -4 || exponent >= limit {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() && !keep_zeros { "" } else { "." };
        return with_exponent(&format!("{first}{point}{rest}e{exponent}"));
    } else {
        exponent
    };
    let mut text = String::new();
    if large < 0 {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', (-large - 1) as usize));
        text.push_str(&digits);
        return text;
    }
    let whole = large as usize + 1;
    if digits.len() <= whole {
        text.push_str(&digits);
        text.extend(std::iter::repeat_n('0', whole - digits.len()));
        if keep_zeros {
            text.push('.');
        }
    } else {
        text.push_str(&digits[..whole]);
        text.push('.');
        text.push_str(&digits[whole..]);
    }
    text
}
