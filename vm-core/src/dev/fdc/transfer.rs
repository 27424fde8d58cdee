//! Commands that move sectors: READ, WRITE and VERIFY in all their kinds, over DMA or through the FIFO.

use super::bits::{
    CONFIGURE_IMPLIED_SEEK, MULTI_TRACK, ST0_ABNORMAL, ST1_DATA, ST1_END, ST1_NO_DATA, ST1_NO_MARK, ST1_NOT_WRITABLE,
    ST1_OVERRUN, ST2_CONTROL_MARK, ST2_DATA, ST2_WRONG_CYLINDER,
};
use super::commands::FAIL_TIME;
use super::state::{Kind, MOST_COMMAND, Phase, Transfer};
use super::{CHANNEL, Fdc, SECTOR, SIZE_CODE};
use crate::dev::medium::{Answer, MediumSlot};
use crate::disk::Operation;

impl Fdc {
    pub(super) fn read_track(&mut self, c: &[u8; MOST_COMMAND]) {
        // From the index hole on, whatever the sector number says.
        let mut c = *c;
        c[0] &= !MULTI_TRACK;
        c[4] = 1;
        self.begin(Kind::Read, &c);
    }

    pub(super) fn begin(&mut self, kind: Kind, c: &[u8; MOST_COMMAND]) {
        let select = c[1] & 7;
        self.state.transfer = Transfer {
            kind,
            unit: select & 3,
            multi_track: c[0] & MULTI_TRACK != 0,
            cylinder: c[2],
            head: c[3],
            record: c[4],
            end_of_track: c[6],
            side: select >> 2,
            run: 0,
            last: false,
            count: (kind == Kind::Verify && c[1] & 0x80 != 0).then_some(c[8]),
        };
        if self.state.configure & CONFIGURE_IMPLIED_SEEK != 0 {
            let present = self.geometry(select & 3).is_some();
            let unit = &mut self.state.units[usize::from(select & 3)];
            unit.cylinder = c[2];
            unit.changed &= !present;
        }
        let Some(_) = self.readable(c[0], select) else {
            return self.fail(ST1_NO_MARK | ST1_NO_DATA, 0);
        };
        if self.state.units[usize::from(select & 3)].cylinder != c[2] {
            return self.fail(ST1_NO_DATA, ST2_WRONG_CYLINDER);
        }
        if c[3] != select >> 2 || c[5] != SIZE_CODE {
            return self.fail(ST1_NO_DATA, 0);
        }
        if kind == Kind::Write && self.slot(select & 3).is_some_and(|slot| slot.is_read_only()) {
            return self.fail(ST1_NOT_WRITABLE, 0);
        }
        self.next_run();
    }

    /// The command fails before anything moves.
    pub(super) fn fail(&mut self, status_1: u8, status_2: u8) {
        let bytes = self.standard_result(ST0_ABNORMAL, status_1, status_2);
        self.result_after(&bytes, FAIL_TIME);
    }

    pub(super) fn standard_result(&self, status_0: u8, status_1: u8, status_2: u8) -> [u8; 7] {
        let transfer = &self.state.transfer;
        let select = transfer.unit | (transfer.side & 1) << 2;
        let Transfer { cylinder, head, record, .. } = *transfer;
        [status_0 | select, status_1, status_2, cylinder, head, record, SIZE_CODE]
    }

    /// The command ends with an interrupt now.
    pub(super) fn finish(&mut self, status_0: u8, status_1: u8, status_2: u8) {
        let bytes = self.standard_result(status_0, status_1, status_2);
        self.set_buffer(Vec::new());
        self.result(&bytes);
        self.state.interrupt = true;
    }

    pub(super) fn uses_dma(&self) -> bool {
        self.state.specify[1] & 1 == 0
    }

    /// The first sector of the present run on the medium, and how many sectors it has there.
    pub(super) fn place(&self) -> Option<(u64, u64)> {
        let transfer = &self.state.transfer;
        let geometry = self.geometry(transfer.unit)?;
        let fits = transfer.cylinder < geometry.cylinders
            && transfer.head < geometry.heads
            && (1..=geometry.sectors).contains(&transfer.record);
        let track = u64::from(transfer.cylinder) * u64::from(geometry.heads) + u64::from(transfer.head);
        let sector = track * u64::from(geometry.sectors) + u64::from(transfer.record) - 1;
        let there = self.seen(usize::from(transfer.unit)).map_or(0, MediumSlot::sectors);
        fits.then(|| (sector, there.saturating_sub(sector).min(u64::from(transfer.run))))
    }

