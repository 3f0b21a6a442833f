//! What the checks of a description have found so far.

use core::ops::Range;

use crate::description::{mistake::Mistake, system::System};

/// A check: it adds the mistakes that it finds.
pub(crate) type Check = fn(&mut Found);

/// A description and its mistakes.
pub(crate) struct Found<'a> {
    pub system: &'a System,
    pub mistakes: Vec<Mistake>,
}

impl Found<'_> {
    /// Adds a mistake.
    pub fn add(&mut self, span: Range<usize>, message: String, remedy: impl Into<String>) {
        self.mistakes.push(Mistake::new(&self.system.source, span, message, remedy));
    }
}
