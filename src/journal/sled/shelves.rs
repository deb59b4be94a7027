//! The trees of one store: each is a shelf of few values, which are written once and never moved.
//!
//! sled writes a leaf anew when it was changed ten times, and both halves of it when it is split after 16 values: in one
//! tree of ascending keys each value reaches the disk some four times. A tree of nine values has one leaf that is neither.
//! A shelf is named for the first key that stands in it, so that none has to be read to find a value.
//!
//! The names of all shelves stand in one page that is written with each new one, so their number is bounded. What
//! comes beyond and is small stands in the tree without a name, as does everything of a store that was made before there
//! were shelves.
//!
//! sled writes a page that is longer than a quarter of a segment to a file of its own and never syncs it. So a shelf has
//! room for less than that, and of the tree without a name, whose leaves have up to 17 values, 17 small ones have.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sled::{Db, IVec, Tree};

/// The family, the commit and the number of a value in it.
pub(super) type Key = [u8; 13];

/// Values of one shelf. sled writes the leaf anew with the tenth change after its first, empty, form.
const SHELF: u32 = 9;
/// What stands on a shelf that takes more, unless one value alone is longer.
const SHELF_BYTES: usize = 120 * 1024;
/// Shelves of one store that take small values: a page of some 17 KiB in the end.
const MOST: usize = 1_000;
/// What the tree without a name takes.
const SMALL: usize = 4 * 1024;

/// A key and its value.
type Pair = (IVec, IVec);

/// Every value of one store.
pub(super) struct Shelves {
    db: Db,
    shelves: Mutex<Named>,
}

struct Named {
    /// By their first key.
    trees: BTreeMap<Key, Tree>,
    /// The families whose newest shelf was made by this process, and what it has.
    open: BTreeMap<u8, Load>,
    /// Whether the tree without a name has taken over what is small.
    full: bool,
}

/// What a shelf has.
#[derive(Clone, Copy)]
struct Load {
    values: u32,
    bytes: usize,
}

impl Shelves {
    /// Finds the shelves of a store.
    pub(super) fn open(db: &Db) -> sled::Result<Self> {
        let mut trees = BTreeMap::new();
        for name in db.tree_names() {
            if let Ok(first) = Key::try_from(&*name) {
                trees.insert(first, db.open_tree(name)?);
            }
        }
        let full = !db.is_empty();
        let named = Named { trees, open: BTreeMap::new(), full };
        Ok(Self { db: db.clone(), shelves: Mutex::new(named) })
    }

    /// Adds a value whose key is greater than every other of its family.
    pub(super) fn add(&self, key: Key, value: &[u8]) -> sled::Result<()> {
        self.named().place(&self.db, key, value.len())?.insert(key, value)?;
        Ok(())
    }

    /// Writes a value where it belongs, also if it seems to be there: sled itself passes over a value that it has.
    pub(super) fn restore(&self, key: Key, value: &[u8]) -> sled::Result<()> {
        let tree = if self.db.contains_key(key)? {
            (*self.db).clone()
        } else {
            let mut named = self.named();
            match named.holder(key) {
                Some(holder) if holder.contains_key(key)? => holder,
                _ if self.is_newest(&named, key)? => named.place(&self.db, key, value.len())?,
                // It may be from the tree without a name, and the shelf before it may have no room for it.
                _ if named.full && value.len() <= SMALL => (*self.db).clone(),
                // A new shelf amid those that are there would hide what is on them.
                Some(holder) => holder,
                None => named.begin(&self.db, key)?,
            }
        };
        tree.remove(key)?;
        tree.insert(key, value)?;
        Ok(())
    }

    pub(super) fn contains(&self, key: Key) -> sled::Result<bool> {
        let holder = self.named().holder(key);
        Ok(holder.map_or(Ok(false), |shelf| shelf.contains_key(key))?
            || self.db.contains_key(key)?)
    }

    /// Reads a value so many times, for what that does to sled's cache.
    pub(super) fn read(&self, key: Key, times: usize) {
        // Whoever needs the value meets the error.
        let has = |tree: &Tree| tree.contains_key(key).unwrap_or(false);
        let holder = self.named().holder(key).filter(has);
        let tree = holder.as_ref().unwrap_or(&*self.db);
        for _ in 0..times {
            has(tree);
        }
    }

    pub(super) fn get(&self, key: Key) -> sled::Result<Option<IVec>> {
        self.last(key, key)
    }

