//! The tree of names: what a process sees, and which names are durable.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use fuser::Errno;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Survival;
use super::pages::{Content, PAGE};

/// The number of a file or directory.
pub type Ino = u64;
/// The mounted directory itself.
pub const ROOT: Ino = 1;

/// The names in a directory.
type Names = BTreeMap<OsString, Ino>;

/// A file or a directory.
#[derive(Clone)]
pub enum Node {
    File(Content),
    Dir { visible: Names, durable: Names },
}

impl Node {
    fn empty_dir() -> Self {
        Self::Dir { visible: Names::new(), durable: Names::new() }
    }
}

/// One name that came, went or changed its meaning.
#[derive(Clone)]
struct Change {
    dir: Ino,
    name: OsString,
    now: Option<Ino>,
}

/// Every file and directory, before and after the last sync of each.
#[derive(Clone)]
pub struct Tree {
    nodes: BTreeMap<Ino, Node>,
    /// What happened to names since their directory was synced, in order; the changes of one operation
    /// (a rename has two) survive together or not at all.
    pending: Vec<Vec<Change>>,
    next: Ino,
    /// Pages in use by files that have a name.
    used: usize,
}

impl Tree {
    pub fn empty() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::empty_dir())]);
        Self { nodes, pending: Vec::new(), next: ROOT + 1, used: 0 }
    }

    /// The path of a file or directory, or of a name in a directory; empty when it has none any more.
    pub fn path_of(&self, (ino, name): (Ino, Option<&OsStr>)) -> String {
        let mut path = name.map_or_else(String::new, |name| format!("/{}", name.to_string_lossy()));
        let mut at = ino;
        while at != ROOT {
            let parent = self.nodes.iter().find_map(|(dir, node)| match node {
                Node::Dir { visible, .. } => {
                    let (name, _) = visible.iter().find(|(_, child)| **child == at)?;
                    Some((*dir, name))
                }
                Node::File(_) => None,
            });
            let Some((dir, name)) = parent else { return String::new() };
            path = format!("/{}{path}", name.to_string_lossy());
            at = dir;
        }
        path
    }

    /// A copy of a plain directory, all of it durable.
    pub fn copy_of(folder: &Path) -> Self {
        let mut tree = Self::empty();
        tree.take_in(ROOT, folder);
        for operation in std::mem::take(&mut tree.pending) {
            tree.settle(&operation);
        }
        tree
    }

    fn take_in(&mut self, dir: Ino, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let node = if entry.path().is_dir() {
                Node::empty_dir()
            } else {
                let content = Content::durable(&std::fs::read(entry.path()).expect("readable"));
                self.used += content.visible.allocated();
                Node::File(content)
            };
            let ino = self.put(dir, &entry.file_name(), node).expect("a new name");
            if entry.path().is_dir() {
                self.take_in(ino, &entry.path());
            }
        }
    }

    /// Writes what is visible into a plain directory.
    pub fn write_to(&self, folder: &Path) {
        self.write_dir(ROOT, folder);
    }

    fn write_dir(&self, dir: Ino, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a writable place");
        for (name, ino) in self.names(dir).expect("a directory") {
            let path = folder.join(name);
            match self.node(*ino).expect("every name has its node") {
                Node::Dir { .. } => self.write_dir(*ino, &path),
                Node::File(content) => {
                    let bytes = content.visible.read(0, content.visible.len());
                    std::fs::write(path, bytes).expect("a writable place");
                }
            }
        }
    }

    /// The tree as a power cut leaves it, all of it durable.
    pub fn survivor(&self, survival: Survival, rng: &mut StdRng) -> Self {
        let mut after = self.clone();
        for operation in std::mem::take(&mut after.pending) {
            if survival != Survival::Synced && rng.random_bool(0.5) {
                after.settle(&operation);
            }
        }
        let mut left = Self::empty();
        left.next = after.next;
        left.inherit(&after, ROOT, survival, rng);
        left
    }

    fn inherit(&mut self, from: &Self, dir: Ino, survival: Survival, rng: &mut StdRng) {
        let Some(Node::Dir { durable, .. }) = from.nodes.get(&dir) else { return };
        let names = Node::Dir { visible: durable.clone(), durable: durable.clone() };
        self.nodes.insert(dir, names);
        for ino in durable.values() {
            match &from.nodes[ino] {
                Node::Dir { .. } => self.inherit(from, *ino, survival, rng),
                Node::File(content) => {
                    let content = content.survivor(survival, rng);
                    self.used += content.visible.allocated();
                    self.nodes.insert(*ino, Node::File(content));
                }
            }
        }
    }

    pub fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    pub fn file(&mut self, ino: Ino) -> Result<&mut Content, Errno> {
        match self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)? {
            Node::File(content) => Ok(content),
            Node::Dir { .. } => Err(Errno::EISDIR),
        }
    }

    pub fn names(&self, dir: Ino) -> Result<&Names, Errno> {
        match self.node(dir)? {
            Node::Dir { visible, .. } => Ok(visible),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub fn lookup(&self, dir: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.names(dir)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        u64::try_from(self.used * PAGE).expect("memory fits in 64 bits")
    }

    /// Changes a file and keeps count of the space it takes.
    pub fn change(&mut self, ino: Ino, how: impl FnOnce(&mut Content)) -> Result<(), Errno> {
        let content = self.file(ino)?;
        let before = content.visible.allocated();
        how(content);
        let after = content.visible.allocated();
        self.used = (self.used + after).saturating_sub(before);
        Ok(())
    }

    pub fn create_file(&mut self, dir: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.put(dir, name, Node::File(Content::default()))
    }

    pub fn create_dir(&mut self, dir: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.put(dir, name, Node::empty_dir())
    }

    fn put(&mut self, dir: Ino, name: &OsStr, node: Node) -> Result<Ino, Errno> {
        if self.names(dir)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, node);
        self.rename_all(vec![Change { dir, name: name.to_owned(), now: Some(ino) }]);
        Ok(ino)
    }

    /// Removes a file's name; what is open stays readable.
    pub fn unlink(&mut self, dir: Ino, name: &OsStr) -> Result<(), Errno> {
        let ino = self.lookup(dir, name)?;
        let pages = self.file(ino)?.visible.allocated();
        self.used = self.used.saturating_sub(pages);
        self.rename_all(vec![Change { dir, name: name.to_owned(), now: None }]);
        Ok(())
    }

    pub fn remove_dir(&mut self, dir: Ino, name: &OsStr) -> Result<(), Errno> {
        let ino = self.lookup(dir, name)?;
        if !self.names(ino)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.rename_all(vec![Change { dir, name: name.to_owned(), now: None }]);
        Ok(())
    }

    /// Moves a name, over another one if that is there.
    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<(), Errno> {
        let ino = self.lookup(from.0, from.1)?;
        if let Ok(replaced) = self.lookup(to.0, to.1) {
            match self.node(replaced)? {
                Node::Dir { visible, .. } if !visible.is_empty() => return Err(Errno::ENOTEMPTY),
                Node::Dir { .. } => {}
                Node::File(content) => {
                    self.used = self.used.saturating_sub(content.visible.allocated());
                }
            }
        }
        self.rename_all(vec![
            Change { dir: from.0, name: from.1.to_owned(), now: None },
            Change { dir: to.0, name: to.1.to_owned(), now: Some(ino) },
        ]);
        Ok(())
    }

    fn rename_all(&mut self, operation: Vec<Change>) {
        for Change { dir, name, now } in &operation {
            if let Some(Node::Dir { visible, .. }) = self.nodes.get_mut(dir) {
                set(visible, name, *now);
            }
        }
        self.pending.push(operation);
    }

    fn settle(&mut self, operation: &[Change]) {
        for Change { dir, name, now } in operation {
            if let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(dir) {
                set(durable, name, *now);
            }
        }
    }

    /// The names of a directory are durable from here on.
    pub fn sync_dir(&mut self, dir: Ino) {
        let touches = |operation: &Vec<Change>| operation.iter().any(|change| change.dir == dir);
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(touches);
        self.pending = rest;
        for operation in synced {
            self.settle(&operation);
        }
    }
}

fn set(names: &mut Names, name: &OsStr, now: Option<Ino>) {
    match now {
        Some(ino) => names.insert(name.to_owned(), ino),
        None => names.remove(name),
    };
}
