// SPDX-License-Identifier: Apache-2.0
//! What a disk may keep when the power goes.
//!
//! Content: each write since the file was synced is kept, lost, torn, or zeros of its length. Names: of the changes in a
//! directory since it was synced any are kept, each whole. A directory that is lost takes along what is in it.
//!
//! On ext4 and the like, syncing a file that was created since makes its name last as well.
//!
//! vfat is different in two ways. A rename makes a new entry of size 0 there, and only a sync of the file after it writes
//! the size: syncing the directory does not. And the new and the old entry are two changes, of which either may be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Kind, Op};

/// Files and directories as a start finds them, by their paths below the scenario's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Image {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub directories: BTreeSet<PathBuf>,
}

impl Image {
    /// Makes the image real in `base`.
    pub fn make(&self, base: &Path) {
        let _ = fs::remove_dir_all(base);
        fs::create_dir(base).unwrap();
        self.directories.iter().for_each(|path| fs::create_dir(base.join(path)).unwrap());
        self.files.iter().for_each(|(path, bytes)| fs::write(base.join(path), bytes).unwrap());
    }

    /// The image when `root` was a RAM disk.
    pub fn without(mut self, root: &str) -> Self {
        self.files.retain(|path, _| !path.starts_with(root));
        self.directories.retain(|path| !path.starts_with(root));
        self
    }
}

/// The fate of a change that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Lost,
    /// Only the first byte of a write.
    First,
    /// Only the first half.
    Half,
    /// All but the last byte.
    AllButLast,
    /// The file has grown, the bytes are zeros.
    Zeros,
    /// The first half are zeros, the second half is kept.
    Hole,
    /// Of a rename on vfat: both names are there.
    Both,
    /// Of a rename on vfat: neither is.
    Neither,
}

const FATES: [Fate; 7] = [Fate::Kept, Fate::Lost, Fate::First, Fate::Half, Fate::AllButLast, Fate::Zeros, Fate::Hole];
/// Of a rename on vfat.
const RENAMES: [Fate; 4] = [Fate::Kept, Fate::Lost, Fate::Both, Fate::Neither];

/// One change, with files by number: names change.
#[derive(Debug, Clone)]
enum Change {
    Directory(PathBuf),
    Add(PathBuf, usize),
    /// Which of all renames it was is the last number.
    Move(PathBuf, PathBuf, usize, usize),
    /// The entry that a rename has made on vfat gets the size of the file.
    Size(usize, usize),
    Remove(PathBuf, usize),
    Write(usize, u64, Vec<u8>),
    Length(usize, u64),
}

/// A disk to which operations were done in their order.
#[derive(Clone)]
pub struct Model {
    base: PathBuf,
    kind: Kind,
    renames: usize,
    /// What is certainly there.
    synced: Kept,
    /// What is not, in the order of the operations.
    open: Vec<Change>,
    /// The names as a program sees them.
    seen: BTreeMap<PathBuf, usize>,
    /// In which spool each file was created.
    roots: BTreeMap<usize, PathBuf>,
}

#[derive(Clone, Default)]
struct Kept {
    /// The file, and the rename that made the entry.
    names: BTreeMap<PathBuf, (usize, Option<usize>)>,
    /// Renames on vfat whose entries have their size.
    sized: BTreeSet<usize>,
    content: BTreeMap<usize, Vec<u8>>,
    directories: BTreeSet<PathBuf>,
}

impl Model {
    /// An empty disk; paths of operations are below `base`.
    pub fn new(base: &Path, kind: Kind) -> Self {
        let (synced, open, seen, roots) = Default::default();
        Self { base: base.into(), kind, renames: 0, synced, open, seen, roots }
    }

    /// Puts a directory there, safely.
    pub fn with_directory(&mut self, path: &str) {
        self.synced.directories.insert(path.into());
    }

