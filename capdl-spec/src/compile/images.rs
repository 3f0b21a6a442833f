//! The images that a system needs, how each goes into the bundle, and their names at fileserver.

use std::{ops::Range, path::PathBuf};

use toml::Spanned;

use crate::{
    compile::{part::Role, placement},
    description::{
        disks::DiskPart,
        guest::{Additions, Form, Image, Origin},
        system::{Decompress, System, Vm},
    },
};

impl Vm {
    /// How the kernel goes into the bundle, for RAM at a chosen physical address (`ram_at`) or at guest-physical 0.
    fn kernel_form(&self, ram_at: Option<u64>) -> Form {
        match (self.decompress, ram_at) {
            (Decompress::Host, None) => Form::Decompressed,
            (Decompress::Host, Some(at)) => Form::Relocated { at },
            (Decompress::Guest, _) => Form::AsIs,
        }
    }
}

impl System {
    /// How a VM's initrd goes into the bundle.
    fn initrd_form(&self, vm: &Vm) -> Form {
        let names = |all: &[Spanned<String>]| all.iter().map(|name| name.get_ref().clone()).collect();
        let folder = |folder: &Spanned<PathBuf>| self.folder().join(folder.get_ref());
        let programs: Vec<PathBuf> = vm.programs.iter().map(folder).collect();
        // Only programs may be for one kernel; what does not differ is shared.
        let has_kernel = matches!(vm.kernel.get_ref(), Origin::Stock(_)) && !programs.is_empty();
        let debian = if has_kernel { vm.debian } else { vm.debian.of_any_kernel() };
        let additions = Additions {
            packages: names(&vm.packages),
            programs,
            build_packages: names(&vm.build_packages),
            debian,
            has_kernel,
            overlay: vm.overlay.as_ref().map(folder),
        };
        match additions {
            additions if additions == (Additions { debian, ..Additions::default() }) => Form::AsIs,
            additions => Form::Extended(additions),
        }
    }

    /// Every image that the system needs, each once, in fileserver's order.
    pub fn images(&self) -> Vec<Image> {
        let folder = self.folder();
        let mut images: Vec<Image> = Vec::new();
        for (origin, form) in self.image_keys() {
            let name = origin.base_name();
            let taken = images.iter().filter(|image| image.origin.base_name() == name).count();
            let name = if taken == 0 { name } else { format!("{name}-{}", taken + 1) };
            images.push(Image { name, origin: origin.within(folder), form });
        }
        images
    }

    /// The names of a VM's kernel and initrd at fileserver; `None` if there is no such VM.
    pub fn boots(&self, vm: usize) -> Option<(String, Option<String>)> {
        let images = self.images();
        let name = |(origin, form): &(&Origin, Form)| Some(images.get(self.image_index(origin, form)?)?.name.clone());
        match self.images_of(vm).as_slice() {
            [kernel] => Some((name(kernel)?, None)),
            [kernel, initrd] => Some((name(kernel)?, Some(name(initrd)?))),
            _ => None,
        }
    }

    /// The guest-physical address where a VM's memory begins: not 0 if devices use it without an IOMMU.
    pub fn ram_at(&self, vm: usize) -> u64 {
        placement::placed_at(self, Role::Vmm(vm)).unwrap_or(0)
    }

    /// Where the description first names an image.
    pub fn names_image(&self, image: &Image) -> Option<Range<usize>> {
        let folder = self.folder();
        let kernels = self.vms.iter().map(|vm| &vm.kernel);
        let initrds = self.vms.iter().flat_map(|vm| &vm.initrd);
        let files = self.components.iter().flat_map(|component| &component.files);
        let disks = self.disk_files().map(|(_, file)| file);
        let mut all = kernels.chain(initrds).chain(files).chain(disks);
        all.find(|origin| origin.get_ref().within(folder) == image.origin).map(Spanned::span)
    }

    /// Kernel and initrd of a VM, if it has one, as keys for [`System::image_index`].
    pub(crate) fn images_of(&self, vm: usize) -> Vec<(&Origin, Form)> {
        let ram_at = placement::placed_at(self, Role::Vmm(vm));
        let Some(vm) = self.vms.get(vm) else { return Vec::new() };
        let kernel = (vm.kernel.get_ref(), vm.kernel_form(ram_at));
        let initrd = vm.initrd.iter().map(|initrd| (initrd.get_ref(), self.initrd_form(vm)));
        core::iter::once(kernel).chain(initrd).collect()
    }

    /// The disks that are files.
    pub(crate) fn disk_files(&self) -> impl Iterator<Item = (&DiskPart, &Spanned<Origin>)> {
        let of_vms = self.vms.iter().flat_map(|vm| &vm.disks);
        let of_components = self.components.iter().flat_map(|component| &component.disks);
        of_vms.chain(of_components).map(Spanned::get_ref).filter_map(|disk| Some((disk, disk.file.as_ref()?)))
    }

    /// Position of an image in [`System::images`].
    pub(crate) fn image_index(&self, origin: &Origin, form: &Form) -> Option<usize> {
        self.image_keys().iter().position(|(known, how)| *known == origin && how == form)
    }

    fn image_keys(&self) -> Vec<(&Origin, Form)> {
        let of_vms = (0..self.vms.len()).flat_map(|vm| self.images_of(vm));
        let of_components = self.components.iter().flat_map(|c| &c.files);
        let of_disks = self.disk_files().map(|(_, file)| file);
        let as_is = of_components.chain(of_disks).map(|file| (file.get_ref(), Form::AsIs));
        let mut keys = Vec::new();
        for key in of_vms.chain(as_is) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}
