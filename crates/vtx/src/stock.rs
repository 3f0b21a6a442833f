//! A stock of kernel objects of which each is used once.

/// Addresses of capabilities, in the order in which they are used.
#[derive(Clone, Debug)]
pub struct Stock<S> {
    /// Taken, and not used.
    next: Option<u64>,
    rest: S,
}

/// Why nothing was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused<E> {
    /// Nothing is left.
    Empty,
    /// The attempt failed: the object is there for the next one.
    Failed(E),
}

impl<S: Iterator<Item = u64>> Stock<S> {
    /// Of all these.
    pub const fn new(rest: S) -> Self {
        Self { next: None, rest }
    }

    /// Uses the next one. Those with which that fails as `spent` says have been used before, and are passed over.
    pub fn spend<E>(
        &mut self,
        mut with: impl FnMut(u64) -> Result<(), E>,
        spent: impl Fn(&E) -> bool,
    ) -> Result<(), Unused<E>> {
        loop {
            let object = self.next.take().or_else(|| self.rest.next()).ok_or(Unused::Empty)?;
            match with(object) {
                Err(error) if spent(&error) => {}
                Err(error) => {
                    self.next = Some(object);
                    return Err(Unused::Failed(error));
                }
                Ok(()) => return Ok(()),
            }
        }
    }
}