    /// Puts a file there, safely; `number` is the one that operations know it by.
    pub fn with_file(&mut self, path: &Path, number: usize, bytes: Vec<u8>) {
        let path = self.below(path);
        self.synced.content.insert(number, bytes);
        self.synced.names.insert(path.clone(), (number, None));
        self.roots.insert(number, root(&path));
        self.seen.insert(path, number);
    }

    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.base).expect("below the scenario's directory").into()
    }

    /// Does one operation.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::MakeDirectory(path) => self.open.push(Change::Directory(self.below(path))),
            Op::Create(path, file) => {
                let path = self.below(path);
                self.roots.insert(*file, root(&path));
                self.seen.insert(path.clone(), *file);
                self.open.push(Change::Add(path, *file));
            }
            Op::Rename(from, to) => {
                let (from, to) = (self.below(from), self.below(to));
                let file = self.seen.remove(&from).expect("a file that is there");
                self.seen.insert(to.clone(), file);
                self.renames += 1;
                self.open.push(Change::Move(from, to, file, self.renames));
                if self.kind == Kind::Vfat {
                    self.open.push(Change::Size(file, self.renames));
                } else {
                    self.synced.sized.insert(self.renames);
                }
            }
            Op::Remove(path) => {
                let path = self.below(path);
                let file = self.seen.remove(&path).expect("a file that is there");
                self.open.push(Change::Remove(path, file));
            }
            Op::Write(file, at, bytes) => self.open.push(Change::Write(*file, *at, bytes.clone())),
            Op::SetLength(file, length) => self.open.push(Change::Length(*file, *length)),
            Op::SyncFile(file) => {
                let with_name = self.kind == Kind::Ext4;
                let names = |change: &Change| with_name && matches!(change, Change::Add(_, added) if added == file);
                self.settle(|change| change.file() == Some(*file) || names(change));
            }
            Op::SyncDirectory(directory) => {
                let directory = self.below(directory);
                self.settle(|change| change.directory() == Some(&directory));
            }
            Op::SyncFileSystem(directory) => {
                // Each spool is a file system of its own.
                let (synced, roots) = (root(&self.below(directory)), self.roots.clone());
                self.settle(|change| change.root(&roots) == synced);
            }
        }
    }

    /// Takes over what a sync covers.
    fn settle(&mut self, covers: impl Fn(&Change) -> bool) {
        let (done, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open).into_iter().partition(covers);
        self.open = open;
        done.iter().for_each(|change| self.synced.apply(change, Fate::Kept));
    }

    /// The fates that each open change may have. Those outside of `only` are all kept.
    pub fn fates(&self, only: Option<&str>) -> Vec<&'static [Fate]> {
        let fates = |change: &Change| match change {
            _ if only.is_some_and(|only| change.root(&self.roots) != Path::new(only)) => &FATES[..1],
            Change::Write(_, _, bytes) if bytes.len() > 1 => &FATES[..],
            Change::Move(..) if self.kind == Kind::Vfat => &RENAMES[..],
            _ => &FATES[..2],
        };
        self.open.iter().map(fates).collect()
    }

    /// The state in which the open changes had these fates.
    pub fn state(&self, fates: &[Fate]) -> Image {
        let mut kept = self.synced.clone();
        self.open.iter().zip(fates).for_each(|(change, fate)| kept.apply(change, *fate));
        let there = |path: &Path| path.ancestors().all(|p| p == Path::new("") || kept.directories.contains(p));
        let directories = kept.directories.iter().filter(|path| there(path)).cloned().collect();
        let mut files = BTreeMap::new();
        for (path, (file, renamed)) in kept.names.iter().filter(|(path, _)| path.parent().is_some_and(there)) {
            let has_size = renamed.is_none_or(|rename| kept.sized.contains(&rename));
            let content = kept.content.get(file).filter(|_| has_size);
            files.insert(path.clone(), content.cloned().unwrap_or_default());
        }
        Image { files, directories }
    }

    /// The state in which everything was kept: that of a program that was killed.
    pub fn killed(&self) -> Image {
        self.state(&vec![Fate::Kept; self.open.len()])
    }
}

impl Change {
    fn file(&self) -> Option<usize> {
        match self {
            Self::Write(file, ..) | Self::Length(file, _) | Self::Size(file, _) => Some(*file),
            _ => None,
        }
    }

    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) | Self::Add(path, _) | Self::Move(_, path, ..) | Self::Remove(path, _) => {
                path.parent()
            }
            _ => None,
        }
    }

    fn root(&self, roots: &BTreeMap<usize, PathBuf>) -> PathBuf {
        match self {
            Self::Write(file, ..) | Self::Length(file, _) | Self::Size(file, _) => {
                roots.get(file).cloned().unwrap_or_default()
            }
            Self::Directory(path) | Self::Add(path, _) | Self::Move(_, path, ..) | Self::Remove(path, _) => root(path),
        }
    }
}

/// The spool that a path is in.
fn root(path: &Path) -> PathBuf {
    path.components().next().map(|first| PathBuf::from(first.as_os_str())).unwrap_or_default()
}

impl Kept {
    fn remove(&mut self, path: &Path, file: usize) {
        if self.names.get(path).is_some_and(|(there, _)| *there == file) {
            self.names.remove(path);
        }
    }

    fn apply(&mut self, change: &Change, fate: Fate) {
        if fate == Fate::Lost {
            return;
        }
        match change {
            Change::Directory(path) => drop(self.directories.insert(path.clone())),
            Change::Add(path, file) => drop(self.names.insert(path.clone(), (*file, None))),
            Change::Move(from, to, file, rename) => {
                if fate != Fate::Both {
                    self.remove(from, *file);
                }
                if fate != Fate::Neither {
                    self.names.insert(to.clone(), (*file, Some(*rename)));
                }
            }
            Change::Size(_, rename) => drop(self.sized.insert(*rename)),
            Change::Remove(path, file) => self.remove(path, *file),
            Change::Length(file, length) => {
                self.content.entry(*file).or_default().resize(usize::try_from(*length).unwrap(), 0);
            }
            Change::Write(file, at, bytes) => {
                let (at, half) = (usize::try_from(*at).unwrap(), bytes.len() / 2);
                let kept = match fate {
                    Fate::First => 0..1,
                    Fate::Half => 0..half,
                    Fate::AllButLast => 0..bytes.len() - 1,
                    Fate::Zeros => bytes.len()..bytes.len(),
                    Fate::Hole => half..bytes.len(),
                    _ => 0..bytes.len(),
                };
                let content = self.content.entry(*file).or_default();
                content.resize(content.len().max(at + kept.end), 0);
                content[at + kept.start..at + kept.end].copy_from_slice(&bytes[kept]);
            }
        }
    }
}
