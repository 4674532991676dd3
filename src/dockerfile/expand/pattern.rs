//! The patterns of `${name#pattern}` and its kin: `*` and `?`, no brackets.
//!
//! All states are followed at once, so that no pattern takes longer than its
//! length times the value's; a [`Budget`] bounds what a word may spend.

/// Matching stopped: it took too many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OverBudget;

/// Steps left to a word.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(20_000_000)
    }
}

impl Budget {
    fn spend(&mut self, steps: usize) -> Result<(), OverBudget> {
        self.0 = self.0.checked_sub(steps).ok_or(OverBudget)?;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    /// One character, no line feed.
    One,
    /// Any number of characters, no line feed.
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// The error is what stands behind a backslash that escapes nothing.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                // `}` and `/` had to be escaped to get here at all.
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(c),
                    other => return Err(other.map(String::from).unwrap_or_default()),
                },
                c => Token::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// How many bytes match at the front of `chars`: the most or the least.
    fn length(
        &self,
        chars: impl Iterator<Item = char>,
        longest: bool,
        budget: &mut Budget,
    ) -> Result<Option<usize>, OverBudget> {
        let end = self.0.len();
        budget.spend(end + 1)?;
        let mut states = vec![false; end + 1];
        let mut next = states.clone();
        self.enter(&mut states, 0);
        let mut found = states[end].then_some(0);
        let mut length = 0;
        for c in chars {
            if (found.is_some() && !longest) || !states.contains(&true) {
                break;
            }
            budget.spend(end + 1)?;
            next.fill(false);
            for (at, token) in self.0.iter().enumerate().filter(|(at, _)| states[*at]) {
                match token {
                    Token::Char(wanted) if *wanted == c => self.enter(&mut next, at + 1),
                    Token::One if c != '\n' => self.enter(&mut next, at + 1),
                    Token::Any if c != '\n' => self.enter(&mut next, at),
                    Token::Char(_) | Token::One | Token::Any => {}
                }
            }
            std::mem::swap(&mut states, &mut next);
            length += c.len_utf8();
            if states[end] {
                found = Some(length);
            }
        }
        Ok(found)
    }

    /// Marks `at` and what is reached from it without a character.
    fn enter(&self, states: &mut [bool], mut at: usize) {
        while !std::mem::replace(&mut states[at], true) && self.0.get(at) == Some(&Token::Any) {
            at += 1;
        }
    }

    pub(super) fn trim_start<'v>(
        &self,
        value: &'v str,
        longest: bool,
        budget: &mut Budget,
    ) -> Result<&'v str, OverBudget> {
        let length = self.length(value.chars(), longest, budget)?;
        Ok(&value[length.unwrap_or(0)..])
    }

    pub(super) fn trim_end<'v>(
        &self,
        value: &'v str,
        longest: bool,
        budget: &mut Budget,
    ) -> Result<&'v str, OverBudget> {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let length = reversed.length(value.chars().rev(), longest, budget)?;
        Ok(&value[..value.len() - length.unwrap_or(0)])
    }

    /// Replaces the first match or all of them, each the longest at its place.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        budget: &mut Budget,
    ) -> Result<String, OverBudget> {
        let mut result = String::new();
        let mut copied = 0;
        let mut at = 0;
        loop {
            let rest = &value[at..];
            let next = at + rest.chars().next().map_or(1, char::len_utf8);
            budget.spend(1)?;
            match self.length(rest.chars(), true, budget)? {
                // An empty match right behind another one is a part of that.
                Some(length) if length > 0 || at > copied || at == 0 => {
                    budget.spend(replacement.len())?;
                    result.push_str(&value[copied..at]);
                    result.push_str(replacement);
                    copied = at + length;
                    if !all {
                        break;
                    }
                    at = if length == 0 { next } else { copied };
                }
                Some(_) | None => at = next,
            }
            if at > value.len() {
                break;
            }
        }
        result.push_str(&value[copied..]);
        Ok(result)
    }
}
