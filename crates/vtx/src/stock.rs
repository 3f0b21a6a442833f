//! A stock of kernel objects, each of which can be used once.

/// Addresses of capabilities, in the order in which they are used.
#[derive(Clone, Debug)]
pub struct Stock<S> {
    /// Taken from `rest`, but its use failed.
    next: Option<u64>,
    rest: S,
}

/// Why nothing was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused<E> {
    /// Nothing is left.
    Empty,
    /// The attempt failed. The object stays in the stock for the next attempt.
    Failed(E),
}

impl<S: Iterator<Item = u64>> Stock<S> {
    /// A stock of the capabilities at these addresses.
    pub const fn new(rest: S) -> Self {
        Self { next: None, rest }
    }

    /// Uses the next object by `with`. If that fails with an error for which `spent` is true, the object was used
    /// before a restart of the process; it is passed over.
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
