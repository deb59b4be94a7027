//! One file: what was written, and what of it is durable.
//!
//! Both are maps of 4 KiB pages that share what they have in common, so that a sync costs only what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Survival;

/// Bytes of a page: what a disk is sent at once.
pub const PAGE: usize = 4096;
/// Bytes of a sector: what a disk writes whole or not at all.
const SECTOR: usize = 512;

type Page = Arc<[u8; PAGE]>;

/// Bytes as pages; a page that is not there reads as zeros.
#[derive(Clone, Default)]
pub struct Pages {
    pages: BTreeMap<usize, Page>,
    len: usize,
}

impl Pages {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Pages that take space.
    pub fn allocated(&self) -> usize {
        self.pages.len()
    }

    /// Up to `size` bytes from `offset`; fewer at the end.
    pub fn read(&self, offset: usize, size: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(size));
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset));
        let mut at = offset;
        while at < end {
            let (page, within) = (at / PAGE, at % PAGE);
            let take = (PAGE - within).min(end - at);
            match self.pages.get(&page) {
                Some(page) => bytes.extend_from_slice(&page[within..within + take]),
                None => bytes.resize(bytes.len() + take, 0),
            }
            at += take;
        }
        bytes
    }

    /// How many pages a write would add.
    pub fn missing(&self, offset: usize, size: usize) -> usize {
        touched(offset, size).filter(|page| !self.pages.contains_key(page)).count()
    }

    fn page(&mut self, page: usize) -> &mut [u8; PAGE] {
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])))
    }
}

/// The pages that bytes lie on.
fn touched(offset: usize, size: usize) -> std::ops::Range<usize> {
    offset / PAGE..(offset + size).div_ceil(PAGE)
}

/// A file before and after its last sync.
#[derive(Clone, Default)]
pub struct Content {
    pub visible: Pages,
    durable: Pages,
    /// Pages that were changed since the last sync.
    dirty: BTreeSet<usize>,
}

impl Content {
    /// A file that was there, whole and durable, before anything happened.
    pub fn durable(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content.sync();
        content
    }

    fn settled(pages: Pages) -> Self {
        Self { visible: pages.clone(), durable: pages, dirty: BTreeSet::new() }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (page, within) = (at / PAGE, at % PAGE);
            let take = (PAGE - within).min(rest.len());
            let (now, later) = rest.split_at(take);
            self.visible.page(page)[within..within + take].copy_from_slice(now);
            self.dirty.insert(page);
            rest = later;
            at += take;
        }
        self.visible.len = self.visible.len.max(at);
    }

    pub fn set_len(&mut self, len: usize) {
        if len < self.visible.len {
            let gone = self.visible.pages.split_off(&len.div_ceil(PAGE));
            self.dirty.extend(gone.into_keys());
            if !len.is_multiple_of(PAGE) && self.visible.pages.contains_key(&(len / PAGE)) {
                self.visible.page(len / PAGE)[len % PAGE..].fill(0);
                self.dirty.insert(len / PAGE);
            }
        }
        self.visible.len = len;
    }

    /// Takes space for bytes, as zeros; the length stays.
    pub fn allocate(&mut self, offset: usize, size: usize) {
        for page in touched(offset, size) {
            if !self.visible.pages.contains_key(&page) {
                self.visible.page(page);
                self.dirty.insert(page);
            }
        }
    }

    /// What was written is durable from here on.
    pub fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            match self.visible.pages.get(&page) {
                Some(bytes) => self.durable.pages.insert(page, Arc::clone(bytes)),
                None => self.durable.pages.remove(&page),
            };
        }
        self.durable.len = self.visible.len;
    }

    /// A sync that failed: as Linux does, the pages are taken for clean, so that a later sync succeeds without
    /// having written them.
    pub fn fail_sync(&mut self) {
        self.dirty.clear();
    }

    /// The file as a power cut leaves it.
    pub fn survivor(&self, survival: Survival, rng: &mut StdRng) -> Self {
        let mut left = self.durable.clone();
        if survival == Survival::Synced {
            return Self::settled(left);
        }
        let resized = self.visible.len != self.durable.len && rng.random_bool(0.5);
        if resized {
            left.len = self.visible.len;
        }
        for page in &self.dirty {
            match self.visible.pages.get(page) {
                Some(bytes) => {
                    let sectors = PAGE / SECTOR;
                    let written = match survival {
                        Survival::Synced => 0,
                        Survival::Pages => sectors * usize::from(rng.random_bool(0.5)),
                        Survival::Torn => rng.random_range(0..=sectors),
                    };
                    if written > 0 {
                        let bytes = &bytes[..written * SECTOR];
                        left.page(*page)[..bytes.len()].copy_from_slice(bytes);
                    }
                }
                // A page that a truncation removed goes with the truncation.
                None if resized => drop(left.pages.remove(page)),
                None => {}
            }
        }
        left.pages.split_off(&left.len.div_ceil(PAGE));
        Self::settled(left)
    }
}
