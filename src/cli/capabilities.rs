//! What is not there yet, in words.

/// The text of `hako --capabilities`.
pub const TEXT: &str = "\
The machine: an i440FX/PIIX PC with one Pentium II-class processor, run by an interpreter.

Not there yet
  engines       JIT (-accel jit, tcg) and KVM (-accel kvm)
  modes         64-bit long mode; system management mode (SMM)
  instructions  MMX, SSE and later vector sets; FXSAVE/FXRSTOR; MONITOR/MWAIT; RSM; VMX, SVM
  x87           FSIN, FCOS, FPTAN, FPATAN, F2XM1, FYL2X and FYL2XP1 are rounded right, which is not always the last bit
                that a given processor gives
  registers     DR0–DR3 hold values but set no breakpoints; MTRRs, PAT, machine-check and performance MSRs
  flags         alignment checks (AC); virtual interrupts (VME, PVI)
  paging        PAE, NX and 36-bit page-size extension
  processors    more than one (-smp 2 and up)
  chipset       local APIC and I/O APIC; HPET; IDE bus-master DMA; ACPI events other than power-off and the power button
  devices       network cards, sound cards, USB, parallel port, SCSI and virtio disks, VMware mouse and absolute pointers
  disks         qcow2 and VMDK images (raw images and ISO files work)
  firmware      UEFI (SeaBIOS works)
";
