//! How sectors move: chunk by chunk between the medium and the drive's buffer, word by word or by bus master between buffer and
//! guest (ATA/ATAPI-6, 6.2 and 9).

use super::{CHUNK, Disk, Outcome, Phase, READY, Transfer};
use crate::dev::ide::bus_master::Direction;
use crate::dev::ide::{DEVICE_LBA, error, status};
use crate::dev::medium::Answer;
use crate::disk::Operation;

impl Disk {
    /// Takes address and count from the registers; `None`: no such address.
    pub(super) fn begin(&mut self, extended: bool, block: u8) -> Option<()> {
        self.state.standby = false;
        let count = self.state.task.count;
        let left = match (extended, if extended { count } else { count & 0xff }) {
            (true, 0) => 65536,
            (false, 0) => 256,
            (_, sectors) => u32::from(sectors),
        };
        let sector = self.address(extended)?;
        self.state.transfer =
            Transfer { sector, chunk: 0, left, block: u32::from(block), extended, own: false, dma: false };
        Some(())
    }

    /// Makes a chunk of what is left, up to the end of the disk.
    fn next_chunk(&mut self) -> bool {
        let transfer = &mut self.state.transfer;
        let there = self.slot.sectors().saturating_sub(transfer.sector);
        transfer.chunk = there.min(u64::from(transfer.left.min(CHUNK))) as u32;
        transfer.chunk != 0
    }

    pub(super) fn next_read(&mut self, phase: Phase) -> Outcome {
        if !self.next_chunk() {
            return Outcome::Error(error::IDNF);
        }
        self.state.phase = phase;
        self.state.task.status = status::BSY;
        self.slot.read(self.state.transfer.sector, self.state.transfer.chunk);
        Outcome::Pending
    }

    pub(super) fn next_write(&mut self) -> Outcome {
        if !self.next_chunk() {
            return Outcome::Error(error::IDNF);
        }
        let transfer = &self.state.transfer;
        self.state.phase = if transfer.dma { Phase::DmaOut } else { Phase::DataOut };
        self.state.data.start(vec![0; transfer.chunk as usize * 512]);
        self.state.data.open(transfer.block * 512);
        self.state.task.status = READY | status::DRQ;
        Outcome::Pending
    }

    /// The next word for the guest.
    pub(in crate::dev::ide) fn read_data(&mut self) -> u16 {
        if self.state.phase != Phase::DataIn {
            return u16::MAX;
        }
        let value = self.state.data.read();
        if self.state.data.is_block_done() {
            if self.state.data.rest() != 0 {
                self.state.data.open(self.state.transfer.block * 512);
                self.state.task.interrupt = true;
            } else if self.chunk_done() {
                self.read_on();
            } else {
                // The last block of data in has had its interrupt before it (ATA/ATAPI-6, 9.5).
                self.end_transfer();
                self.state.task.status = READY;
            }
        }
        value
    }

    fn read_on(&mut self) {
        match self.next_read(Phase::Reading) {
            Outcome::Error(bits) => self.fail(bits),
            Outcome::Done | Outcome::Pending => {}
        }
    }

    /// Which way the drive wants the bus master to move its buffer now.
    pub(in crate::dev::ide) fn dma_direction(&self) -> Option<Direction> {
        match self.state.phase {
            Phase::DmaIn => Some(Direction::ToMemory),
            Phase::DmaOut => Some(Direction::FromMemory),
            _ => None,
        }
    }

    /// The bus master has moved the whole buffer.
    pub(in crate::dev::ide) fn dma_done(&mut self) {
        if self.state.phase == Phase::DmaOut {
            self.write_out();
        } else if self.chunk_done() {
            self.read_on();
        } else {
            self.finish();
        }
    }

    fn write_out(&mut self) {
        self.state.phase = Phase::Writing;
        self.state.task.status = status::BSY;
        self.slot.write(self.state.transfer.sector, self.state.data.bytes().to_vec());
    }

    /// The next word from the guest.
    pub(in crate::dev::ide) fn write_data(&mut self, value: u16) {
        if self.state.phase != Phase::DataOut {
            return;
        }
        self.state.data.write(value);
        if !self.state.data.is_block_done() {
            return;
        }
        if self.state.data.rest() != 0 {
            self.state.data.open(self.state.transfer.block * 512);
            self.state.task.interrupt = true;
        } else {
            self.write_out();
        }
    }

    /// Takes in what the medium has finished.
    pub(in crate::dev::ide) fn poll(&mut self) {
        let Some(answer) = self.slot.poll() else { return };
        let outcome = match (answer, self.state.phase) {
            (Answer::NoSuchPlace, _) => Outcome::Error(error::IDNF),
            (Answer::Unreadable, _) => Outcome::Error(error::UNC),
            (Answer::Done(Operation::Read { buffer, .. }), Phase::Reading) => self.show(buffer),
            (Answer::Done(_), Phase::Verifying) => {
                if self.chunk_done() {
                    self.next_read(Phase::Verifying)
                } else {
                    Outcome::Done
                }
            }
            (Answer::Done(_), Phase::Writing) => self.written(),
            (Answer::Done(_), Phase::Flushing) => Outcome::Done,
            (Answer::Done(_), _) => return,
        };
        match outcome {
            Outcome::Done => self.finish(),
            Outcome::Error(bits) => self.fail(bits),
            Outcome::Pending => {}
        }
    }

