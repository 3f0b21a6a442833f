//! A function's kind of device, from the class name or number that lspci prints: for its name in the description, and
//! to recognize bridges and IDE controllers.
//!
//! The numbers are the base class and sub-class of the PCI Code and ID Assignment Specification, the names those of pci.ids.

/// The class of IDE controllers, whose ports can be those of the PC/AT instead of their BARs'.
pub const IDE: u16 = 0x0101;

/// Class, pci.ids' name for it, and a short one.
const CLASSES: [(u16, &str, &str); 20] = [
    (0x0100, "SCSI storage controller", "SCSI"),
    (IDE, "IDE interface", "IDE"),
    (0x0104, "RAID bus controller", "RAID"),
    (0x0106, "SATA controller", "SATA"),
    (0x0107, "Serial Attached SCSI controller", "SAS"),
    (0x0108, "Non-Volatile memory controller", "NVMe"),
    (0x0180, "Mass storage controller", "Storage"),
    (0x0200, "Ethernet controller", "Ethernet"),
    (0x0280, "Network controller", "Network"),
    (0x0300, "VGA compatible controller", "VGA"),
    (0x0380, "Display controller", "Display"),
    (0x0400, "Multimedia video controller", "Video"),
    (0x0401, "Multimedia audio controller", "Audio"),
    (0x0403, "Audio device", "Audio"),
    (0x0700, "Serial controller", "Serial"),
    (0x0805, "SD Host controller", "SD"),
    (0x0c00, "FireWire (IEEE 1394)", "FireWire"),
    (0x0c03, "USB controller", "USB"),
    (0x0c05, "SMBus", "SMBus"),
    (0x0c09, "CANBUS", "CAN"),
];

/// The class's number, from `IDE interface`, `IDE interface [0101]`, `Class 0101` or `0101`.
pub fn number(class: &str) -> Option<u16> {
    let digits = match class.rsplit_once('[') {
        Some((_, digits)) => digits.trim_end_matches(']'),
        None => class.trim_start_matches("Class "),
    };
    let number = u16::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4);
    number.or_else(|| CLASSES.iter().find(|known| known.1 == class).map(|known| known.0))
}

/// A word for a device of the class.
pub fn short(class: &str) -> &'static str {
    let number = number(class);
    CLASSES.iter().find(|known| Some(known.0) == number).map_or("Device", |known| known.2)
}

/// Whether the class is one of bridges (base class 6).
pub fn is_bridge(class: &str) -> bool {
    let name = class.split('[').next().unwrap_or(class).trim().to_ascii_lowercase();
    number(class).is_some_and(|number| number >> 8 == 0x06) || name.ends_with("bridge")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_known_by_name_and_by_number() {
        for text in ["IDE interface", "IDE interface [0101]", "Class 0101", "0101"] {
            assert_eq!((number(text), short(text)), (Some(IDE), "IDE"), "{text}");
        }
        assert_eq!((number("Unassigned class [ffff]"), short("Unassigned class [ffff]")), (Some(0xffff), "Device"));
    }

    #[test]
    fn bridges_of_all_kinds_are_bridges() {
        for text in ["PCI bridge", "Host bridge [0600]", "Class 0601", "0680", "Bridge", "CardBus bridge"] {
            assert!(is_bridge(text), "{text}");
        }
        assert!(!is_bridge("Ethernet controller") && !is_bridge("0200"));
    }
}
