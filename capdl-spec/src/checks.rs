//! Checks a well-formed description: short functions, one law each, and each mistake with its remedy. `laws` has the
//! laws that no description can break, because this crate itself keeps them.

mod console;
mod counts;
mod debian;
pub(crate) mod found;
mod irqs;
mod never;
mod pci;
mod places;
mod plugged;
mod ports;
mod room;

use found::{Check, Found};
use layout::limits::{MAX_ARGS, MAX_CMDLINE, MAX_GUESTS, MAX_NAME};
use proto::{net, serial};
use toml::Spanned;

use crate::{
    compile::part::Role,
    description::{
        count::too_many,
        debian::{Stock, Use},
        defects::{DEFECTS, Defect},
        file,
        guest::Origin,
        mistake::{Mistakes, close, nearest},
        system::{Bytes, System},
    },
    map::plural,
    services::{self, channels, component, lifecycle, pipes, vmm},
    spec::PageSize,
};

/// Longest name of a VM or component: `vmm-NAME` stays well within `MAX_NAME`.
const NAME_BYTES: usize = 24;
/// Where the guest's PCI windows begin: RAM ends below.
pub(crate) const RAM_END: u64 = 3 << 30;

/// Checks a description; `Ok` means that it compiles.
pub(crate) fn check(system: &System) -> Result<(), Mistakes> {
    let mut found = Found { system, mistakes: Vec::new() };
    counts::lists_have_an_end(&mut found);
    // The laws compare every entry with every other, which takes too long for lists without a bound.
    let laws = if found.mistakes.is_empty() { LAWS.as_slice() } else { &[] };
    let of_servers = if found.mistakes.is_empty() { services::ALL.as_slice() } else { &[] };
    let of_vms = if found.mistakes.is_empty() { vmm::CHECKS.as_slice() } else { &[] };
    let of_lifecycles = if found.mistakes.is_empty() { lifecycle::CHECKS.as_slice() } else { &[] };
    let of_pipes = if found.mistakes.is_empty() { pipes::CHECKS.as_slice() } else { &[] };
    let of_channels = if found.mistakes.is_empty() { channels::CHECKS.as_slice() } else { &[] };
    let of_peers = of_pipes.iter().chain(of_channels).chain(of_lifecycles);
    for law in laws.iter().chain(of_vms).chain(of_peers).chain(of_servers.iter().flat_map(|server| server.checks)) {
        law(&mut found);
    }
    found.mistakes.sort_by_key(|mistake| mistake.span.start);
    // VMs of one `[[vm]]` have their mistakes in common.
    found.mistakes.dedup_by(|next, first| next.span == first.span && next.remedy == first.remedy);
    if found.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(found.mistakes)) }
}

pub(crate) use pci::MOST_DMA_MEMORY;

