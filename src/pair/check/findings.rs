//! What a check found: one line per step, and the first failure, which is the verdict.

use std::fmt::Display;

use crate::pair::status::print;
use crate::text::tame;
use crate::{Error, Result};

/// The steps of a check, in the order of `sts-pair(1)`.
const STEPS: [&str; 9] =
    ["clock", "name", "peer", "session", "connection", "login", "subscription", "publishing", "answer"];

#[derive(Default)]
pub(super) struct Findings {
    first: Option<Error>,
    /// Of which a line was printed.
    steps: Vec<String>,
    /// Nobody reads standard output any more. The verdict is wanted all the same.
    is_unread: bool,
}

impl Findings {
    /// The step works.
    pub(super) fn good(&mut self, step: &str, what: impl Display) -> Result<()> {
        self.put("ok", step, &what)
    }

    /// The step cannot be checked, or does not apply.
    pub(super) fn skipped(&mut self, step: &str, why: impl Display) -> Result<()> {
        self.put("-", step, &why)
    }

    /// The step fails.
    pub(super) fn bad(&mut self, step: &str, error: Error) -> Result<()> {
        self.put("FAIL", step, &error)?;
        if let Some(hint) = error.hint_text() {
            self.put("", "", &format_args!("hint: {hint}"))?;
        }
        self.first.get_or_insert(error);
        Ok(())
    }

    /// Prints a line for each step that was not reached.
    ///
    /// # Errors
    /// The first failure, if there was one.
    pub(super) fn verdict(mut self) -> Result<()> {
        for step in STEPS {
            if !self.steps.iter().any(|reached| reached == step) {
                self.skipped(step, "a step before it failed")?;
            }
        }
        self.first.map_or(Ok(()), Err)
    }

    fn put(&mut self, mark: &str, step: &str, what: &dyn Display) -> Result<()> {
        self.steps.push(step.to_owned());
        if !self.is_unread {
            self.is_unread = !print(&format!("{mark:4}  {step:12}  {}\n", tame(&what.to_string())))?;
        }
        Ok(())
    }
}