    /// Lets the guest take `bytes`.
    pub(super) fn show(&mut self, bytes: Vec<u8>) -> Outcome {
        self.state.data.start(bytes);
        self.state.task.status = READY | status::DRQ;
        if self.state.transfer.dma {
            self.state.phase = Phase::DmaIn;
        } else {
            self.state.data.open(self.state.transfer.block * 512);
            self.state.phase = Phase::DataIn;
            self.state.task.interrupt = true;
        }
        Outcome::Pending
    }

    fn written(&mut self) -> Outcome {
        if self.chunk_done() {
            let outcome = self.next_write();
            self.state.task.interrupt |= !self.state.transfer.dma;
            return outcome;
        }
        if self.state.write_cache { Outcome::Done } else { self.flush_cache() }
    }

    /// Counts a finished chunk; whether more is to come. The registers name the last sector done.
    fn chunk_done(&mut self) -> bool {
        let transfer = &mut self.state.transfer;
        if transfer.chunk == 0 || transfer.left == 0 {
            return false;
        }
        let last = transfer.sector + u64::from(transfer.chunk) - 1;
        transfer.sector += u64::from(transfer.chunk);
        transfer.left = transfer.left.saturating_sub(transfer.chunk);
        transfer.chunk = 0;
        let (left, extended) = (transfer.left, transfer.extended);
        if !transfer.own {
            self.store_address(last, extended);
            self.state.task.count = left as u16;
        }
        left != 0
    }

    pub(super) fn finish(&mut self) {
        self.end_transfer();
        self.state.task.status = READY;
        self.state.task.interrupt = true;
    }

    pub(super) fn fail(&mut self, bits: u8) {
        let transfer = &self.state.transfer;
        if bits & (error::IDNF | error::UNC) != 0 && transfer.left != 0 {
            let (sector, extended) = (transfer.sector, transfer.extended);
            self.state.task.count = transfer.left as u16;
            self.store_address(sector, extended);
        }
        self.end_transfer();
        self.state.task.error = bits;
        self.state.task.status = READY | status::ERR;
        self.state.task.interrupt = true;
    }

    pub(super) fn end_transfer(&mut self) {
        self.state.phase = Phase::Idle;
        self.state.transfer = Transfer::default();
        self.state.data.clear();
    }

    /// The sector that the registers name; `None`: none.
    pub(super) fn address(&self, extended: bool) -> Option<u64> {
        let task = &self.state.task;
        let bytes = |register: u16| (u64::from(register & 0xff), u64::from(register >> 8));
        let (low, mid, high) = (bytes(task.low), bytes(task.mid), bytes(task.high));
        if extended {
            return Some(low.0 | mid.0 << 8 | high.0 << 16 | low.1 << 24 | mid.1 << 32 | high.1 << 40);
        }
        let head = u64::from(task.device & 0x0f);
        if task.device & DEVICE_LBA != 0 {
            return Some(low.0 | mid.0 << 8 | high.0 << 16 | head << 24);
        }
        let (heads, sectors) = (u64::from(self.state.heads), u64::from(self.state.sectors_per_track));
        let cylinder = mid.0 | high.0 << 8;
        let fits = head < heads && (1..=sectors).contains(&low.0);
        fits.then(|| (cylinder * heads + head) * sectors + low.0 - 1)
    }

    /// Lets the registers name `sector`, in the way that the guest names sectors.
    pub(super) fn store_address(&mut self, sector: u64, extended: bool) {
        let (heads, sectors) = (u64::from(self.state.heads), u64::from(self.state.sectors_per_track));
        let task = &mut self.state.task;
        let byte = |shift: u32| (sector >> shift & 0xff) as u16;
        if extended {
            task.low = byte(0) | byte(24) << 8;
            task.mid = byte(8) | byte(32) << 8;
            task.high = byte(16) | byte(40) << 8;
        } else if task.device & DEVICE_LBA != 0 {
            (task.low, task.mid, task.high) = (byte(0), byte(8), byte(16));
            task.device = task.device & 0xf0 | byte(24) as u8 & 0x0f;
        } else {
            let track = sector / sectors;
            let cylinder = track / heads;
            task.low = (sector % sectors) as u16 + 1;
            task.mid = (cylinder & 0xff) as u16;
            task.high = (cylinder >> 8 & 0xff) as u16;
            task.device = task.device & 0xf0 | (track % heads) as u8;
        }
    }
}
