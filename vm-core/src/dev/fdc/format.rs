//! FORMAT TRACK (5.1.7): an image has one format, so that only that one is taken.

use super::bits::{ST0_ABNORMAL, ST1_NO_DATA, ST1_NO_MARK, ST1_NOT_WRITABLE, ST1_OVERRUN};
use super::state::{Kind, MOST_COMMAND, Phase, Transfer};
use super::{CHANNEL, Fdc, SECTOR, SIZE_CODE};

impl Fdc {
    pub(super) fn format(&mut self, c: &[u8; MOST_COMMAND]) {
        let select = c[1] & 7;
        let unit = select & 3;
        let cylinder = self.state.units[usize::from(unit)].cylinder;
        self.state.transfer = Transfer {
            kind: Kind::Format,
            unit,
            cylinder,
            head: select >> 2,
            side: select >> 2,
            record: 1,
            end_of_track: c[3],
            run: c[3],
            ..Transfer::default()
        };
        let Some(geometry) = self.readable(c[0], select) else {
            return self.fail(ST1_NO_MARK, 0);
        };
        if self.slot(unit).is_some_and(|slot| slot.is_read_only()) {
            return self.fail(ST1_NOT_WRITABLE, 0);
        }
        if c[2] != SIZE_CODE || c[3] != geometry.sectors {
            // Another format than the image has.
            return self.fail(ST1_NO_DATA, 0);
        }
        // The filler byte waits in the buffer behind the IDs.
        let mut ids = vec![0; usize::from(c[3]) * 4];
        if self.uses_dma() {
            let moved = self.dma.read_memory(CHANNEL, &mut ids);
            if moved.moved < ids.len() {
                return self.finish(ST0_ABNORMAL, ST1_OVERRUN, 0);
            }
            self.format_track(&ids, c[5]);
        } else {
            ids.push(c[5]);
            self.set_buffer(ids);
            self.state.phase = Phase::IdsOut;
            self.state.interrupt = true;
        }
    }

    /// Writes the filler over the track, if its IDs are those that the image can have.
    pub(super) fn format_track(&mut self, ids: &[u8], filler: u8) {
        let Transfer { cylinder, head, run, .. } = self.state.transfer;
        let mut seen = 0_u64;
        for id in ids.chunks_exact(4) {
            if id[0] != cylinder || id[1] != head || id[3] != SIZE_CODE || id[2] == 0 || id[2] > run {
                return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
            }
            seen |= 1 << (id[2] & 63);
        }
        if seen.count_ones() != u32::from(run) {
            return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
        }
        self.write_run(vec![filler; usize::from(run) * SECTOR]);
    }
}
