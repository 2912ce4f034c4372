//! Makes a damaged journal one that opens: what can be read stays at its positions, what cannot is given up.
//!
//! A damaged file is kept aside as it was, and each run of good blocks in it becomes a segment whose header
//! says which position it follows. The damaged file is replaced last, so a crash on the way leaves a
//! journal that is mended by the same command again.

use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::{
    Disk, Error, Folder, Position, Synced, inspect,
    segment::{self, Head},
};

/// What was mended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mended {
    /// Copies of the files that were damaged.
    pub kept_aside: Vec<PathBuf>,
    /// First and last position of each run of records that was given up, as far as what follows it tells.
    pub lost: Vec<(Position, Position)>,
}

/// Mends the journal of a folder that no other process has open; marks come from `random`.
///
/// # Errors
/// [`Error::Locked`] where a program runs on it, [`Error::Format`] where another program wrote it.
pub fn mend(folder: &Path, random: &mut Rng) -> Result<Mended, Error> {
    let disk = Folder::open(folder)?;
    let firsts = segment::list(&disk)?;
    let mut mended = Mended::default();
    let (mut follows, mut is_mending) = (None, false);
    for (index, &first) in firsts.iter().enumerate() {
        let name = segment::name(first);
        let bytes = disk.read(&name).map_err(Error::disk("read", disk.place(&name)))?;
        let mut blocks = Vec::new();
        let (found, _) = inspect::read(disk.place(&name), first, &bytes, &mut |block| {
            blocks.push(block.clone());
            true
        });
        if let Some(format) = found.format.filter(|format| *format != segment::FORMAT) {
            return Err(Error::Format { path: found.path, found: format, known: segment::FORMAT });
        }
        // What was mended before a crash stands in a file of its own already.
        let following = firsts.get(index + 1).copied();
        blocks.retain(|block| following.is_none_or(|following| block.first < following));
        let before = follows.unwrap_or(found.follows);
        follows = Some(blocks.last().map_or(first, |block: &Synced| block.last() + 1));
        if following.is_none() && found.is_left_over(before) {
            break;
        }
        let headless = found.format.is_none() && following.is_some();
        // Known to its header, but not to whoever was stopped before this could be told.
        mended.lost.extend((is_mending && found.follows < first).then(|| (found.follows, first - 1)));
        is_mending = before != found.follows || headless || found.faults.iter().any(|fault| fault.damage);
        if !is_mending {
            continue;
        }
        mended.kept_aside.push(keep_aside(&disk, &name, &bytes)?);
        mended.lost.extend((before < found.follows).then(|| (before, found.follows - 1)));
        for (head, blocks) in runs(first, before, &blocks, random).into_iter().rev() {
            if head.first != first {
                mended.lost.push((head.follows, head.first - 1));
            }
            let blocks = blocks.iter().flat_map(|block| block.batch.block(block.first, head.mark));
            segment::replace(
                &disk,
                head.first,
                &head.encode().into_iter().chain(blocks).collect::<Vec<_>>(),
            )?;
        }
    }
    mended.lost.sort_unstable();
    Ok(mended)
}

/// Blocks that follow each other, with the header of the segment they become; the first run may have none.
fn runs<'a>(
    first: Position,
    follows: Position,
    blocks: &'a [Synced],
    random: &mut Rng,
) -> Vec<(Head, &'a [Synced])> {
    let mut runs = Vec::new();
    let mut head = Head { first, follows, mark: random.u64(..) };
    let (mut begin, mut next) = (0, first);
    for (index, block) in blocks.iter().enumerate() {
        if block.first != next {
            runs.push((head, &blocks[begin..index]));
            head = Head { first: block.first, follows: next, mark: random.u64(..) };
            begin = index;
        }
        next = block.last() + 1;
    }
    runs.push((head, &blocks[begin..]));
    runs
}

/// Copies a file beside itself, durable, under a name that no other has.
fn keep_aside(disk: &Folder, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
    let taken = disk.list().map_err(Error::disk("list", disk.place("")))?;
    let names = (1..).map(|number| format!("{name}.damaged-{number}"));
    let aside = names.into_iter().find(|aside| !taken.contains(aside)).unwrap_or_default();
    let copied = disk.create(&aside).and_then(|()| disk.append(&aside, bytes));
    let copied = copied.and_then(|()| disk.sync(&aside)).and_then(|()| disk.sync_names());
    copied.map_err(Error::disk("write", disk.place(&aside)))?;
    Ok(disk.place(&aside))
}
