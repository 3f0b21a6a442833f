//! fileserver: the images, in the bundle's own pages, and a buffer shared with each client.

use layout::{config::Window, limits::MAX_IMAGES, window};
use proto::{
    block,
    file::{BUFFER_BYTES, Config, FileClient, FileEntry, SERVICE},
};

use super::{Look, OwnMemory, Server, component};
use crate::{
    checks::found::Found,
    compile::{
        bundle::PAGE,
        error::CompileError,
        part::Role,
        wire::{Wiring, encode, name},
    },
    description::guest::Form,
    laws::authority::{Contents, FrameUse, Space, frames, shared},
    spec::{Fill, Rights},
};

pub(super) static SERVER: Server = Server {
    checks: &[who_has_files_may_read_them, images_are_not_too_many],
    frames: &FRAMES,
    own_memory: Some(OwnMemory {
        at: window::FILES,
        what: |system| {
            let images: Vec<String> = system.images().into_iter().map(|image| image.name).collect();
            format!("r   images {}", images.join(", "))
        },
    }),
    ..Server::new(SERVICE, 200, configure, Look::new("#0f766e", "#e6f5f3"))
};

static FRAMES: [FrameUse; 2] = [
    shared("files"),
    frames("image.", Space::Server(SERVICE), (window::FILES, window::GUEST_RAM), Rights::READ, Contents::Bundle),
];

fn who_has_files_may_read_them(found: &mut Found) {
    for component in &found.system.components {
        let may_read = component::calls(component).contains(&SERVICE);
        if let Some(file) = component.files.first().filter(|_| !may_read) {
            let message = format!("`{}` has files but not the service to read them", component.name.get_ref());
            found.add(file.span(), message, "add \"file\" to its services");
        }
    }
}

fn images_are_not_too_many(found: &mut Found) {
    let (system, images) = (found.system, found.system.images().len());
    let last = system.owners().last().map(|owner| owner.name.span());
    if let Some(last) = last.filter(|_| images > MAX_IMAGES) {
        found.add(last, format!("{images} images are too many"), format!("fileserver holds {MAX_IMAGES}"));
    }
}

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let server = wiring.server(SERVICE)?;
    let mut file = Config { files: heapless::Vec::new(), clients: heapless::Vec::new() };
    let mut at = window::FILES;
    for image in wiring.system.images() {
        let data = wiring.binaries.image(&image.name).ok_or_else(|| CompileError::NoImage(image.name.clone()))?;
        let data = self::image(wiring, server, &image.name, data, at)?;
        at += data.len.next_multiple_of(PAGE);
        let entry = FileEntry { name: name(&image.name)?, data };
        file.files.push(entry).map_err(|_| CompileError::TooMany("images"))?;
    }
    for (process, name) in wiring.named_clients(SERVICE)? {
        let buffer = wiring.share("files", process, server, BUFFER_BYTES);
        let client = FileClient { name, buffer, may_open: may_open(wiring, wiring.part(process)?.role)? };
        file.clients.push(client).map_err(|_| CompileError::TooMany("clients of fileserver"))?;
    }
    encode(&file)
}

/// An image as read-only pages of the bundle.
fn image(wiring: &mut Wiring, server: usize, name: &str, data: &[u8], at: u64) -> Result<Window, CompileError> {
    let window = Window { at, len: data.len() as u64 };
    if !data.is_empty() {
        let vspace = wiring.domain(server)?.vspace;
        let offset = wiring.build.blobs.add(data);
        let object = format!("{}.image.{name}", SERVICE.server);
        let frames = wiring.build.frames(object, window.len, Fill::Bundle { offset });
        wiring.build.map(vspace, frames, at, Rights::READ);
    }
    Ok(window)
}

/// The images of a client, as bits.
fn may_open(wiring: &Wiring, role: Role) -> Result<u64, CompileError> {
    let system = wiring.system;
    let keys = match role {
        Role::Vmm(n) => system.images_of(n),
        Role::Component(n) => {
            let files = system.components.get(n).into_iter().flat_map(|component| &component.files);
            files.map(|file| (file.get_ref(), Form::AsIs)).collect()
        }
        Role::Server(service) if service == block::SERVICE => {
            system.disk_files().map(|(_, file)| (file.get_ref(), Form::AsIs)).collect()
        }
        Role::Server(_) => Vec::new(),
    };
    keys.into_iter().try_fold(0, |bits, (origin, form)| {
        let index = system.image_index(origin, &form);
        let index = index.ok_or_else(|| CompileError::unwired("image", origin.base_name()))?;
        Ok(bits | 1 << index)
    })
}
