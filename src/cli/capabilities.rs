//! What is not there yet, in words.

/// The text of `hako --capabilities`.
pub const TEXT: &str = "\
The machine: an i440FX/PIIX PC with one processor of up to the Pentium II's instructions, x87 and MMX included, run by an
interpreter or by a translator to native code (-accel jit; Linux hosts with x86-64 processors).

Not there yet
  engines       the optimizing JIT (-accel jit=cranelift) and KVM (-accel kvm)
  modes         64-bit long mode
  instructions  SSE and later vector sets; MONITOR and MWAIT; VMX and SVM
  registers     local APIC, performance and last-branch MSRs
  processors    more than one (-smp 2 and up)
  chipset       local APIC and I/O APIC; HPET
  drives        CD and DVD writers, audio tracks and tracks with subchannels; SMART, security and host-protected areas of hard disks;
                deleted data marks and other formats than the image's on floppies (IDE DMA works); QMP's blockdev-add and
                blockdev-insert-medium (blockdev-change-medium works)
  devices       network cards, sound cards, USB, parallel ports, SCSI and virtio disks, VMware's and other absolute pointers
  disks         VMDK, VDI, VHD and other images; qcow2 images with encryption, zstd, subclusters, data in another file or internal
                snapshots (other qcow2 images, raw images and ISO files work); snapshots of machines with a writable disk
                (Save & Close works)
  firmware      UEFI (SeaBIOS works)
";
