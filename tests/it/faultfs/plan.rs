//! What is to go wrong, and when: counted per kind of operation.

use std::collections::BTreeMap;

use fuser::Errno;

/// The kinds of operations that are counted and can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Write,
    /// fsync and fdatasync, of a file or a directory.
    Sync,
    /// A new file or directory.
    Create,
    Rename,
    /// A change of a file's length, `fallocate` included.
    Truncate,
    /// A name that goes.
    Remove,
}

impl Op {
    pub const ALL: [Self; 6] =
        [Self::Write, Self::Sync, Self::Create, Self::Rename, Self::Truncate, Self::Remove];
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Once,
    /// From then on.
    Sticky,
}

/// On which side of an operation the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    /// It took effect, but nobody was told.
    After,
}

/// A moment in the life of a journal, told by what happens on its disk.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub op: Op,
    /// What the path begins and ends with.
    pub path: (&'static str, &'static str),
    pub side: Side,
}

struct Failure {
    op: Op,
    /// Strikes when the count reaches this.
    at: u64,
    errno: Errno,
    times: Times,
}

/// Everything that is arranged.
#[derive(Default)]
pub struct Plan {
    counts: BTreeMap<Op, u64>,
    failure: Option<Failure>,
    short_write_at: Option<u64>,
    cut: Option<(Op, u64, Side)>,
    /// Held at this point, when it has come so many times more.
    pub hold: Option<(Point, u64)>,
    /// A sync says that it succeeded and does nothing.
    pub lies_about_sync: bool,
    pub read_only: bool,
    /// After the cut: nothing changes any more and nothing succeeds.
    pub frozen: bool,
    /// How often something went wrong that was arranged.
    pub struck: u64,
}

/// What becomes of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// It takes effect, and with it the power goes.
    GoAndCut,
    /// Half of it is written, which the caller is told.
    Short,
    Fail(Errno),
}

impl Plan {
    pub fn count(&self, op: Op) -> u64 {
        self.counts.get(&op).copied().unwrap_or_default()
    }

    /// Fails the `nth` operation of a kind from now on, counted from 1.
    pub fn fail_nth(&mut self, op: Op, nth: u64, errno: Errno, times: Times) {
        self.failure = Some(Failure { op, at: self.count(op) + nth, errno, times });
    }

    /// Whether an operation is to be held, and on which side of it.
    pub fn holds(&mut self, op: Op, path: impl FnOnce() -> String) -> Option<Side> {
        let (point, left) = self.hold.as_mut().filter(|(point, _)| point.op == op)?;
        let path = path();
        if !path.starts_with(point.path.0) || !path.ends_with(point.path.1) {
            return None;
        }
        *left -= 1;
        let side = point.side;
        if *left > 0 {
            return None;
        }
        self.hold = None;
        Some(side)
    }

    pub fn heal(&mut self) {
        self.failure = None;
        self.read_only = false;
    }

    pub fn short_write_nth(&mut self, nth: u64) {
        self.short_write_at = Some(self.count(Op::Write) + nth);
    }

    /// Cuts the power beside the `nth` operation of a kind from now on.
    pub fn cut_nth(&mut self, op: Op, nth: u64, side: Side) {
        self.cut = Some((op, self.count(op) + nth, side));
    }

    /// Counts an operation and decides what becomes of it.
    pub fn judge(&mut self, op: Op) -> Verdict {
        if self.frozen {
            return Verdict::Fail(Errno::EIO);
        }
        if self.read_only && op != Op::Sync {
            return Verdict::Fail(Errno::EROFS);
        }
        let count = self.counts.entry(op).or_default();
        *count += 1;
        let count = *count;
        match self.cut {
            Some((at, nth, Side::Before)) if (at, nth) == (op, count) => {
                self.frozen = true;
                return Verdict::Fail(Errno::EIO);
            }
            Some((at, nth, Side::After)) if (at, nth) == (op, count) => {
                self.frozen = true;
                return Verdict::GoAndCut;
            }
            Some(_) | None => {}
        }
        if op == Op::Write && self.short_write_at == Some(count) {
            self.struck += 1;
            return Verdict::Short;
        }
        let strikes = |failure: &&Failure| {
            failure.op == op
                && match failure.times {
                    Times::Once => count == failure.at,
                    Times::Sticky => count >= failure.at,
                }
        };
        match self.failure.as_ref().filter(strikes) {
            Some(failure) => {
                self.struck += 1;
                Verdict::Fail(failure.errno)
            }
            None => Verdict::Go,
        }
    }
}
