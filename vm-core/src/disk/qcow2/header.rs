//! The header of a qcow2 image, and what of it we can serve.
//!
//! Layout: "Qcow2 Image File Format" (docs/interop/qcow2.txt of QEMU). All numbers are big-endian.

use std::fs::File;
use std::io;

use crate::disk::host_file::read_at;

/// How every qcow2 image begins.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Bytes of a version 2 header.
const V2_BYTES: usize = 72;
/// Bytes of a version 3 header without additional fields.
const V3_BYTES: usize = 104;
/// Most bytes of an L1 table: 4 Mi entries. QEMU has the same limit.
const MAX_L1_BYTES: u64 = 32 << 20;
/// Most bytes of a refcount table. QEMU has the same limit.
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// Most bytes of the name of a backing file.
const MAX_NAME: usize = 1023;

/// Why an image cannot be served, to be set behind its name, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// "is encrypted" …
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// Refuses with advice.
pub fn refusal<T>(reason: impl Into<String>, advice: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason: reason.into(), advice: advice.into() })
}

/// Refuses what no program would have written.
pub fn damaged<T>(what: impl AsRef<str>) -> Result<T, Refusal> {
    refusal(
        format!("is a damaged qcow2 image ({})", what.as_ref()),
        "make a copy of it, then try “qemu-img check -r all” on the copy",
    )
}

const CONVERT: &str = "make a copy that Hako can use, with “qemu-img convert -O qcow2 OLD NEW”";

/// What a header says, as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// log2 of the cluster size: 9 to 21.
    pub cluster_bits: u32,
    /// Bytes of the medium.
    pub size: u64,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Where it starts.
    pub l1_offset: u64,
    /// Where the refcount table starts.
    pub refcount_table: u64,
    /// Its clusters.
    pub refcount_table_clusters: u32,
    /// log2 of the bits of a refcount.
    pub refcount_order: u32,
    /// The image below this one, as the file names it.
    pub backing: Option<String>,
    /// Its format, as the file names it.
    pub backing_format: Option<String>,
}

impl Header {
    /// Reads and checks the header of an image of `file_bytes` bytes.
    ///
    /// # Errors
    /// [`io::Error`] for the host, a [`Refusal`] for the image.
    pub fn read(file: &File, file_bytes: u64) -> io::Result<Result<Self, Refusal>> {
        // The header and all that it names lie in the first cluster.
        let mut bytes = vec![0; file_bytes.min(1 << 16) as usize];
        read_at(file, 0, &mut bytes)?;
        if let Some(bits) = long(&bytes, 20).filter(|bits| (17..=21).contains(bits)) {
            let rest = (1_u64 << bits).min(file_bytes) as usize;
            if rest > bytes.len() {
                bytes.resize(rest, 0);
                read_at(file, 0, &mut bytes)?;
            }
        }
        Ok(Self::parse(&bytes, file_bytes))
    }

    fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, Refusal> {
        if !bytes.starts_with(&MAGIC) {
            return refusal("is not a qcow2 image", "attach it as what it is (format=raw)");
        }
        if bytes.len() < V2_BYTES {
            return damaged("its header is cut off");
        }
        let word = |at| long(bytes, at).unwrap_or_default();
        let quad = |at| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let version = word(4);
        if !(2..=3).contains(&version) {
            return refusal(format!("is a qcow image of version {version}, and Hako knows 2 and 3"), CONVERT);
        }
        if version == 3 && bytes.len() < V3_BYTES {
            return damaged("its header is cut off");
        }
        let v3 = |value: u64| if version == 3 { value } else { 0 };
        check_features(v3(quad(72)), word(32), word(60))?;
        let cluster_bits = word(20);
        if !(9..=21).contains(&cluster_bits) {
            return damaged(format!("clusters of 2^{cluster_bits} bytes"));
        }
        let header_bytes = if version == 3 { word(100) as usize } else { V2_BYTES };
        let cluster = 1_usize << cluster_bits;
        if version == 3 && !(V3_BYTES..=cluster).contains(&header_bytes) {
            return damaged(format!("a header of {header_bytes} bytes"));
        }
        let first = &bytes[..bytes.len().min(cluster)];
        let (backing_format, data_file) = if version == 3 { extensions(first, header_bytes)? } else { (None, false) };
        if data_file {
            return refusal("keeps its data in another file", CONVERT);
        }
        let header = Self {
            version,
            cluster_bits,
            size: quad(24),
            l1_entries: word(36),
            l1_offset: quad(40),
            refcount_table: quad(48),
            refcount_table_clusters: word(56),
            refcount_order: if version == 3 { word(96) } else { 4 },
            backing: backing_name(first, quad(8), word(16))?,
            backing_format,
        };
        header.check_places(file_bytes)?;
        Ok(header)
    }

