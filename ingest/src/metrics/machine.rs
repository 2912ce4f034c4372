//! What the machine has left for us: the journal's files, the disk they lie on, memory and open files.
//!
//! Read at each scrape; what cannot be read is left out.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};

/// The data folder, once it is known.
#[derive(Debug, Default)]
pub struct Folder {
    pub(super) data: OnceLock<PathBuf>,
}

impl Collector for Folder {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(data) = self.data.get() else { return Ok(()) };
        if let Some((segments, bytes)) = segments(&data.join("journal")) {
            let help = "files of the journal; it grows while the lake is away, and shrinks with each commit";
            gauge(&mut encoder, "journal_segments", help, None, segments)?;
            let help = "bytes of the journal's files, as its segments; compare with the disk's free bytes";
            gauge(&mut encoder, "journal", help, Some(Unit::Bytes), bytes)?;
        }
        let help = "bytes of rows sealed into local files until the lake has them; grows while it is away";
        gauge(&mut encoder, "sealed", help, Some(Unit::Bytes), bytes_below(&data.join("sealed"), DEPTH_MAX))?;
        if let Ok(disk) = rustix::fs::statvfs(data) {
            let help =
                "bytes free where the journal lies; at zero nothing is acknowledged until there is room";
            gauge(&mut encoder, "data_free", help, Some(Unit::Bytes), disk.f_bavail * disk.f_frsize)?;
        }
        Ok(())
    }
}

/// How many segments there are, and their bytes.
fn segments(folder: &Path) -> Option<(u64, u64)> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "journal"));
    let sizes = segments.filter_map(|file| Some(file.metadata().ok()?.len()));
    Some(sizes.fold((0, 0), |(segments, bytes), size| (segments + 1, bytes + size)))
}

/// Sealed files lie below a folder for each table.
const DEPTH_MAX: usize = 4;

/// Bytes of all files of a folder, and of the folders in it.
fn bytes_below(folder: &Path, depth_left: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() && depth_left > 0 => bytes_below(&entry.path(), depth_left - 1),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    });
    bytes.sum()
}

/// This process, under the names that all programs use.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(bytes) = resident_bytes() {
            let help = "memory of the process; beyond 1.5 GiB something is wrong";
            gauge(&mut encoder, "process_resident_memory", help, Some(Unit::Bytes), bytes)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // One of them is this look.
            let open = (open.count() as u64).saturating_sub(1);
            gauge(&mut encoder, "process_open_fds", "open files and connections", None, open)?;
        }
        if let Some(max) = open_files_max() {
            let help = "open files and connections allowed; raise LimitNOFILE when these come near";
            gauge(&mut encoder, "process_max_fds", help, None, max)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn open_files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_and_other_files_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in [("1.journal", 10), ("2.journal", 5), ("lock", 100)] {
            std::fs::write(folder.path().join(name), vec![0; bytes]).expect("a file");
        }
        assert_eq!(segments(folder.path()), Some((2, 15)));
        assert_eq!(segments(&folder.path().join("none")), None);
        let deep = folder.path().join("fleet/date=2026-01-01");
        std::fs::create_dir_all(&deep).expect("folders");
        std::fs::write(deep.join("a.parquet"), [0; 7]).expect("a file");
        assert_eq!((bytes_below(folder.path(), DEPTH_MAX), bytes_below(&deep.join("none"), 1)), (122, 0));
        assert!(open_files_max().is_some_and(|max| max > 0));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