const LAWS: [Check; 60] = [
    there_is_something_to_run,
    guests_have_a_board_with_vt_x,
    names_are_well_formed,
    names_are_unique,
    guest_memory_is_whole_large_pages,
    guest_memory_ends_below_the_pci_windows,
    guests_fit_in_the_board,
    images_are_what_they_are_used_for,
    debian::releases_have_what_is_taken_from_them,
    files_can_be_read,
    additions_can_be_made,
    file_names_fit,
    command_lines_fit_and_are_one_line,
    direct_ports_are_debug_ports_of_the_board,
    console::the_console_is_where_a_uart_may_be,
    console::the_consoles_interrupt_is_its_own,
    console::the_consoles_rate_is_one_that_terminals_have,
    ports::port_ranges_are_ranges,
    ports::ports_name_a_function_that_is_there,
    ports::no_port_has_two_owners,
    ports::ports_of_the_mainboard_take_trust,
    ports::ports_are_not_those_of_the_guests_board,
    pci::functions_have_one_owner,
    pci::memory_is_whole_pages,
    places::memory_is_where_devices_are,
    pci::memory_has_one_owner,
    pci::dma_is_confined_or_trusted,
    pci::interrupts_by_dma_are_allowed,
    pci::interrupts_by_dma_name_who_can,
    pci::devices_have_one_owner_or_are_trusted,
    pci::trusted_memory_has_a_place,
    pci::confined_memory_fits_root_task,
    pci::components_have_memory_for_dma,
    irqs::functions_name_an_irq_that_is_there,
    irqs::functions_without_interrupts_name_none,
    irqs::pins_are_known,
    irqs::irqs_are_used,
    irqs::irqs_of_an_owner_differ,
    irqs::sources_are_free_inputs,
    irqs::dests_are_free_inputs_of_the_guests_pic,
    irqs::who_shares_a_source_agrees_on_it,
    room::device_names_fit,
    room::functions_list_what_pci_server_holds,
    room::ports_and_lines_are_not_too_many,
    room::memory_of_devices_is_not_too_large,
    room::owners_of_devices_are_among_the_first,
    plugged::cards_have_slots_of_their_own,
    plugged::only_emulated_boards_are_plugged_in_to,
    plugged::the_disk_can_be_read,
    servers_outrank_components,
    services_are_known,
    services_are_listed_once,
    arguments_fit,
    fault_policies_name_a_process,
    never::policies_name_vms_and_components,
    never::policies_are_about_two,
    never::policies_distrust_servers_and_drivers,
    accepted_defects_are_known,
    accepted_defects_are_listed_once,
    the_servers_can_serve_them_all,
];

fn there_is_something_to_run(found: &mut Found) {
    if found.system.vms.is_empty() && found.system.components.is_empty() {
        let board = found.system.board.span();
        found.add(board, "the system has no VM and no component".into(), "add a [[vm]], see systems/minimal.toml");
    }
}

fn guests_have_a_board_with_vt_x(found: &mut Found) {
    let board = found.system.board();
    if !board.vtx && !found.system.vms.is_empty() {
        let message = format!("no VM runs on the board `{}`, which has no VT-x", board.name);
        let remedy =
            "write board = \"bochs\", which `cargo xtask run` emulates with VT-x, or \"pc\" for a machine that has it";
        found.add(found.system.board.span(), message, remedy);
    }
}

/// Names of VMs and components.
fn names(system: &System) -> impl Iterator<Item = &Spanned<String>> {
    system.vms.iter().map(|vm| &vm.name).chain(system.components.iter().map(|component| &component.name))
}

fn names_are_well_formed(found: &mut Found) {
    for name in names(found.system) {
        let text = name.get_ref();
        let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !letters || !text.starts_with(|c: char| c.is_ascii_lowercase()) || text.len() > NAME_BYTES {
            let remedy = format!("a name is 1 to {NAME_BYTES} of a-z, 0-9 and -, and starts with a letter");
            found.add(name.span(), format!("`{text}` is not a name"), remedy);
        }
    }
}

fn names_are_unique(found: &mut Found) {
    let mut taken: Vec<String> = services::ALL.map(|server| server.service.server.to_string()).to_vec();
    taken.push("root-task".into());
    let vmms = found.system.vms.iter().map(|vm| format!("vmm-{}", vm.name.get_ref()));
    taken.extend(vmms);
    let servers = taken.len();
    for name in names(found.system) {
        let text = name.get_ref();
        match taken.iter().position(|other| other == text) {
            Some(n) if n < servers => {
                found.add(name.span(), format!("`{text}` is the name of a server"), "choose another name");
            }
            Some(_) => {
                let numbered = found.system.vms.iter().any(|vm| vm.name.get_ref() == text && vm.count.is_some());
                let remedy = match numbered {
                    true => "choose another name: a VM with `count` has its name and a number from 0 on",
                    false => "choose another name",
                };
                found.add(name.span(), format!("there are two of the name `{text}`"), remedy);
            }
            None => taken.push(text.clone()),
        }
    }
}

