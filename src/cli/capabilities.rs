//! What is not there yet, in words.

/// The text of `hako --capabilities`.
pub const TEXT: &str = "\
The machine: an i440FX/PIIX PC with one processor like a Pentium M (x87, MMX, SSE, SSE2, PAE, execute-disable, RDRAND), run by a
translator to native code (Linux hosts with x86-64 processors) or by an interpreter (other hosts, and -accel interp).

Not there yet
  engines       the optimizing JIT (-accel jit=cranelift) and KVM (-accel kvm)
  modes         64-bit long mode
  instructions  SSE3 to SSE4.2, MOVBE, POPCNT and RDSEED but with -cpu max; AVX, AES and later sets; MONITOR and MWAIT; VMX and SVM
  registers     performance and last-branch MSRs
  processors    more than one (-smp 2 and up)
  chipset       suspend to RAM (ACPI S3); messages of the HPET to the front-side bus; devices on the SMBus
  drives        CD and DVD writers, audio tracks and tracks with subchannels; SMART, security and host-protected areas of hard disks;
                deleted data marks and other formats than the image's on floppies (IDE DMA works); QMP's blockdev-add and
                blockdev-insert-medium (blockdev-change-medium works)
  devices       network cards, sound cards, USB, parallel ports, SCSI and virtio disks, absolute pointers other than VMware's
  disks         VMDK, VDI, VHD and other images; qcow2 images with encryption, zstd, subclusters, data in another file or internal
                snapshots (other qcow2 images, raw images and ISO files work)
  snapshots     of raw disks that are written in place (adopt them, or Save & Close); disks compressed
  firmware      UEFI (SeaBIOS works)
";
