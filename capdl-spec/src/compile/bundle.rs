//! The bundle that root-task carries: header, specification, then blobs (program segments, configurations, images), each
//! on a page boundary. `spec::HEADER_LEN` describes the header.

use crate::spec::{Fill, HEADER_LEN, Kind, MAGIC, Spec};

/// Page size of the bundle's blobs, in bytes.
pub const PAGE: u64 = 4096;

/// A compiled system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What root-task interprets; offsets count from the start of `bytes`.
    pub spec: Spec,
    /// What root-task carries.
    pub bytes: Vec<u8>,
}

/// Collects blobs; offsets count from the first.
#[derive(Default)]
pub(crate) struct Blobs(Vec<u8>);

impl Blobs {
    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Adds a blob on a page boundary and gives its offset.
    pub fn add(&mut self, bytes: &[u8]) -> u64 {
        let at = self.0.len();
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(PAGE as usize), 0);
        at as u64
    }

    /// Puts the specification before the blobs. The offsets in it grow with its own length, since the blobs come after
    /// it, and postcard encodes larger numbers in more bytes. So this tries ever larger lengths, in whole pages, until
    /// the specification fits.
    pub fn bundle(self, spec: Spec) -> Result<Bundle, postcard::Error> {
        let mut base = PAGE;
        loop {
            let shifted = shift(spec.clone(), base);
            let encoded = postcard::to_allocvec(&shifted)?;
            let need = ((HEADER_LEN + encoded.len()) as u64).next_multiple_of(PAGE);
            if need <= base {
                return Ok(Bundle { bytes: self.join(&encoded, base), spec: shifted });
            }
            base = need;
        }
    }

    fn join(self, spec: &[u8], base: u64) -> Vec<u8> {
        let total = base + self.0.len() as u64;
        let mut bytes = Vec::with_capacity(total as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(spec.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&total.to_le_bytes());
        bytes.extend_from_slice(spec);
        bytes.resize(base as usize, 0);
        bytes.extend_from_slice(&self.0);
        bytes
    }
}

fn shift(mut spec: Spec, by: u64) -> Spec {
    for object in &mut spec.objects {
        if let Kind::Frames { fill: Fill::Copy { offset, .. } | Fill::Bundle { offset }, .. } = &mut object.kind {
            *offset += by;
        }
    }
    spec
}
