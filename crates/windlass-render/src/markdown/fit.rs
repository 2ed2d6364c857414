//! What fits into a comment: texts are taken while there is room, and what was left out is counted.

/// A limit, or the size of a text. Forges count characters, and some bytes as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub characters: usize,
    pub bytes: usize,
}

impl Size {
    pub const NONE: Self = Self { characters: 0, bytes: 0 };

    pub fn of(text: &str) -> Self {
        Self { characters: text.chars().count(), bytes: text.len() }
    }

    /// So many characters, of whatever kind.
    pub fn reserve(characters: usize) -> Self {
        Self { characters, bytes: characters }
    }

    pub fn fits(self, room: Self) -> bool {
        self.characters <= room.characters && self.bytes <= room.bytes
    }

    pub fn less(self, other: Self) -> Self {
        Self {
            characters: self.characters.saturating_sub(other.characters),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// The lesser of both, in each measure.
    pub fn least(self, other: Self) -> Self {
        Self { characters: self.characters.min(other.characters), bytes: self.bytes.min(other.bytes) }
    }

    pub fn part(self, of: usize) -> Self {
        Self { characters: self.characters / of, bytes: self.bytes / of }
    }
}

impl std::ops::Add for Size {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { characters: self.characters + other.characters, bytes: self.bytes + other.bytes }
    }
}

impl std::iter::Sum for Size {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::NONE, |a, b| a + b)
    }
}

/// One item of a list that is never left out as long as it can be helped.
pub struct Item {
    pub full: String,
    pub short: String,
}

/// A list within its room.
#[derive(Debug)]
pub struct Fitted {
    pub text: String,
    /// Items told in short.
    pub shortened: usize,
    /// Items that are only counted.
    pub left_out: usize,
}

/// The items, weightiest first: in full where there is room; else in short, the first of them in full; else as many as there is
/// room for, with a line that counts the rest (`rest` makes it, of at most 200 characters).
pub fn list(items: &[Item], room: Size, rest: impl Fn(usize) -> String) -> Fitted {
    let full: Size = items.iter().map(|item| Size::of(&item.full)).sum();
    if full.fits(room) {
        let text = items.iter().map(|item| item.full.as_str()).collect();
        return Fitted { text, shortened: 0, left_out: 0 };
    }
    let short: Size = items.iter().map(|item| Size::of(&item.short)).sum();
    let mut used = Size::NONE;
    let mut text = String::new();
    if short.fits(room) {
        let mut used = short;
        let mut shortened = 0;
        let mut all_before = true;
        for item in items {
            let longer = used.less(Size::of(&item.short)) + Size::of(&item.full);
            all_before &= longer.fits(room);
            if all_before {
                used = longer;
                text.push_str(&item.full);
            } else {
                shortened += 1;
                text.push_str(&item.short);
            }
        }
        return Fitted { text, shortened, left_out: 0 };
    }
    let within = room.less(Size::reserve(200));
    let mut shown = 0;
    for item in items {
        let with = used + Size::of(&item.short);
        if !with.fits(within) {
            break;
        }
        used = with;
        shown += 1;
        text.push_str(&item.short);
    }
    let line = rest(items.len() - shown);
    if (used + Size::of(&line)).fits(room) {
        text.push_str(&line);
    }
    Fitted { text, shortened: shown, left_out: items.len() - shown }
}