fn guest_memory_is_whole_large_pages(found: &mut Found) {
    let page = 1 << PageSize::Large.bits();
    for vm in &found.system.vms {
        let memory = vm.memory.get_ref();
        if memory.0 == 0 {
            found.add(vm.memory.span(), "a VM needs memory".into(), "Linux runs in 64 MiB and more");
        } else if memory.0 % page != 0 {
            let near = Bytes(memory.0.next_multiple_of(page));
            let message =
                format!("{memory} is not a multiple of {}, the pages that a guest's memory is made of", Bytes(page));
            found.add(vm.memory.span(), message, format!("write \"{near}\""));
        }
    }
}

fn guest_memory_ends_below_the_pci_windows(found: &mut Found) {
    for vm in &found.system.vms {
        let memory = vm.memory.get_ref();
        if memory.0 > RAM_END {
            let message = format!("{memory} is more than a 32-bit guest can have");
            let remedy = format!("give it {} at most: its PCI windows begin there", Bytes(RAM_END));
            found.add(vm.memory.span(), message, remedy);
        }
    }
}

fn guests_fit_in_the_board(found: &mut Found) {
    let board = found.system.board();
    let sizes = || found.system.vms.iter().map(|vm| vm.memory.get_ref().0);
    let total = sizes().fold(0u64, u64::saturating_add);
    let mut up_to_here = sizes().scan(0u64, |sum, size| {
        *sum = sum.saturating_add(size);
        Some(*sum)
    });
    let Some(first_beyond) = up_to_here.position(|sum| sum > board.guest_ram) else { return };
    let vm = &found.system.vms[first_beyond];
    let (guests, missing) = (plural(found.system.vms.len(), "VM"), Bytes(total - board.guest_ram));
    let message =
        format!("{guests} with {} in all: {missing} more than the board `{}` has for them", Bytes(total), board.name);
    found.add(vm.memory.span(), message, format!("all guests together may have {}", Bytes(board.guest_ram)));
}

fn images_are_what_they_are_used_for(found: &mut Found) {
    let system = found.system;
    let kernels = system.vms.iter().map(|vm| (&vm.kernel, Use::Kernel, "kernel"));
    let initrds = system.vms.iter().flat_map(|vm| &vm.initrd).map(|initrd| (initrd, Use::Initrd, "initrd"));
    let files = system.disk_files().map(|(_, file)| (file, Use::Disk, "file"));
    let disks = system.emulator.disk.iter().map(|disk| (disk, Use::Disk, "disk"));
    for (image, wanted, key) in kernels.chain(initrds).chain(files).chain(disks) {
        let Origin::Stock(stock) = image.get_ref() else { continue };
        if stock.purpose() != wanted {
            let message = format!("`{}` is {}, not {}", stock.name(), article(stock.purpose()), article(wanted));
            let fitting: Vec<String> = Stock::ALL
                .iter()
                .filter(|stock| stock.purpose() == wanted)
                .map(|stock| format!("{key} = \"{}\"", stock.name()))
                .collect();
            found.add(image.span(), message, format!("write {}", fitting.join(" or ")));
        }
    }
}

fn article(purpose: Use) -> &'static str {
    match purpose {
        Use::Kernel => "a kernel",
        Use::Initrd => "an initrd",
        Use::Disk => "a disk",
    }
}

/// Images with a path, and their names in the description.
fn files(system: &System) -> impl Iterator<Item = (&'static str, &Spanned<Origin>)> {
    let kernels = system.vms.iter().map(|vm| ("kernel", &vm.kernel));
    let initrds = system.vms.iter().flat_map(|vm| vm.initrd.as_ref()).map(|initrd| ("initrd", initrd));
    let files = system.components.iter().flat_map(|component| &component.files).map(|file| ("file", file));
    let disks = system.disk_files().map(|(_, file)| ("disk", file));
    kernels.chain(initrds).chain(files).chain(disks)
}

fn files_can_be_read(found: &mut Found) {
    let system = found.system;
    let folder = system.folder();
    let mut unusable = |what: &str, path: &std::path::Path, span| {
        if let Err(why) = file::examine(&folder.join(path)) {
            let message = format!("the {what} `{}` {why}", path.display());
            found.add(span, message, file::remedy(path, &why));
        }
    };
    for (what, origin) in files(system) {
        if let Origin::File(path) = origin.get_ref() {
            unusable(what, path, origin.span());
        }
    }
    for component in system.components.iter().filter(|component| component.image_is_path()) {
        // A folder is a crate, which the build compiles.
        let path: &std::path::Path = component.image.get_ref().as_ref();
        let manifest = path.join("Cargo.toml");
        let program = if folder.join(path).is_dir() { manifest.as_path() } else { path };
        unusable("program", program, component.image.span());
    }
}

