//! Mistakes in `[emulator]`.

use super::Found;
use crate::description::{emulator::SLOTS, file, guest::Origin};

pub(super) fn cards_have_slots_of_their_own(found: &mut Found) {
    let system = found.system;
    let mut taken = Vec::new();
    for card in &system.emulator.cards {
        let slot = *card.slot.get_ref();
        if !SLOTS.contains(&slot) {
            let message = format!("the board has no slot {slot}");
            found.add(card.slot.span(), message, format!("write {} to {}", SLOTS.start(), SLOTS.end()));
        } else if taken.contains(&slot) {
            found.add(card.slot.span(), format!("slot {slot} has a card already"), "choose another slot");
        }
        taken.push(slot);
    }
}

pub(super) fn only_emulated_boards_are_plugged_in_to(found: &mut Found) {
    let system = found.system;
    if system.board().emulated {
        return;
    }
    let disk = system.emulator.disk.as_ref().map(|disk| disk.span());
    let card = system.emulator.cards.first().map(|card| card.slot.span());
    if let Some(span) = disk.or(card) {
        let message = format!("the board `{}` is not emulated: it has what it has", system.board().name);
        found.add(span, message, "leave [emulator] out");
    }
}

pub(super) fn the_disk_can_be_read(found: &mut Found) {
    let system = found.system;
    let Some(disk) = &system.emulator.disk else { return };
    if let Origin::File(path) = disk.get_ref()
        && let Err(why) = file::examine(&system.folder().join(path))
    {
        let message = format!("the disk `{}` {why}", path.display());
        found.add(disk.span(), message, file::remedy(path, &why));
    }
}
