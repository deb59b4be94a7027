//! The kernel's side: each request becomes one call on the disk.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::pages::PAGE;
use super::tree::{Ino, Node, ROOT, Tree};
use super::{Disk, Op};

/// How long the kernel may remember names and lengths: all changes pass through it, so for ever.
const TTL: Duration = Duration::from_secs(3600);
const GENERATION: Generation = Generation(0);
/// `FALLOC_FL_KEEP_SIZE` of fallocate(2).
const KEEP_SIZE: i32 = 1;

/// The disk as the kernel is served with it.
pub(super) struct Served(pub(super) Arc<Disk>);

fn attributes(tree: &Tree, ino: Ino) -> Result<FileAttr, Errno> {
    let (kind, perm, len, pages) = match tree.node(ino)? {
        Node::Dir { .. } => (FileType::Directory, 0o755, 0, 0),
        Node::File(content) => {
            let visible = &content.visible;
            (FileType::RegularFile, 0o644, visible.len(), visible.allocated())
        }
    };
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: wide(len),
        blocks: wide(pages * PAGE / 512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn wide(size: usize) -> u64 {
    u64::try_from(size).expect("memory fits in 64 bits")
}

fn narrow(size: u64) -> Result<usize, Errno> {
    usize::try_from(size).map_err(|_too_large| Errno::EFBIG)
}

impl Served {
    fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        make: impl FnOnce(&mut Tree, Ino, &OsStr) -> Result<Ino, Errno>,
    ) -> Result<FileAttr, Errno> {
        self.0.perform(Op::Create, (parent.0, Some(name)), |state, _| {
            state.require(1)?;
            let ino = make(&mut state.tree, parent.0, name)?;
            attributes(&state.tree, ino)
        })
    }

    fn write_at(&self, ino: INodeNo, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.0.perform(Op::Write, (ino.0, None), |state, short| {
            let offset = narrow(offset)?;
            let data = if short { &data[..data.len().div_ceil(2)] } else { data };
            let missing = state.tree.file(ino.0)?.visible.missing(offset, data.len());
            state.require(missing)?;
            state.tree.change(ino.0, |content| content.write(offset, data))?;
            Ok(data.len())
        })
    }

    fn resize(&self, ino: INodeNo, size: u64) -> Result<(), Errno> {
        self.0.perform(Op::Truncate, (ino.0, None), |state, _| {
            let size = narrow(size)?;
            state.tree.change(ino.0, |content| content.set_len(size))
        })
    }

    fn reserve(&self, ino: INodeNo, offset: u64, length: u64, mode: i32) -> Result<(), Errno> {
        if mode & !KEEP_SIZE != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.0.perform(Op::Truncate, (ino.0, None), |state, _| {
            let (offset, length) = (narrow(offset)?, narrow(length)?);
            let missing = state.tree.file(ino.0)?.visible.missing(offset, length);
            state.require(missing)?;
            state.tree.change(ino.0, |content| {
                content.allocate(offset, length);
                if mode & KEEP_SIZE == 0 && content.visible.len() < offset + length {
                    content.set_len(offset + length);
                }
            })
        })
    }

    fn entries(&self, ino: INodeNo) -> Result<Vec<(Ino, FileType, std::ffi::OsString)>, Errno> {
        self.0.look(|tree| {
            let mut entries = vec![
                (ino.0, FileType::Directory, ".".into()),
                (ROOT, FileType::Directory, "..".into()),
            ];
            for (name, child) in tree.names(ino.0)? {
                let kind = match tree.node(*child)? {
                    Node::Dir { .. } => FileType::Directory,
                    Node::File(_) => FileType::RegularFile,
                };
                entries.push((*child, kind, name.clone()));
            }
            Ok(entries)
        })
    }
}

fn entry(found: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match found {
        Ok(attr) => reply.entry(&TTL, &attr, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

fn done(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let find = |tree: &mut Tree| attributes(tree, tree.lookup(parent.0, name)?);
        entry(self.0.look(find), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.look(|tree| attributes(tree, ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.map_or(Ok(()), |size| self.resize(ino, size));
        match resized.and_then(|()| self.0.look(|tree| attributes(tree, ino.0))) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(self.make(parent, name, Tree::create_dir), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(
            self.0.perform(Op::Remove, (parent.0, Some(name)), |state, _| {
                state.tree.unlink(parent.0, name)
            }),
            reply,
        );
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(
            self.0.perform(Op::Remove, (parent.0, Some(name)), |state, _| {
                state.tree.remove_dir(parent.0, name)
            }),
            reply,
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.0.perform(Op::Rename, (newparent.0, Some(newname)), |state, _| {
            if flags.contains(RenameFlags::RENAME_EXCHANGE) {
                return Err(Errno::EINVAL);
            }
            let there = state.tree.lookup(newparent.0, newname).is_ok();
            if there && flags.contains(RenameFlags::RENAME_NOREPLACE) {
                return Err(Errno::EEXIST);
            }
            state.tree.rename((parent.0, name), (newparent.0, newname))
        });
        done(renamed, reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, Tree::create_file) {
            Ok(attr) => {
                reply.created(&TTL, &attr, GENERATION, FileHandle(0), FopenFlags::empty());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.0.look(|tree| {
            let (offset, size) = (narrow(offset)?, narrow(size.into())?);
            Ok(tree.file(ino.0)?.visible.read(offset, size))
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_at(ino, offset, data) {
            Ok(written) => reply.written(u32::try_from(written).expect("a request's size")),
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        done(self.reserve(ino, offset, length, mode), reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.0.sync(ino.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.0.sync(ino.0), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = match self.entries(ino) {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno),
        };
        let first = usize::try_from(offset).expect("a place in a list");
        for (place, (child, kind, name)) in entries.into_iter().enumerate().skip(first) {
            if reply.add(INodeNo(child), wide(place + 1), kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.0.state();
        let blocks = state.capacity / wide(PAGE);
        let free = state.capacity.saturating_sub(state.tree.used()) / wide(PAGE);
        reply.statfs(blocks, free, free, 1_000_000, 1_000_000, 4096, 255, 4096);
    }
}