    /// The value of the greatest key in a range.
    pub(super) fn last(&self, from: Key, to: Key) -> sled::Result<Option<IVec>> {
        let holder = self.named().holder(to);
        let trees = holder.iter().chain([&*self.db]);
        let found = trees.filter_map(|tree| tree.range(from..=to).next_back());
        let found = found.collect::<sled::Result<Vec<_>>>()?;
        Ok(found.into_iter().max().map(|(_, value)| value))
    }

    /// Every value of a family, by its key.
    pub(super) fn family(&self, family: u8) -> impl Iterator<Item = sled::Result<Pair>> + use<> {
        let shelves: Vec<_> = {
            let named = self.named();
            named.trees.range(range(family)).map(|(_, shelf)| shelf.clone()).collect()
        };
        let shelves = shelves.into_iter().flat_map(move |tree| tree.scan_prefix([family]));
        Merged { one: shelves.peekable(), other: self.db.scan_prefix([family]).peekable() }
    }

    /// Whether every key of its family is less, and no shelf begins later: a crash may have left one without its values.
    fn is_newest(&self, named: &Named, key: Key) -> sled::Result<bool> {
        let [family, ..] = key;
        let newest = named.trees.range(range(family)).next_back();
        if newest.is_some_and(|(first, _)| *first > key) {
            return Ok(false);
        }
        for tree in newest.map(|(_, shelf)| shelf).into_iter().chain([&*self.db]) {
            if tree.range(key..=*range(family).end()).next().transpose()?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Named {
    /// The shelf on which this key stands, if it stands on one.
    fn holder(&self, key: Key) -> Option<Tree> {
        let [family, ..] = key;
        let mut before = self.trees.range(..=key);
        before.next_back().filter(|(first, _)| first[0] == family).map(|(_, shelf)| shelf.clone())
    }

    /// Where the next value of a family goes.
    fn place(&mut self, db: &Db, key: Key, bytes: usize) -> sled::Result<Tree> {
        let [family, ..] = key;
        let has_room = |load: &&mut Load| {
            load.values < SHELF && load.bytes.saturating_add(bytes) <= SHELF_BYTES
        };
        if let Some(load) = self.open.get_mut(&family).filter(has_room) {
            load.values = load.values.saturating_add(1);
            load.bytes = load.bytes.saturating_add(bytes);
            if let Some((_, newest)) = self.trees.range(range(family)).next_back() {
                return Ok(newest.clone());
            }
        }
        self.full |= self.trees.len() >= MOST;
        if self.full && bytes <= SMALL {
            return Ok((**db).clone());
        }
        self.open.insert(family, Load { values: 1, bytes });
        self.begin(db, key)
    }

    /// A new shelf that begins with this key.
    fn begin(&mut self, db: &Db, key: Key) -> sled::Result<Tree> {
        let tree = db.open_tree(key)?;
        self.trees.insert(key, tree.clone());
        Ok(tree)
    }
}

/// What two walks in the order of keys find, in the order of keys.
struct Merged<A: Iterator, B: Iterator> {
    one: Peekable<A>,
    other: Peekable<B>,
}

impl<A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = sled::Result<Pair>>,
    B: Iterator<Item = sled::Result<Pair>>,
{
    type Item = sled::Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let other_is_first = match (self.one.peek(), self.other.peek()) {
            (Some(Ok((one, _))), Some(Ok((other, _)))) => other < one,
            (one, _) => one.is_none(),
        };
        if other_is_first { self.other.next() } else { self.one.next() }
    }
}

/// Every key of a family.
fn range(family: u8) -> std::ops::RangeInclusive<Key> {
    let (mut first, mut last) = ([0; 13], [u8::MAX; 13]);
    first[0] = family;
    last[0] = family;
    first..=last
}

#[cfg(test)]
impl Shelves {
    /// Changes a value in place.
    pub(super) fn replace(&self, key: Key, value: &[u8]) {
        let holder = self.named().holder(key);
        holder.unwrap_or_else(|| (*self.db).clone()).insert(key, value).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::content::PART;

    const FAMILIES: [u8; 2] = *b"ci";

    fn key(family: u8, number: u64) -> Key {
        let mut key = [0; 13];
        key[0] = family;
        key[1..9].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn open(folder: &tempfile::TempDir) -> Db {
        super::super::store::open_sled(folder.path()).unwrap()
    }

    /// Ascending values of both families.
    fn fill(shelves: &Shelves, numbers: std::ops::Range<u64>) {
        for number in numbers {
            for family in FAMILIES {
                shelves.add(key(family, number), &number.to_be_bytes()).unwrap();
            }
        }
    }

    fn numbers(shelves: &Shelves, family: u8) -> Vec<u64> {
        let values = shelves.family(family).map(|entry| entry.unwrap().1);
        values.map(|value| u64::from_be_bytes(value.as_ref().try_into().unwrap())).collect()
    }

    fn assert_has(shelves: &Shelves, expected: &[u64]) {
        for family in FAMILIES {
            assert_eq!(numbers(shelves, family), expected, "in their order");
            for number in expected {
                assert!(shelves.contains(key(family, *number)).unwrap());
                let found = shelves.get(key(family, *number)).unwrap().unwrap();
                assert_eq!(found, &number.to_be_bytes());
            }
        }
    }

    #[test]
    fn every_value_is_found_also_when_the_store_was_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        for numbers in [0..20, 20..23, 23..40] {
            let shelves = Shelves::open(&open(&folder)).unwrap();
            fill(&shelves, numbers);
        }
        let shelves = Shelves::open(&open(&folder)).unwrap();
        assert_has(&shelves, &(0..40).collect::<Vec<_>>());
        assert_eq!(shelves.get(key(b'c', 40)).unwrap(), None);
        assert!(
            !shelves.contains(key(b'b', 7)).unwrap() && !shelves.contains(key(b'j', 7)).unwrap()
        );
    }

    #[test]
    fn the_last_of_a_range_is_found_on_the_shelf_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let shelves = Shelves::open(&open(&folder)).unwrap();
        for number in (0..200).step_by(10) {
            shelves.add(key(b'c', number), &number.to_be_bytes()).unwrap();
        }
        for (from, to, expected) in
            [(0, 79, Some(70)), (80, 80, Some(80)), (80, 89, Some(80)), (81, 89, None)]
        {
            let found = shelves.last(key(b'c', from), key(b'c', to)).unwrap();
            assert_eq!(found.as_deref(), expected.map(u64::to_be_bytes).as_ref().map(|it| &it[..]));
        }
    }

    #[test]
    fn what_was_lost_is_put_back_where_it_belongs_and_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder);
        let shelves = Shelves::open(&db).unwrap();
        fill(&shelves, 4..30);
        for number in [6, 11, 12, 29] {
            for family in FAMILIES {
                let shelf = shelves.named().holder(key(family, number)).unwrap();
                shelf.remove(key(family, number)).unwrap();
            }
        }
        for number in 0..32 {
            for family in FAMILIES {
                shelves.restore(key(family, number), &u64::to_be_bytes(number)).unwrap();
            }
        }
        fill(&shelves, 32..40);
        assert_has(&shelves, &(0..40).collect::<Vec<_>>());
        drop((shelves, db));
        assert_has(&Shelves::open(&open(&folder)).unwrap(), &(0..40).collect::<Vec<_>>());
    }