/// Packages and folders for initrds.
fn additions_can_be_made(found: &mut Found) {
    let system = found.system;
    for vm in &system.vms {
        let (packages, folders) = (vm.packages.iter().chain(&vm.build_packages), vm.programs.iter().chain(&vm.overlay));
        let spans = packages.clone().map(Spanned::span).chain(folders.clone().map(Spanned::span));
        if let (None, Some(span)) = (&vm.initrd, spans.min_by_key(|span| span.start)) {
            let message = format!("`{}` has no initrd to add files to", vm.name.get_ref());
            found.add(span, message, "give it one, like initrd = \"debian-busybox\"");
        }
        if let ([], Some(package)) = (vm.programs.as_slice(), vm.build_packages.first()) {
            let message = format!("`{}` has no programs to build", vm.name.get_ref());
            found.add(package.span(), message, "list their folders, like programs = [\"./hello\"], or leave this out");
        }
        for package in packages {
            let name = package.get_ref();
            let may_follow = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            let letters = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
            if name.len() < 2 || !letters || !name.chars().all(may_follow) {
                let remedy =
                    "a package's name is two or more of a-z, 0-9, +, - and ., without a version or an architecture";
                found.add(package.span(), format!("`{name}` is not a package's name"), remedy);
            }
        }
        for folder in folders {
            let path = folder.get_ref();
            if let Err(why) = file::examine_folder(&system.folder().join(path)) {
                found.add(folder.span(), format!("the folder `{}` {why}", path.display()), file::remedy(path, &why));
            }
        }
        for folder in &vm.programs {
            let path = folder.get_ref();
            if system.folder().join(path).is_dir() && !system.folder().join(path).join("Makefile").is_file() {
                let message = format!("the folder `{}` has no Makefile", path.display());
                found.add(folder.span(), message, "write one whose target `install` puts files below $(DESTDIR)");
            }
        }
    }
}

fn file_names_fit(found: &mut Found) {
    for (_, origin) in files(found.system) {
        // Up to three more bytes distinguish files of the same name.
        if origin.get_ref().base_name().len() > MAX_NAME - 3 {
            let message = format!("the file's name is longer than {} bytes", MAX_NAME - 3);
            found.add(origin.span(), message, "rename it, or name a link to it");
        }
    }
}

fn command_lines_fit_and_are_one_line(found: &mut Found) {
    for (vm, line) in found.system.vms.iter().filter_map(|vm| Some((vm, vm.cmdline.as_ref()?))) {
        let text = vm.cmdline();
        if text.len() > MAX_CMDLINE {
            let message = format!("the command line has {} bytes", text.len());
            found.add(line.span(), message, format!("Linux takes {MAX_CMDLINE} at most"));
        }
        if let Some(wrong) = text.chars().find(|c| !matches!(c, ' '..='~')) {
            let message = format!("the command line holds the character {wrong:?}");
            found.add(line.span(), message, "keep to printable ASCII on one line");
        }
    }
}

fn direct_ports_are_debug_ports_of_the_board(found: &mut Found) {
    let board = found.system.board();
    for port in found.system.vms.iter().flat_map(|vm| &vm.direct_ports) {
        let number = *port.get_ref();
        if !board.debug_ports.iter().any(|(known, _)| *known == number) {
            let known: Vec<_> = board.debug_ports.iter().map(|(port, what)| format!("{port:#x} ({what})")).collect();
            let remedy = match known.is_empty() {
                true => "leave direct_ports out: this board has none".to_string(),
                false => format!("direct_ports is for the emulator's debug ports: {}", known.join(", ")),
            };
            let message = format!("port {number:#x} is no debug port of the board `{}`", board.name);
            found.add(port.span(), message, remedy);
        }
    }
}

