//! What is not there yet, in words.

/// The text of `hako --capabilities`.
pub const TEXT: &str = "\
The machine: an i440FX/PIIX PC with one Pentium II-class processor, run by an interpreter.

Not there yet
  engines       JIT (-accel jit, tcg) and KVM (-accel kvm)
  modes         64-bit long mode; system management mode (SMM)
  instructions  MMX, SSE and later vector sets; FXSAVE/FXRSTOR; MONITOR/MWAIT; VMX, SVM;
                32-bit task switches through task gates are as complete as “Task switches” below says
  x87           all of the basic set is there; transcendental functions are exact to about 64 bits, not bit for bit
  registers     debug registers hold values but set no breakpoints; machine-check and performance-monitoring MSRs;
                MTRRs hold values without effect
  paging        PAE, NX and 36-bit page-size extension
  tasks         Task switches: JMP, CALL and IRET to a TSS, task gates
  processors    more than one (-smp 2 and up)
  chipset       local APIC and I/O APIC; HPET; IDE bus-master DMA; ACPI events other than power-off and the power button
  devices       network cards, sound cards, USB, parallel port, SCSI and virtio disks, VMware mouse and absolute pointers
  disks         qcow2 and VMDK images (raw images and ISO files work)
  firmware      UEFI (SeaBIOS works)
";
