//! How many tests of a target run at the same time.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Two cores are soon busy.
const AT_ONCE: usize = 2;
/// The target whose tests judge speed: one at a time.
const ALONE: &str = "lab";

static TAKEN: Mutex<[bool; AT_ONCE]> = Mutex::new([false; AT_ONCE]);
static FREE: Condvar = Condvar::new();

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// The turn of a test, and the number of its lab; the next one has it when this is dropped.
pub(super) struct Turn(usize);

impl Turn {
    /// Waits for a turn.
    pub(super) fn take() -> Self {
        let is_alone = super::target() == ALONE;
        let at_once = if is_alone { 1 } else { AT_ONCE };
        let mut taken = taken();
        loop {
            if let Some(lab) = (0..at_once).find(|lab| !taken[*lab]) {
                taken[lab] = true;
                OWN.set(lab);
                return Self(lab);
            }
            taken = FREE.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The number of the lab of the test that this thread runs.
    pub(super) fn of_this_thread() -> usize {
        OWN.get()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        taken()[self.0] = false;
        FREE.notify_one();
    }
}

/// Another test's failure is not this one's.
fn taken() -> MutexGuard<'static, [bool; AT_ONCE]> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}