fn servers_outrank_components(found: &mut Found) {
    for (number, component) in found.system.components.iter().enumerate() {
        let priority = *component.priority.get_ref();
        let is_connected = services::net::connects(found.system, Role::Component(number));
        // Every process prints through serial-server.
        let called = component::calls(component).into_iter().chain([serial::SERVICE]);
        let called = called.chain(is_connected.then_some(net::SERVICE)).filter_map(services::server);
        let Some(lowest) = called.min_by_key(|server| server.priority) else { continue };
        // A driver serves guests, and would starve behind a busy one: it may be pci-server's equal, as they are.
        let top = lowest.priority - u8::from(component.uplink.is_none() && component.drives.is_none());
        if priority == 0 || priority > top {
            let message =
                format!("the priority {priority} of `{}` is not below its servers'", component.name.get_ref());
            let remedy = format!("choose 1 to {top}: {} has {}", lowest.service.server, lowest.priority);
            found.add(component.priority.span(), message, remedy);
        }
    }
}

fn services_are_known(found: &mut Found) {
    let known: Vec<&str> = found.system.servers().map(|server| server.service.word).collect();
    for word in found.system.components.iter().flat_map(|component| &component.services) {
        let text = word.get_ref();
        if !known.contains(&text.as_str()) {
            found.add(word.span(), format!("`{text}` has no place in `services`"), nearest(text, &known));
        }
    }
}

fn services_are_listed_once(found: &mut Found) {
    for component in &found.system.components {
        let mut seen = Vec::new();
        for service in &component.services {
            if seen.contains(&service.get_ref()) {
                let message = format!("`{}` is listed twice", service.get_ref());
                found.add(service.span(), message, "list each service once");
            }
            seen.push(service.get_ref());
        }
    }
}

fn arguments_fit(found: &mut Found) {
    for args in found.system.components.iter().flat_map(|component| &component.args) {
        let bytes = args.get_ref().len();
        if bytes > MAX_ARGS {
            found.add(args.span(), format!("the args have {bytes} bytes"), format!("{MAX_ARGS} at most"));
        }
    }
}

fn fault_policies_name_a_process(found: &mut Found) {
    let parts = found.system.parts();
    let known: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    for name in found.system.policy.on_fault.keys() {
        if !known.contains(&name.get_ref().as_str()) {
            let message = format!("no process is called `{}`", name.get_ref());
            let vmm = format!("vmm-{}", name.get_ref());
            let remedy = match known.contains(&vmm.as_str()) {
                true => format!("the process of the VM is called `{vmm}`"),
                false => nearest(name.get_ref(), &known),
            };
            found.add(name.span(), message, remedy);
        }
    }
}

fn accepted_defects_are_known(found: &mut Found) {
    for name in &found.system.accept_kernel_defects {
        let text = name.get_ref();
        if Defect::named(text).is_none() {
            let known: Vec<&str> = DEFECTS.iter().map(|defect| defect.name).collect();
            let remedy = close(text, &known).map_or_else(
                || "docs/kernel-defects.md lists them, and `cargo xtask kernel-check` those of a kernel".to_string(),
                |name| format!("did you mean `{name}`?"),
            );
            found.add(name.span(), format!("no defect of a kernel is called `{text}`"), remedy);
        }
    }
}

fn accepted_defects_are_listed_once(found: &mut Found) {
    let names = &found.system.accept_kernel_defects;
    for (n, name) in names.iter().enumerate() {
        if names[..n].iter().any(|other| other.get_ref() == name.get_ref()) {
            found.add(name.span(), format!("`{}` is listed twice", name.get_ref()), "list each defect once");
        }
    }
}

fn the_servers_can_serve_them_all(found: &mut Found) {
    let (vms, components) = (found.system.vms.len(), found.system.components.len());
    let Some(last) = names(found.system).nth(MAX_GUESTS).map(Spanned::span) else { return };
    let (message, remedy) = too_many(vms, components);
    found.add(last, message, remedy);
}
