//! What a process has used, as Linux tells it below `/proc`.

use std::time::Duration;

/// The kernel counts processor time for programs in hundredths of a second, on every machine we know.
const TICKS_A_SECOND: u64 = 100;

/// The most memory a process has had at once, in MiB; none where it is gone.
pub fn peak_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Processor time that a process has used, in itself and in the kernel; none where it is gone.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets, so the fields are counted from its end.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * (1_000 / TICKS_A_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(peak_mib(std::process::id()).is_some_and(|mib| mib > 1.0));
        let before = processor_time(std::process::id()).expect("a process");
        let sum = (0..100_000_000u64).fold(0, |sum: u64, n| sum.wrapping_mul(31) ^ n);
        assert!(sum != 1 && processor_time(std::process::id()).expect("a process") > before);
    }
}
