//! Finds tokens by their USB identity, in sysfs.
//!
//! ```text
//! /sys/class/tty/ttyACM0/device ─▶ the interface      its parent: idVendor, idProduct, product
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use hostchat_core::icd::{USB_NAME, USB_PRODUCT, USB_VENDOR};

use crate::error::{Error, Result};

/// What stands for "the token that is plugged in" in place of a port.
pub const AUTO: &str = "auto";

/// The port of the token that is plugged in.
///
/// # Errors
/// `TokenAbsent` if there is none; `Usage` if there are several, with their ports.
pub fn only_port() -> Result<PathBuf> {
    let ports = ports(Path::new("/sys"));
    match ports.as_slice() {
        [] => Err(Error::TokenAbsent {
            path: AUTO.into(),
            why: "no token is plugged in".into(),
        }),
        [port] => Ok(port.clone()),
        several => {
            let several: Vec<String> = several.iter().map(|p| p.display().to_string()).collect();
            Err(Error::Usage(format!(
                "several tokens are plugged in: name one of {} with --token",
                several.join(", ")
            )))
        }
    }
}

/// The ports of all tokens, in order.
fn ports(sys: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(sys.join("class/tty")) else {
        return Vec::new();
    };
    let mut ports: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| is_token(&entry.path()))
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect();
    ports.sort();
    ports
}

fn is_token(tty: &Path) -> bool {
    let Ok(interface) = fs::canonicalize(tty.join("device")) else {
        return false;
    };
    let read = |name: &str| {
        let text = fs::read_to_string(interface.parent()?.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let id = |name: &str| u16::from_str_radix(&read(name)?, 16).ok();
    id("idVendor") == Some(USB_VENDOR)
        && id("idProduct") == Some(USB_PRODUCT)
        && read("product").as_deref() == Some(USB_NAME)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A device with one serial interface, as the kernel shows it.
    fn plug(sys: &Path, tty: &str, vendor: &str, product: &str, name: &str) {
        let device = sys.join("devices/usb1").join(tty);
        let interface = device.join("1-1:1.0");
        fs::create_dir_all(interface.join("tty").join(tty)).unwrap();
        for (file, text) in [
            ("idVendor", vendor),
            ("idProduct", product),
            ("product", name),
        ] {
            fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
        symlink(&interface, interface.join("tty").join(tty).join("device")).unwrap();
        fs::create_dir_all(sys.join("class/tty")).unwrap();
        symlink(
            interface.join("tty").join(tty),
            sys.join("class/tty").join(tty),
        )
        .unwrap();
    }

    #[test]
    fn tokens_are_told_from_other_devices_by_ids_and_name() {
        let sys = tempfile::tempdir().unwrap();
        assert!(ports(sys.path()).is_empty());
        let (vendor, product) = (format!("{USB_VENDOR:04x}"), format!("{USB_PRODUCT:04x}"));
        plug(sys.path(), "ttyACM3", &vendor, &product, USB_NAME);
        plug(sys.path(), "ttyACM0", &vendor, &product, "somebody's board");
        plug(sys.path(), "ttyACM1", "2e8a", &product, USB_NAME);
        plug(sys.path(), "ttyUSB0", &vendor, "000a", USB_NAME);
        fs::create_dir_all(sys.path().join("class/tty/tty1")).unwrap();
        assert_eq!(ports(sys.path()), [Path::new("/dev/ttyACM3")]);
        plug(sys.path(), "ttyACM2", &vendor, &product, USB_NAME);
        assert_eq!(
            ports(sys.path()),
            [Path::new("/dev/ttyACM2"), Path::new("/dev/ttyACM3")]
        );
    }

    #[test]
    fn the_udev_rule_means_the_same_devices() {
        let rule = include_str!("../../udev/70-hostchat-token.rules");
        for part in [
            format!("ATTRS{{idVendor}}==\"{USB_VENDOR:04x}\""),
            format!("ATTRS{{idProduct}}==\"{USB_PRODUCT:04x}\""),
            format!("ATTRS{{product}}==\"{USB_NAME}\""),
        ] {
            assert!(rule.contains(&part), "{part}");
        }
    }
}
