//! The ids of events, rejections and jobs: a prefix and the 32 hex digits of a UUID version 7, so that they sort by the time
//! they were made.

use std::fmt;

use uuid::Uuid;

use crate::time::Timestamp;

/// Makes a type of ids with a prefix of its own.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The id of what came at `at`; `random` makes it unique among those of one moment.
            pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(at.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// When it was made, to the millisecond; anything, for an id that somebody made up.
            pub fn made_at(self) -> Timestamp {
                let millis = self.0.as_u128() >> 80;
                Timestamp::from_millis(i64::try_from(millis).unwrap_or(0))
            }

            /// From the 16 bytes that `to_bytes` gave.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes of the id, as the journal stores them.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// Reads the printed form back; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                let hex = text.strip_prefix($prefix).filter(|hex| hex.len() == 32)?;
                Uuid::try_parse(hex).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id! {
    /// The id of an event, and the `webhook-id` every target sees: `evt_` and 32 hex digits.
    EventId, "evt_"
}

id! {
    /// The id of a job that an operator began: `job_` and 32 hex digits.
    JobId, "job_"
}

id! {
    /// The id of a rejection: `rej_` and 32 hex digits.
    RejectionId, "rej_"
}
