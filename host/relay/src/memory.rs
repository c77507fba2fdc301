//! How much memory the system gives this process, and who else may look into it.

use std::path::{Path, PathBuf};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Keeps memory out of core dumps and away from other processes of the same user, as the client does.
///
/// Best effort: a system that refuses leaves us no worse than before. Memory may still be swapped out.
pub fn harden() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The memory of this process's control group (`MemoryMax=` of a service, `--memory` of a container), in MiB, if it is limited.
pub(crate) fn given_mib() -> Option<u32> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_mib(Path::new(GROUPS), &own)
}

/// The smallest limit of a group and those around it; `own` is what the kernel says of a process's groups.
fn limit_mib(groups: &Path, own: &str) -> Option<u32> {
    // Version 2 is the line with the number 0, and its path begins with a slash.
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group: PathBuf = groups.join(path);
    let around = group
        .ancestors()
        .take_while(|group| group.starts_with(groups));
    let limits = around.filter_map(|group| {
        let text = std::fs::read_to_string(group.join("memory.max")).ok()?;
        // Or `max`.
        text.trim().parse::<u64>().ok()
    });
    let mib = limits.min()? / (1024 * 1024);
    Some(u32::try_from(mib).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_the_groups_around_counts() {
        let groups = tempfile::tempdir().unwrap();
        let service = groups.path().join("system.slice/relay.service");
        std::fs::create_dir_all(&service).unwrap();
        let own = "1:name=systemd:/x\n0::/system.slice/relay.service\n";
        assert_eq!(limit_mib(groups.path(), own), None);
        std::fs::write(service.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit_mib(groups.path(), own), None);
        let slice = groups.path().join("system.slice/memory.max");
        std::fs::write(slice, "268435456\n").unwrap();
        assert_eq!(limit_mib(groups.path(), own), Some(256));
        std::fs::write(service.join("memory.max"), "134217728\n").unwrap();
        assert_eq!(limit_mib(groups.path(), own), Some(128));
        assert_eq!(limit_mib(groups.path(), "0::/"), None);
        assert_eq!(limit_mib(groups.path(), "nonsense"), None);
    }
}
