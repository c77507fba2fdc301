//! `cargo xtask flash`: brings a board's image onto the board.
//!
//! ```text
//!  Pico, Pico 2: a debug probe is plugged in ──▶ probe-rs writes the ELF
//!                else: the boot drive is mounted ──▶ the UF2 is copied there       else: says how to get it mounted
//!  nRF52840 dongle: says how to give the HEX to its boot loader
//! ```

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::firmware::{self, Board, Log};
use crate::setup;
use crate::step::{Failed, program};

/// USB product strings of debug probes hold one of these.
const PROBES: [&str; 4] = ["CMSIS-DAP", "J-Link", "ST-LINK", "ST-Link"];

/// How an image gets onto a board.
#[derive(Clone, Copy)]
enum Way {
    /// By a debug probe, which calls the chip so, or onto the boot drive, which has this label and board id.
    ProbeOrDrive(&'static str, &'static str),
    /// By Nordic's boot loader and programs. A probe does not do: it writes past the boot loader, which starts nothing that
    /// it has not written itself.
    Nordic,
}

/// Builds the image of `board` and brings it there.
pub(crate) fn flash(board: Board, log: Log) -> Result<(), Failed> {
    let way = match board {
        Board::Nrf52840 => Way::Nordic,
        Board::Pico => Way::ProbeOrDrive("RP2040", "RPI-RP2"),
        Board::Pico2 => Way::ProbeOrDrive("RP235x", "RP2350"),
        Board::Qemu => {
            return Err(Failed(format!(
                "{0} is an emulator: `cargo xtask token --board {0} --link PATH` runs its image",
                board.feature()
            )));
        }
    };
    let image = firmware::build(board, log)?;
    let image = image.canonicalize().unwrap_or(image);
    match way {
        Way::ProbeOrDrive(chip, drive) => match probe(Path::new("/sys/bus/usb/devices")) {
            Some(probe) => write_by_probe(&probe, chip, &firmware::elf(board, log), log),
            None if log == Log::Rtt => {
                Err(Failed("no debug probe is here, which a log goes to".into()))
            }
            None => copy_to_drive(&image, drive),
        },
        Way::Nordic => Err(Failed(by_nordics_programs(&image, log))),
    }
}

fn write_by_probe(probe: &str, chip: &str, elf: &Path, log: Log) -> Result<(), Failed> {
    println!("writing with the debug probe: {probe}");
    setup::cargo_program("probe-rs", "probe-rs-tools")?;
    let elf = elf.to_string_lossy();
    if log == Log::Rtt {
        return program(
            "write, and show the log",
            "probe-rs",
            &["run", "--chip", chip, &elf],
        )
        .run();
    }
    program("write", "probe-rs", &["download", "--chip", chip, &elf]).run()?;
    program("restart", "probe-rs", &["reset", "--chip", chip]).run()
}

fn copy_to_drive(image: &Path, drive: &str) -> Result<(), Failed> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|e| Failed(e.to_string()))?;
    let Some(folder) = boot_drive(&mounts, drive) else {
        return Err(Failed(format!(
            "no debug probe and no boot drive of the board is here.\n\
             Hold the button BOOTSEL of the board down while you plug it in: it shows up as a drive named {drive}. Mount it, \
             for example with `udisksctl mount -b /dev/disk/by-label/{drive}`, and repeat the command. Or copy the image \
             yourself: {}",
            image.display()
        )));
    };
    copy(image, &folder)?;
    println!(
        "copied to {}; the board restarts as a token",
        folder.display()
    );
    Ok(())
}

/// What to do with the image of the nRF52840 dongle.
fn by_nordics_programs(image: &Path, log: Log) -> String {
    let package = image.with_extension("zip");
    let (image, package) = (image.display(), package.display());
    let mut text = format!(
        "the image is built and not yet on the board: its boot loader takes it from one of Nordic's programs.\n\
         Press the dongle's RESET button, the one that you push sideways: the red light pulses. Then either open {image} in \
         the Programmer of nRF Connect for Desktop and write it, or, with nrfutil:\n  \
         nrfutil install nrf5sdk-tools\n  \
         nrfutil nrf5sdk-tools pkg generate --hw-version 52 --sd-req 0x00 --application-version 1 --application {image} \
         {package}\n  \
         nrfutil nrf5sdk-tools dfu usb-serial -pkg {package} -p /dev/ttyACM0"
    );
    if log == Log::Rtt {
        let elf = image.to_string().replace(".hex", "");
        text += &format!(
            "\nThe log, by a debug probe on the dongle's pads: probe-rs attach --chip nRF52840_xxAA {elf}"
        );
    }
    text
}