    #[test]
    fn what_no_shelf_has_room_for_is_found_and_so_is_what_is_older_than_shelves() {
        let most = u64::try_from(MOST).unwrap() * u64::from(SHELF) / 2;
        let folder = tempfile::tempdir().unwrap();
        let shelves = Shelves::open(&open(&folder)).unwrap();
        fill(&shelves, 0..most + 50);
        assert_eq!(shelves.named().trees.len(), MOST);
        assert_has(&shelves, &(0..most + 50).collect::<Vec<_>>());
        drop(shelves);
        let shelves = Shelves::open(&open(&folder)).unwrap();
        fill(&shelves, most + 50..most + 60);
        assert_has(&shelves, &(0..most + 60).collect::<Vec<_>>());

        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder);
        for number in 0..40u64 {
            db.insert(key(b'c', number), &number.to_be_bytes()).unwrap();
            db.insert(key(b'i', number), &number.to_be_bytes()).unwrap();
        }
        let shelves = Shelves::open(&db).unwrap();
        fill(&shelves, 40..60);
        assert_has(&shelves, &(0..60).collect::<Vec<_>>());
    }

    #[test]
    fn small_and_large_values_keep_their_order_and_none_goes_to_a_file_of_its_own() {
        let most = u64::try_from(MOST).unwrap() * u64::from(SHELF) / 2;
        let folder = tempfile::tempdir().unwrap();
        let shelves = Shelves::open(&open(&folder)).unwrap();
        fill(&shelves, 0..most);
        let large = |number: u64| match number % 40 {
            0..4 => vec![1; 60 * 1024],
            number if number < 30 => vec![2; 8 * 1024],
            _ => vec![3; 100],
        };
        for number in most..most + 100 {
            for family in FAMILIES {
                shelves.add(key(family, number), &large(number)).unwrap();
            }
        }
        // What is changed is written anew, with everything beside it.
        for number in most..most + 100 {
            shelves.restore(key(b'c', number), &large(number)).unwrap();
        }
        for family in FAMILIES {
            let found: Vec<_> = shelves.family(family).map(|pair| pair.unwrap().0).collect();
            assert_eq!(found, (0..most + 100).map(|it| key(family, it)).collect::<Vec<_>>());
            for number in (most..most + 100).step_by(7) {
                assert_eq!(shelves.get(key(family, number)).unwrap().unwrap(), large(number));
                let last = shelves.last(key(family, 0), key(family, number)).unwrap();
                assert_eq!(last.unwrap(), large(number));
            }
        }
        assert_no_blobs(&shelves, &folder);
    }

    #[test]
    fn the_longest_parts_fill_a_shelf_that_has_room_for_what_is_put_back() {
        let most = u64::try_from(MOST).unwrap() * u64::from(SHELF) / 2;
        let folder = tempfile::tempdir().unwrap();
        let shelves = Shelves::open(&open(&folder)).unwrap();
        fill(&shelves, 0..most);
        let sizes = [PART; 9].into_iter().chain([2_000; 8]);
        let values: Vec<_> = (most..).zip(sizes.map(|size| vec![5; size])).collect();
        for (number, value) in &values {
            shelves.add(key(b'c', *number), value).unwrap();
        }
        // Of what stands in the tree without a name, all but the last is lost.
        for (number, _) in values.iter().skip(9).take(7) {
            assert!(shelves.db.remove(key(b'c', *number)).unwrap().is_some());
        }
        // The second time everything is there, and written anew all the same.
        for (number, value) in values.iter().chain(&values) {
            shelves.restore(key(b'c', *number), value).unwrap();
        }
        for (number, value) in &values {
            assert_eq!(shelves.get(key(b'c', *number)).unwrap().as_deref(), Some(&value[..]));
        }
        assert_no_blobs(&shelves, &folder);
    }

    fn assert_no_blobs(shelves: &Shelves, folder: &tempfile::TempDir) {
        shelves.db.flush().unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("blobs")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_in_the_log_alone_gets_shelves_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let shelves = Shelves::open(&open(&folder)).unwrap();
        fill(&shelves, 0..4);
        for number in 0..100 {
            for family in FAMILIES {
                shelves.restore(key(family, number), &number.to_be_bytes()).unwrap();
            }
        }
        assert_has(&shelves, &(0..100).collect::<Vec<_>>());
        assert_eq!(shelves.named().trees.len(), 2 * (1 + 96usize.div_ceil(9)));
    }

    #[test]
    fn a_shelf_that_a_crash_left_empty_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder);
        fill(&Shelves::open(&db).unwrap(), 0..6);
        for family in FAMILIES {
            db.open_tree(key(family, 9)).unwrap();
        }
        let shelves = Shelves::open(&db).unwrap();
        for number in 3..14 {
            for family in FAMILIES {
                shelves.restore(key(family, number), &number.to_be_bytes()).unwrap();
            }
        }
        fill(&shelves, 14..30);
        assert_has(&shelves, &(0..30).collect::<Vec<_>>());
        drop((shelves, db));
        assert_has(&Shelves::open(&open(&folder)).unwrap(), &(0..30).collect::<Vec<_>>());
    }

    #[test]
    fn each_value_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder);
        let shelves = Shelves::open(&db).unwrap();
        for number in 0..100u64 {
            shelves.add(key(b'c', number), value(number).as_bytes()).unwrap();
        }
        db.flush().unwrap();
        drop((shelves, db));
        assert_written(&folder, |_number| 1);
    }

    #[test]
    fn what_is_restored_is_written_also_if_it_seems_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder);
        let shelves = Shelves::open(&db).unwrap();
        for number in 0..4 {
            shelves.add(key(b'c', number), value(number).as_bytes()).unwrap();
        }
        db.flush().unwrap();
        shelves.restore(key(b'c', 2), value(2).as_bytes()).unwrap();
        db.flush().unwrap();
        drop((shelves, db));
        assert_written(&folder, |number| if number == 2 { 2 } else { usize::from(number < 4) });
    }

    fn value(number: u64) -> String {
        format!("<value {number:04}>").repeat(300)
    }

    /// How often each value stands in the store's file.
    fn assert_written(folder: &tempfile::TempDir, times: impl Fn(u64) -> usize) {
        let bytes = std::fs::read(folder.path().join("db")).unwrap();
        for number in 0..100 {
            let whole = value(number);
            let found = memchr::memmem::find_iter(&bytes, &whole).count();
            assert_eq!(found, times(number), "value {number}");
        }
    }
}
