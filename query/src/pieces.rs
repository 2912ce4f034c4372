//! Pieces: how the files of a scan are dealt to cores.
//!
//! A filter leaves rows of a few places of a file, which is sorted, so halves of a file are seldom halves of the work. The
//! files are cut into many pieces, and a core that is done with one takes the next that nobody has: the engine shares
//! what is left of a scan among its partitions.

use datafusion::{
    config::ConfigOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileGroupPartitioner},
    },
};

/// Pieces for each core. Each costs some hundredths of a millisecond, for a look into the file's metadata, which are kept.
pub const PIECES_OF_A_CORE: usize = 16;

/// The same for a question about one tenant, which has few milliseconds.
pub const PIECES_OF_A_CORE_FOR_ONE_TENANT: usize = 4;

/// So many pieces of some files, each with what one of so many cores takes first. A row group is read as part of the piece
/// that its first page lies in.
pub fn deal(
    files: Vec<PartitionedFile>,
    cores: usize,
    pieces: usize,
    options: &ConfigOptions,
) -> Vec<FileGroup> {
    let files = FileGroup::new(files);
    let cut = FileGroupPartitioner::new()
        .with_target_partitions(pieces)
        .with_repartition_file_min_size(options.optimizer.repartition_file_min_size)
        .repartition_file_groups(std::slice::from_ref(&files));
    // What is read in a moment is not cut.
    let Some(pieces) = cut.filter(|_| cores > 1) else { return files.split_files(cores) };
    let mut dealt = vec![Vec::new(); cores.min(pieces.len())];
    let cores = dealt.len();
    for (at, piece) in pieces.into_iter().enumerate() {
        dealt[at % cores].extend(piece.into_inner());
    }
    dealt.into_iter().map(FileGroup::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, first byte and byte behind the last, by core.
    fn dealt(sizes: &[u64], cores: usize) -> Vec<Vec<(String, i64, i64)>> {
        let file = |(at, size): (usize, &u64)| PartitionedFile::new(format!("{at}"), *size);
        let files = sizes.iter().enumerate().map(file).collect();
        let groups = deal(files, cores, cores * PIECES_OF_A_CORE, &ConfigOptions::default());
        let piece = |piece: PartitionedFile| {
            let (first, end) = piece.range.map_or((0, 0), |range| (range.start, range.end));
            (piece.object_meta.location.to_string(), first, end)
        };
        groups.into_iter().map(|group| group.into_inner().into_iter().map(piece).collect()).collect()
    }

    #[test]
    fn every_byte_of_large_files_is_in_one_piece_and_each_core_begins_with_some() {
        let sizes = [100 << 20, 3, 40 << 20];
        for cores in [2, 3, 8] {
            let dealt = dealt(&sizes, cores);
            assert_eq!(dealt.len(), cores);
            assert!(dealt.iter().all(|pieces| pieces.len() >= PIECES_OF_A_CORE), "{dealt:?}");
            let mut pieces: Vec<_> = dealt.into_iter().flatten().collect();
            pieces.sort();
            for (file, size) in sizes.iter().enumerate() {
                let mut end = 0;
                for (_, from, to) in pieces.iter().filter(|(name, ..)| *name == file.to_string()) {
                    assert_eq!(*from, end);
                    end = *to;
                }
                assert_eq!(end, *size as i64);
            }
        }
    }

    #[test]
    fn small_files_and_those_of_one_core_stay_whole() {
        assert_eq!(dealt(&[1 << 10, 1 << 10, 1 << 10], 2).concat().len(), 3);
        assert_eq!(dealt(&[100 << 20], 1), [[("0".to_owned(), 0, 0)]]);
    }
}