/// The name of a debug probe that is plugged in.
fn probe(devices: &Path) -> Option<String> {
    fs::read_dir(devices).ok()?.flatten().find_map(|device| {
        let product = fs::read_to_string(device.path().join("product")).ok()?;
        let product = product.trim();
        PROBES
            .iter()
            .any(|name| product.contains(name))
            .then(|| product.to_owned())
    })
}

/// Where the boot drive with this board id is mounted, by a list of mounts as in `/proc/self/mounts`.
fn boot_drive(mounts: &str, id: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let folder = PathBuf::from(unescape(line.split(' ').nth(1)?));
        let info = fs::read_to_string(folder.join("INFO_UF2.TXT")).ok()?;
        let mut lines = info.lines();
        let found = lines.find_map(|line| line.strip_prefix("Board-ID:"))?;
        (found.trim() == id).then_some(folder)
    })
}

/// The kernel writes a space in a path as `\040`, and the like.
fn unescape(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                out.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

fn copy(image: &Path, folder: &Path) -> Result<(), Failed> {
    let failed = |error: std::io::Error| Failed(format!("{}: {error}", folder.display()));
    let bytes = fs::read(image).map_err(failed)?;
    let name = image.file_name().unwrap_or_default();
    let mut file = File::create(folder.join(name)).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    // The drive may be gone as soon as its last block was written: that is how the board restarts.
    let _ = file.sync_all();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_drive_is_found_among_the_mounts_by_its_board_id() {
        let world = tempfile::tempdir().expect("folder");
        let drive = world.path().join("RPI RP2");
        fs::create_dir(&drive).expect("folder");
        let mounts = format!(
            "proc /proc proc rw 0 0\n/dev/sda1 {} vfat rw 0 0\n",
            drive.display().to_string().replace(' ', "\\040")
        );
        assert_eq!(boot_drive(&mounts, "RPI-RP2"), None);
        let info = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n";
        fs::write(drive.join("INFO_UF2.TXT"), info).expect("written");
        assert_eq!(boot_drive(&mounts, "RPI-RP2"), Some(drive.clone()));
        assert_eq!(boot_drive(&mounts, "RP2350"), None);

        let image = world.path().join("token.uf2");
        fs::write(&image, [7; 1024]).expect("written");
        assert!(copy(&image, &drive).is_ok());
        assert_eq!(
            fs::read(drive.join("token.uf2")).expect("copied"),
            [7; 1024]
        );
        assert!(copy(&image, &world.path().join("not there")).is_err());
    }

    #[test]
    fn the_drive_of_one_board_is_not_taken_for_the_others() {
        let world = tempfile::tempdir().expect("folder");
        let info = "UF2 Bootloader v1.0\r\nModel: Raspberry Pi RP2350\r\nBoard-ID: RP2350\r\n";
        fs::write(world.path().join("INFO_UF2.TXT"), info).expect("written");
        let mounts = format!("/dev/sda1 {} vfat rw 0 0\n", world.path().display());
        assert_eq!(boot_drive(&mounts, "RP2350").as_deref(), Some(world.path()));
        assert_eq!(boot_drive(&mounts, "RPI-RP2"), None);
    }

    #[test]
    fn a_debug_probe_is_known_by_its_product() {
        let devices = tempfile::tempdir().expect("folder");
        for (device, product) in [("usb1", "xHCI Host Controller"), ("1-2", "USB Keyboard")] {
            fs::create_dir(devices.path().join(device)).expect("folder");
            fs::write(devices.path().join(device).join("product"), product).expect("written");
        }
        assert_eq!(probe(devices.path()), None);
        fs::create_dir(devices.path().join("1-3")).expect("folder");
        let product = devices.path().join("1-3/product");
        fs::write(product, "Debugprobe on Pico (CMSIS-DAP)\n").expect("written");
        assert_eq!(
            probe(devices.path()).as_deref(),
            Some("Debugprobe on Pico (CMSIS-DAP)")
        );
    }

    #[test]
    fn paths_of_mounts_are_unescaped() {
        assert_eq!(unescape("/media/a\\040b\\134c"), "/media/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
        assert_eq!(unescape("/odd\\9"), "/odd\\9");
    }
}