    /// Bytes of a cluster.
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes that one L2 table describes.
    pub fn l2_reach(&self) -> u64 {
        self.cluster() << (self.cluster_bits - 3)
    }

    /// Where the L1 table lies in the file.
    pub fn l1(&self) -> std::ops::Range<u64> {
        self.l1_offset..self.l1_offset + u64::from(self.l1_entries) * 8
    }

    /// Where the refcount table lies in the file.
    pub fn refcounts(&self) -> std::ops::Range<u64> {
        self.refcount_table..self.refcount_table + (u64::from(self.refcount_table_clusters) << self.cluster_bits)
    }

    fn check_places(&self, file_bytes: u64) -> Result<(), Refusal> {
        let cluster = self.cluster();
        if self.refcount_order > 6 {
            return damaged(format!("refcounts of 2^{} bits", self.refcount_order));
        }
        if self.size.div_ceil(self.l2_reach()) > u64::from(self.l1_entries) {
            return damaged("its first table is too short for its size");
        }
        let tables = [
            ("first table", self.l1_offset, u64::from(self.l1_entries) * 8, MAX_L1_BYTES),
            (
                "refcount table",
                self.refcount_table,
                u64::from(self.refcount_table_clusters) << self.cluster_bits,
                MAX_REFCOUNT_TABLE_BYTES,
            ),
        ];
        for (name, at, bytes, limit) in tables {
            if at % cluster != 0 || bytes > limit {
                return damaged(format!("its {name} has {bytes} bytes at {at}"));
            }
            if bytes > 0 && at < cluster || at.checked_add(bytes).is_none_or(|end| end > file_bytes) {
                return damaged(format!("its {name} is not inside the file"));
            }
        }
        if self.refcount_table_clusters == 0 {
            return damaged("it has no refcount table");
        }
        Ok(())
    }
}

/// Refuses what imago cannot serve, each with its reason.
fn check_features(incompatible: u64, encryption: u32, snapshots: u32) -> Result<(), Refusal> {
    let repair = "make a copy of it, then repair the image with “qemu-img check -r all”";
    let bits = [
        (1 << 1, "is marked as damaged by the program that wrote it", repair),
        (1 << 0, "was not closed properly by the program that wrote it", repair),
        (1 << 2, "keeps its data in another file", CONVERT),
        (1 << 3, "is compressed in a way that Hako does not know (zstd)", CONVERT),
        (1 << 4, "has extended L2 entries (subclusters)", CONVERT),
    ];
    if let Some((_, reason, advice)) = bits.into_iter().find(|(bit, ..)| incompatible & bit != 0) {
        return refusal(reason, advice);
    }
    if incompatible != 0 {
        return refusal(format!("needs features that Hako does not know ({incompatible:#x})"), CONVERT);
    }
    if encryption != 0 {
        return refusal("is encrypted", "make a copy without encryption, with “qemu-img convert” and its key");
    }
    if snapshots != 0 {
        return refusal(format!("holds internal snapshots of QEMU ({snapshots})"), CONVERT);
    }
    Ok(())
}

/// The backing file's format, and whether a data file is named.
fn extensions(first: &[u8], mut at: usize) -> Result<(Option<String>, bool), Refusal> {
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    const DATA_FILE: u32 = 0x4441_5441;
    let (mut format, mut data_file) = (None, false);
    while let (Some(kind), Some(bytes)) = (long(first, at), long(first, at + 4)) {
        if kind == 0 {
            return Ok((format, data_file));
        }
        let Some(data) = first.get(at + 8..).and_then(|rest| rest.get(..bytes as usize)) else { break };
        match kind {
            BACKING_FORMAT => match std::str::from_utf8(data) {
                Ok(name) => format = Some(name.to_owned()),
                Err(_) => return damaged("the format of its backing file is not text"),
            },
            DATA_FILE => data_file = true,
            // Feature names are pairs of numbers with a name of 46 bytes.
            0x6803_f857 if data.len() % 48 != 0 => return damaged("its feature names are cut off"),
            _ => {}
        }
        at += 8 + data.len().next_multiple_of(8);
    }
    damaged("its header extensions are cut off")
}

fn backing_name(first: &[u8], at: u64, bytes: u32) -> Result<Option<String>, Refusal> {
    if at == 0 {
        return Ok(None);
    }
    let bytes = bytes as usize;
    let name = usize::try_from(at).ok().and_then(|at| first.get(at..)).and_then(|rest| rest.get(..bytes));
    match name {
        Some(name) if (1..=MAX_NAME).contains(&bytes) => match std::str::from_utf8(name) {
            Ok(name) if !name.contains('\0') => Ok(Some(name.to_owned())),
            _ => damaged("the name of its backing file is not text"),
        },
        _ => damaged("the name of its backing file is not inside its header"),
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