    /// Starts on the rest of the present side of the track.
    pub(super) fn next_run(&mut self) {
        let sectors = self.geometry(self.state.transfer.unit).map_or(0, |geometry| geometry.sectors);
        let transfer = &mut self.state.transfer;
        if transfer.record == 0 || transfer.record > sectors {
            return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
        }
        // Past the end the chip goes on with the very sector it was told.
        let end = transfer.end_of_track.clamp(transfer.record, sectors);
        transfer.run = end - transfer.record + 1;
        if transfer.kind == Kind::ReadDeleted {
            transfer.run = 1;
        }
        if let Some(count @ 1..) = transfer.count {
            transfer.run = transfer.run.min(count);
        }
        let kind = transfer.kind;
        match kind {
            Kind::Read | Kind::ReadDeleted | Kind::Verify => self.read_run(),
            Kind::Write if self.uses_dma() => self.gather_run(),
            Kind::Write => {
                let bytes = usize::from(self.state.transfer.run) * SECTOR;
                self.set_buffer(vec![0; bytes]);
                self.state.phase = Phase::DataOut;
                self.state.interrupt = true;
            }
            Kind::Format => self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0),
        }
    }

    pub(super) fn read_run(&mut self) {
        let Some((sector, there)) = self.place() else { return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0) };
        self.state.phase = Phase::Reading;
        let unit = self.state.transfer.unit;
        if there == 0 {
            // The image ends before the disk does: the rest of the disk is zeros.
            return self.take_run(Vec::new());
        }
        if let Some(slot) = self.slot(unit) {
            slot.read(sector, there as u32);
        }
    }

    /// The medium has read the present run.
    pub(super) fn take_run(&mut self, mut bytes: Vec<u8>) {
        bytes.resize(usize::from(self.state.transfer.run) * SECTOR, 0);
        match self.state.transfer.kind {
            Kind::Verify => self.verified(),
            _ if self.uses_dma() => self.deliver_run(&bytes),
            _ => {
                self.set_buffer(bytes);
                self.state.phase = Phase::DataIn;
                self.state.interrupt = true;
            }
        }
    }

    pub(super) fn deliver_run(&mut self, bytes: &[u8]) {
        for sector in bytes.chunks(SECTOR) {
            let moved = self.dma.write_memory(CHANNEL, sector);
            if !moved.terminal_count && moved.moved < sector.len() {
                return self.finish(ST0_ABNORMAL, ST1_OVERRUN, 0);
            }
            if moved.terminal_count {
                self.count_sectors(1);
                let mark = if self.state.transfer.kind == Kind::ReadDeleted { ST2_CONTROL_MARK } else { 0 };
                return self.finish(0, 0, mark);
            }
            self.step_sector();
        }
        self.run_done();
    }

    pub(super) fn verified(&mut self) {
        let run = self.state.transfer.run;
        if let Some(count) = self.state.transfer.count {
            let left = count.wrapping_sub(run);
            if left == 0 {
                self.count_sectors(run);
                return self.finish(0, 0, 0);
            }
            self.state.transfer.count = Some(left);
        }
        for _ in 0..run {
            self.step_sector();
        }
        self.run_done();
    }

    /// Fetches the sectors of the present run from memory, up to the end of the guest's count.
    pub(super) fn gather_run(&mut self) {
        let mut bytes = Vec::with_capacity(usize::from(self.state.transfer.run) * SECTOR);
        let mut sectors = 0;
        while sectors < self.state.transfer.run && !self.state.transfer.last {
            let mut sector = [0; SECTOR];
            let moved = self.dma.read_memory(CHANNEL, &mut sector);
            if !moved.terminal_count && moved.moved < SECTOR {
                // No driver takes the channel away in the middle: nothing of the run is written.
                return self.finish(ST0_ABNORMAL, ST1_OVERRUN, 0);
            }
            // Where the count ends within a sector, the chip fills it up with zeros (5.1.3).
            sector[moved.moved.min(SECTOR)..].fill(0);
            bytes.extend_from_slice(&sector);
            sectors += 1;
            self.state.transfer.last = moved.terminal_count;
        }
        self.state.transfer.run = sectors;
        self.write_run(bytes);
    }

    pub(super) fn write_run(&mut self, bytes: Vec<u8>) {
        let unit = self.state.transfer.unit;
        match self.place() {
            Some((sector, there)) if there == u64::from(self.state.transfer.run) => {
                self.set_buffer(bytes.clone());
                self.state.phase = Phase::Writing;
                if let Some(slot) = self.slot(unit) {
                    slot.write(sector, bytes);
                }
            }
            // The image ends before the disk does: what cannot be kept is not taken.
            _ => self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0),
        }
    }

    pub(super) fn written(&mut self) {
        let Transfer { kind, run, last, .. } = self.state.transfer;
        self.set_buffer(Vec::new());
        if kind == Kind::Format {
            self.finish(0, 0, 0);
        } else if last {
            self.count_sectors(run);
            self.finish(0, 0, 0);
        } else {
            for _ in 0..run {
                self.step_sector();
            }
            self.run_done();
        }
    }

    pub(super) fn step_sector(&mut self) {
        let transfer = &mut self.state.transfer;
        transfer.record = transfer.record.saturating_add(1);
    }

    /// The address after `sectors` more, as the result shows it after the guest's count has ended (5.1.1, table 5-3).
    pub(super) fn count_sectors(&mut self, sectors: u8) {
        let transfer = &mut self.state.transfer;
        let last = transfer.record.saturating_add(sectors - 1);
        if last < transfer.end_of_track {
            transfer.record = last.saturating_add(1);
            return;
        }
        transfer.record = 1;
        if transfer.multi_track && transfer.head == 0 {
            transfer.head = 1;
        } else {
            transfer.cylinder = transfer.cylinder.wrapping_add(1);
            if transfer.multi_track {
                transfer.head = 0;
            }
        }
    }

    /// A side is through and the guest's count has not ended.
    pub(super) fn run_done(&mut self) {
        let two_sided = self.geometry(self.state.transfer.unit).is_some_and(|geometry| geometry.heads == 2);
        let transfer = &mut self.state.transfer;
        if transfer.kind == Kind::ReadDeleted {
            return self.finish(ST0_ABNORMAL, 0, ST2_CONTROL_MARK);
        }
        if transfer.record <= transfer.end_of_track {
            // The guest believes in longer tracks than there are.
            return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
        }
        if transfer.multi_track && transfer.head == 0 && two_sided {
            (transfer.head, transfer.side) = (1, 1);
            transfer.record = 1;
            return self.next_run();
        }
        let verify_to_the_end = transfer.kind == Kind::Verify && transfer.count.is_none();
        transfer.record = transfer.record.saturating_sub(1);
        self.count_sectors(1);
        if verify_to_the_end { self.finish(0, 0, 0) } else { self.finish(ST0_ABNORMAL, ST1_END, 0) }
    }

    pub(super) fn next_data_in(&mut self) -> u8 {
        let value = self.state.buffer.get(self.state.buffer_at as usize).copied().unwrap_or(0);
        self.state.buffer_at += 1;
        // An edge for each byte.
        self.state.interrupt = false;
        self.update_irq();
        if self.state.buffer_at < self.state.buffer_len {
            self.state.interrupt = true;
        } else {
            let run = self.state.transfer.run;
            for _ in 0..run {
                self.step_sector();
            }
            self.set_buffer(Vec::new());
            self.run_done();
        }
        value
    }

    pub(super) fn next_data_out(&mut self, value: u8) {
        // In a track to format the last byte is the filler.
        let end = self.state.buffer_len - u32::from(self.state.phase == Phase::IdsOut);
        if let Some(at) = self.state.buffer.get_mut(self.state.buffer_at as usize) {
            *at = value;
        }
        self.state.buffer_at += 1;
        self.state.interrupt = false;
        self.update_irq();
        if self.state.buffer_at < end {
            self.state.interrupt = true;
            return;
        }
        let bytes = std::mem::take(&mut self.state.buffer);
        self.set_buffer(Vec::new());
        match (self.state.phase, bytes.split_last()) {
            (Phase::IdsOut, Some((filler, ids))) => self.format_track(ids, *filler),
            _ => self.write_run(bytes),
        }
    }

    pub(super) fn poll(&mut self) {
        for unit in 0..2 {
            let Some(answer) = self.slot(unit).and_then(MediumSlot::poll) else { continue };
            if self.state.transfer.unit != unit {
                continue;
            }
            match (answer, self.state.phase) {
                (Answer::Done(Operation::Read { buffer, .. }), Phase::Reading) => self.take_run(buffer),
                (Answer::Done(_), Phase::Writing) => self.written(),
                (Answer::Unreadable, Phase::Reading) => self.finish(ST0_ABNORMAL, ST1_DATA, ST2_DATA),
                (Answer::NoSuchPlace, Phase::Reading | Phase::Writing) => self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0),
                _ => {}
            }
        }
    }
}
