//! The drive, packet by packet.

use std::sync::{Arc, Mutex};

use super::*;
use crate::bus::Width;
use crate::dev::Device;
use crate::dev::ide::tests::{Rig, image};
use crate::disk::memory::{Control, Memory};

fn rig(sectors: usize) -> (Rig, Arc<Mutex<Control>>) {
    let mut rig = Rig::empty();
    let (medium, control) = Memory::new(image(sectors), true);
    rig.ide.attach_cd(0, Some(medium));
    (rig, control)
}

/// Sends a packet; data or the sense key.
fn packet(rig: &mut Rig, limit: u16, packet: &[u8]) -> Result<Vec<u8>, u8> {
    packet_with(rig, limit, packet, &[])
}

/// The same, and sends `out` where the drive asks for it.
fn packet_with(rig: &mut Rig, limit: u16, packet: &[u8], out: &[u8]) -> Result<Vec<u8>, u8> {
    let mut out = out.chunks(2);
    let [low, high] = limit.to_le_bytes();
    rig.set([0, 0, 0, low, high, 0xa0]);
    rig.command(0xa0);
    assert_eq!(rig.wait(), (0x48, false), "no interrupt before the packet");
    assert_eq!(rig.registers()[1], 1);
    let mut bytes = [0; PACKET];
    bytes[..packet.len()].copy_from_slice(packet);
    for word in bytes.chunks(2) {
        rig.ide.write(0, Width::Word, u32::from(word[0]) | u32::from(word[1]) << 8);
    }
    let mut data = Vec::new();
    loop {
        let (state, irq) = rig.wait();
        assert!(irq);
        let [error, reason, _, low, high, _] = rig.registers();
        if state & status::DRQ == 0 {
            assert_eq!(reason & 3, 3);
            return if state & status::ERR == 0 { Ok(data) } else { Err(error >> 4) };
        }
        let count = usize::from(u16::from_le_bytes([low, high]));
        assert!(count <= usize::from(limit.max(2)));
        let reason = reason & 3;
        if reason == 0 {
            for word in out.by_ref().take(count.div_ceil(2)) {
                let high = word.get(1).copied().unwrap_or(0);
                rig.ide.write(0, Width::Word, u32::from(word[0]) | u32::from(high) << 8);
            }
            continue;
        }
        assert_eq!(reason, 2);
        let words = rig.words(count.div_ceil(2));
        data.extend_from_slice(&words[..count]);
    }
}

fn sense(rig: &mut Rig) -> (u8, u8) {
    let data = packet(rig, 18, &[3, 0, 0, 0, 18]).unwrap();
    (data[2], data[12])
}

#[test]
fn after_power_on_the_guest_hears_of_it_once_and_then_reads() {
    let (mut rig, control) = rig(400);
    assert_eq!(rig.registers(), [1, 1, 1, 0x14, 0xeb, 0xa0]);
    assert_eq!(packet(&mut rig, 8, &[0]), Err(6));
    assert_eq!(sense(&mut rig), (6, 0x29));
    assert_eq!(packet(&mut rig, 8, &[0]), Ok(Vec::new()));
    assert_eq!(packet(&mut rig, 8, &[0x25]), Ok(vec![0, 0, 0, 99, 0, 0, 8, 0]));
    // READ(10): 40 blocks from 16 on, in blocks of 1,000 bytes and two requests.
    let before = control.lock().unwrap().requests;
    let data = packet(&mut rig, 1001, &[0x28, 0, 0, 0, 0, 16, 0, 0, 40]).unwrap();
    assert_eq!(data, control.lock().unwrap().bytes[16 * 2048..56 * 2048]);
    assert_eq!(control.lock().unwrap().requests - before, 2);
    let data = packet(&mut rig, 0xfffe, &[0xa8, 0, 0, 0, 0, 99, 0, 0, 0, 1]).unwrap();
    assert_eq!(data.len(), 2048);
    assert_eq!(packet(&mut rig, 0xfffe, &[0x28, 0, 0, 0, 0, 99, 0, 0, 2]), Err(5));
    assert_eq!(sense(&mut rig), (5, 0x21));
    assert_eq!(packet(&mut rig, 0xfffe, &[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(5));
}

#[test]
fn a_short_last_block_is_filled_up() {
    let (mut rig, _) = rig(9);
    sense(&mut rig);
    assert_eq!(packet(&mut rig, 8, &[0x25]).unwrap()[3], 2);
    let data = packet(&mut rig, 2048, &[0x28, 0, 0, 0, 0, 2, 0, 0, 1]).unwrap();
    assert_eq!((&data[..512], &data[512..]), (&[9; 512][..], &[0; 1536][..]));
}

#[test]
fn answers_end_where_the_guest_wants_them_to() {
    let (mut rig, _) = rig(400);
    sense(&mut rig);
    assert_eq!(packet(&mut rig, 64, &[0x12, 0, 0, 0, 36]).unwrap().len(), 36);
    assert_eq!(packet(&mut rig, 64, &[0x12, 0, 0, 0, 5]), Ok(vec![5, 0x80, 0, 0x21, 31]));
    assert_eq!(packet(&mut rig, 64, &[0x12, 0, 0, 0, 0]), Ok(Vec::new()));
    // TOC: one data track from block 0, lead-out at block 100; as MSF 00:02:00 and 00:03:25.
    let toc = packet(&mut rig, 64, &[0x43, 0, 0, 0, 0, 0, 0, 0, 20]).unwrap();
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 100]);
    let toc = packet(&mut rig, 64, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 20]).unwrap();
    assert_eq!(toc, [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 3, 25]);
    let page = packet(&mut rig, 64, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64]).unwrap();
    assert_eq!((page.len(), page[1], page[8]), (28, 26, 0x2a));
    let features = packet(&mut rig, 64, &[0x46, 0, 0, 0, 0, 0, 0, 0, 64]).unwrap();
    assert_eq!((features.len(), features[3], features[7]), (52, 48, 8));
    assert_eq!(packet(&mut rig, 64, &[0x2a]), Err(5));
    assert_eq!(sense(&mut rig), (5, 0x20));
    assert_eq!(sense(&mut rig), (0, 0), "sense is told once");
}

/// GET EVENT STATUS NOTIFICATION: the media event, and what is there (bit 0: the tray is open; bit 1: a disc is in).
fn media_event(rig: &mut Rig) -> [u8; 2] {
    let data = packet(rig, 8, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]).unwrap();
    [data[4], data[5]]
}

const CLOSED: Tray = Tray { open: false, locked: false };

#[test]
fn a_changed_disc_is_heard_of() {
    let (mut rig, _) = rig(400);
    sense(&mut rig);
    rig.ide.open_tray(0, false).unwrap();
    rig.ide.remove_medium(0).unwrap();
    assert_eq!(media_event(&mut rig), [3, 1], "removal");
    assert_eq!(packet(&mut rig, 8, &[0]), Err(2));
    assert_eq!(sense(&mut rig), (2, 0x3a));
    rig.ide.change_medium(0, Memory::new(image(8), true).0, false).unwrap();
    assert_eq!(rig.ide.take_tray_moves(0), [true, false]);
    assert_eq!(media_event(&mut rig), [2, 2], "new medium");
    assert_eq!(media_event(&mut rig), [0, 2], "told once");
    assert_eq!(packet(&mut rig, 8, &[0]), Err(6));
    assert_eq!(sense(&mut rig), (6, 0x28));
    assert_eq!(packet(&mut rig, 8, &[0x25]).unwrap()[3], 1);
    // From one disc to the next at once.
    rig.ide.change_medium(0, Memory::new(image(12), true).0, false).unwrap();
    assert_eq!(packet(&mut rig, 8, &[0x25]), Err(6));
    assert_eq!(packet(&mut rig, 8, &[0x25]).unwrap()[3], 2);
    assert_eq!(rig.ide.take_tray_moves(0), [true, false], "it opens and closes for that");
}

#[test]
fn a_locked_drive_keeps_its_disc_and_asks_the_guest() {
    let (mut rig, _) = rig(400);
    sense(&mut rig);
    packet(&mut rig, 8, &[0x1e, 0, 0, 0, 1]).unwrap();
    assert_eq!(rig.ide.tray(0), Some(Tray { open: false, locked: true }));
    let refusal = rig.ide.open_tray(0, false).unwrap_err();
    assert!(refusal.contains("locked") && refusal.contains("forced"), "{refusal}");
    assert!(rig.ide.change_medium(0, Memory::new(image(8), true).0, false).is_err());
    assert_eq!(media_event(&mut rig), [1, 2], "eject request");
    assert_eq!(packet(&mut rig, 8, &[0x1b, 0, 0, 0, 2]), Err(5), "the guest itself has to unlock it");
    assert_eq!(sense(&mut rig), (5, 0x53));
    assert!(rig.ide.take_tray_moves(0).is_empty());
    // The guest lets go and ejects; the person takes the disc.
    packet(&mut rig, 8, &[0x1e, 0, 0, 0, 0]).unwrap();
    packet(&mut rig, 8, &[0x1b, 0, 0, 0, 2]).unwrap();
    assert_eq!((rig.ide.tray(0), rig.ide.take_tray_moves(0)), (Some(Tray { open: true, ..CLOSED }), vec![true]));
    rig.ide.remove_medium(0).unwrap();
    rig.ide.close_tray(0).unwrap();
    assert_eq!(packet(&mut rig, 8, &[0]), Err(2));
    let data = packet(&mut rig, 18, &[3, 0, 0, 0, 18]).unwrap();
    assert_eq!(data[12..14], [0x3a, 1], "no medium, and the tray is closed");
    // A lock does not hold an empty drive shut, and force opens any.
    packet(&mut rig, 8, &[0x1e, 0, 0, 0, 1]).unwrap();
    rig.ide.change_medium(0, Memory::new(image(8), true).0, false).unwrap();
    assert!(rig.ide.remove_medium(0).unwrap_err().contains("closed"));
    rig.ide.open_tray(0, true).unwrap();
    rig.ide.remove_medium(0).unwrap();
    assert_eq!(rig.ide.tray(0), Some(Tray { open: true, locked: true }));
}

#[test]
fn the_guest_opens_and_closes_the_tray_with_the_disc_in_it() {
    let (mut rig, _) = rig(400);
    sense(&mut rig);
    packet(&mut rig, 8, &[0x1b, 0, 0, 0, 2]).unwrap();
    assert_eq!(packet(&mut rig, 8, &[0x25]), Err(2));
    assert_eq!(sense(&mut rig), (2, 0x3a));
    assert_eq!(packet(&mut rig, 8, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8]).unwrap()[1], 0x10, "the door is open");
    rig.ide.reset();
    assert_eq!(rig.ide.tray(0), Some(Tray { open: true, ..CLOSED }), "a reset does not close it");
    sense(&mut rig);
    packet(&mut rig, 8, &[0x1b, 0, 0, 0, 3]).unwrap();
    assert_eq!(packet(&mut rig, 8, &[0]), Err(6));
    assert_eq!(packet(&mut rig, 8, &[0]), Ok(Vec::new()));
    // However often it does that between two looks, what is told ends as it is.
    for _ in 0..100 {
        packet(&mut rig, 8, &[0x1b, 0, 0, 0, 2]).unwrap();
        packet(&mut rig, 8, &[0x1b, 0, 0, 0, 3]).unwrap();
        assert_eq!(packet(&mut rig, 8, &[0]), Err(6));
    }
    let moves = rig.ide.take_tray_moves(0);
    assert!(moves.len() <= 8 && moves.last() == Some(&false), "{moves:?}");
}

#[test]
fn a_read_under_way_ends_when_the_tray_opens() {
    let (mut rig, control) = rig(400);
    sense(&mut rig);
    control.lock().unwrap().held = true;
    rig.set([0, 0, 0, 0, 0x80, 0xa0]);
    rig.command(0xa0);
    rig.wait();
    for word in [0x28_u32, 0, 0, 0, 40, 0] {
        rig.ide.write(0, Width::Word, word);
    }
    assert_eq!(rig.ide.alternate_status(), status::BSY);
    rig.ide.open_tray(0, false).unwrap();
    assert_eq!(rig.wait(), (0x51, true));
    assert_eq!(sense(&mut rig), (2, 0x3a));
    // What was read of the old disc is not taken for the new one's.
    control.lock().unwrap().held = false;
    rig.ide.change_medium(0, Memory::new(vec![0x77; 8 * 512], true).0, false).unwrap();
    sense(&mut rig);
    assert_eq!(packet(&mut rig, 2048, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), Ok(vec![0x77; 2048]));
    // The same between two requests of one packet.
    let (mut rig, _) = self::rig(400);
    sense(&mut rig);
    rig.set([0, 0, 0, 0, 0x80, 0xa0]);
    rig.command(0xa0);
    rig.wait();
    for word in [0x28_u32, 0, 0, 0, 40, 0] {
        rig.ide.write(0, Width::Word, word);
    }
    assert_eq!(rig.wait(), (0x58, true));
    rig.ide.open_tray(0, false).unwrap();
    assert_eq!(rig.wait(), (0x51, true));
}

#[test]
fn a_disc_tells_of_its_session_its_track_and_its_sectors() {
    let (mut rig, control) = rig(400);
    sense(&mut rig);
    let toc = |rig: &mut Rig, format: u8, track: u8| packet(rig, 64, &[0x43, 0, format, 0, 0, 0, track, 0, 64]);
    assert_eq!(toc(&mut rig, 1, 0), Ok(vec![0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]));
    let full = toc(&mut rig, 2, 1).unwrap();
    assert_eq!((full.len(), full[1]), (48, 46));
    // Points A0, A1, A2 and track 1, of which A2 is the lead-out at 00:03:25 and the track begins at 00:02:00.
    assert_eq!(full[4..].chunks(11).map(|row| row[3]).collect::<Vec<_>>(), [0xa0, 0xa1, 0xa2, 1]);
    assert_eq!((&full[4 + 22 + 8..4 + 33], &full[4 + 33 + 8..]), (&[0, 3, 25][..], &[0, 2, 0][..]));
    for (format, track) in [(3, 0), (4, 0), (5, 0), (0, 2), (2, 9)] {
        assert_eq!(toc(&mut rig, format, track), Err(5), "format {format}, track {track}");
    }
    // The format in the last byte, as SFF-8020i has it.
    assert_eq!(packet(&mut rig, 64, &[0x43, 0, 0, 0, 0, 0, 0, 0, 64, 0x40]).unwrap()[1], 10);
    assert_eq!(packet(&mut rig, 64, &[0x44, 2, 0, 0, 0, 16, 0, 0, 8]), Ok(vec![1, 0, 0, 0, 0, 0, 2, 16]));
    assert_eq!(packet(&mut rig, 64, &[0x44, 0, 0, 0, 0, 100, 0, 0, 8]), Err(5));
    let track = packet(&mut rig, 64, &[0x52, 1, 0, 0, 0, 1, 0, 0, 64]).unwrap();
    assert_eq!((track.len(), track[2], track[3], track[5], track[6], track[27]), (36, 1, 1, 4, 1, 100));
    assert_eq!(packet(&mut rig, 64, &[0x52, 1, 0, 0, 0, 2, 0, 0, 64]), Err(5));
    assert_eq!(packet(&mut rig, 64, &[0x51, 0, 0, 0, 0, 0, 0, 0, 64]).unwrap().len(), 34);
    assert_eq!(packet(&mut rig, 64, &[0x42, 2, 0x40, 1, 0, 0, 0, 0, 16]).unwrap()[1], 0x15, "nothing plays");
    // READ CD: whole sectors, 40 of them in two requests; MSF 00:02:16 to 00:02:18; user data only.
    let whole = packet(&mut rig, 0xfffe, &[0xbe, 0, 0, 0, 0, 16, 0, 0, 40, 0xf8]).unwrap();
    assert_eq!((whole.len(), &whole[12..16], whole[2352 * 39 + 14]), (40 * 2352, &[0, 2, 0x16, 1][..], 0x55));
    let bytes = control.lock().unwrap().bytes.clone();
    assert!(whole.chunks(2352).zip(bytes[16 * 2048..].chunks(2048)).all(|(all, user)| all[16..2064] == *user));
    let two = packet(&mut rig, 2048, &[0xb9, 0, 0, 0, 2, 16, 0, 2, 18, 0x10]).unwrap();
    assert_eq!(two, bytes[16 * 2048..18 * 2048]);
    assert_eq!(packet(&mut rig, 2048, &[0xb9, 0, 0, 0, 1, 74, 0, 2, 18, 0x10]), Err(5), "before block 0");
    assert_eq!(packet(&mut rig, 2048, &[0xb9, 0, 0, 0, 2, 75, 0, 2, 18, 0x10]), Err(5), "no such frame");
    assert_eq!(packet(&mut rig, 2048, &[0xbe, 4, 0, 0, 0, 16, 0, 0, 1, 0xf8]), Err(5), "audio");
    assert_eq!(sense(&mut rig), (5, 0x64));
    assert_eq!(packet(&mut rig, 2048, &[0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0x10, 1]), Err(5), "sub-channel");
    assert_eq!(packet(&mut rig, 2048, &[0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0]), Ok(Vec::new()), "nothing of it");
    // What comes after is plain again.
    assert_eq!(packet(&mut rig, 2048, &[0x28, 0, 0, 0, 0, 16, 0, 0, 1]).unwrap(), bytes[16 * 2048..17 * 2048]);
}

#[test]
fn mode_pages_are_shown_and_only_what_is_so_can_be_set() {
    let (mut rig, _) = rig(400);
    sense(&mut rig);
    for (page, len) in [(0x01, 8), (0x0d, 8), (0x0e, 16), (0x2a, 20)] {
        let long = packet(&mut rig, 256, &[0x5a, 0, page, 0, 0, 0, 0, 1, 0]).unwrap();
        assert_eq!((long.len(), long[1] as usize, long[8]), (8 + len, 6 + len, page));
        let short = packet(&mut rig, 256, &[0x1a, 0, page, 0, 255]).unwrap();
        assert_eq!((short.len(), short[0] as usize, &short[4..]), (4 + len, 3 + len, &long[8..]));
        let changeable = packet(&mut rig, 256, &[0x5a, 0, 0x40 | page, 0, 0, 0, 0, 1, 0]).unwrap();
        assert!(changeable[10..].iter().all(|byte| *byte == 0), "page {page:#x}");
        // Sent back as it is, in blocks of 6 bytes; then with another byte.
        let select = [0x55, 0x10, 0, 0, 0, 0, 0, 0, long.len() as u8];
        assert_eq!(packet_with(&mut rig, 6, &select, &long), Ok(Vec::new()), "page {page:#x}");
        let mut other = long.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(packet_with(&mut rig, 256, &select, &other), Err(5));
        assert_eq!(sense(&mut rig), (5, 0x26));
        assert_eq!(packet_with(&mut rig, 256, &[0x15, 0x10, 0, 0, short.len() as u8], &short), Ok(Vec::new()));
        assert_eq!(packet_with(&mut rig, 256, &[0x15, 0x10, 0, 0, short.len() as u8 - 1], &short), Err(5), "cut");
    }
    assert_eq!(packet(&mut rig, 256, &[0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0]).unwrap().len(), 8 + 8 + 8 + 16 + 20);
    assert_eq!(packet(&mut rig, 256, &[0x5a, 0, 0x05, 0, 0, 0, 0, 1, 0]), Err(5), "no such page");
    assert_eq!(packet(&mut rig, 256, &[0x5a, 0, 0xea, 0, 0, 0, 0, 1, 0]), Err(5), "nothing is saved");
    assert_eq!(packet(&mut rig, 256, &[0x55, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff]), Err(5), "too much");
    assert_eq!(packet(&mut rig, 256, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 0]), Ok(Vec::new()), "nothing is sent");
    assert_eq!(packet_with(&mut rig, 256, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 3], &[0; 3]), Err(5), "half a header");
    // By DMA.
    let page = packet(&mut rig, 256, &[0x5a, 0, 0x01, 0, 0, 0, 0, 1, 0]).unwrap();
    rig.ram.write(0x1_0000, &page);
    rig.ram.write(0x8000, &0x8000_0010_0001_0000_u64.to_le_bytes());
    rig.ide.write_bus_master(4, Width::Dword, 0x8000);
    rig.set([1, 0, 0, 0, 0, 0xa0]);
    rig.command(0xa0);
    rig.wait();
    rig.ide.write_bus_master(0, Width::Byte, 1);
    for word in [0x1055_u32, 0, 0, 0, 16, 0] {
        rig.ide.write(0, Width::Word, word);
    }
    assert_eq!(rig.wait(), (0x50, true));
}

#[test]
fn a_disc_too_large_for_a_cd_is_a_dvd() {
    let (mut rig, _) = rig(400);
    sense(&mut rig);
    let structure = |rig: &mut Rig, format: u8| packet(rig, 4096, &[0xad, 0, 0, 0, 0, 0, 0, format, 8, 4]);
    assert_eq!(structure(&mut rig, 0), Err(5));
    assert_eq!(sense(&mut rig), (5, 0x30));
    // One block more than 80 minutes.
    rig.ide.change_medium(0, Memory::new(vec![0; 360_001 * 2048], true).0, false).unwrap();
    sense(&mut rig);
    let features = packet(&mut rig, 64, &[0x46, 0, 0, 0, 0, 0, 0, 0, 64]).unwrap();
    assert_eq!((features[7], features[14], features[18]), (0x10, 1, 0), "the profile, and which are current");
    let physical = structure(&mut rig, 0).unwrap();
    assert_eq!((physical.len(), &physical[..2]), (2052, &[8, 2][..]));
    assert_eq!(physical[8..16], [0, 3, 0, 0, 0, 8, 0x7e, 0x40], "first and last sector");
    assert_eq!(structure(&mut rig, 1), Ok(vec![0, 6, 0, 0, 0, 0, 0, 0]));
    assert_eq!(structure(&mut rig, 0xff).unwrap()[..8], [0, 14, 0, 0, 0, 0x40, 8, 4]);
    assert_eq!(structure(&mut rig, 7), Err(5));
}

#[test]
fn data_goes_by_dma_where_the_guest_wants_it() {
    let (mut rig, control) = rig(400);
    sense(&mut rig);
    // 40 blocks (two requests) into two regions, of which the second is too long.
    for (n, row) in [0x1_0000_u64, 0x8000_0000_0002_0000].into_iter().enumerate() {
        rig.ram.write(0x8000 + 8 * n as u64, &row.to_le_bytes());
    }
    rig.ide.write_bus_master(4, Width::Dword, 0x8000);
    let dma = |rig: &mut Rig, packet: [u8; PACKET]| {
        rig.set([1, 0, 0, 0, 0, 0xa0]);
        rig.command(0xa0);
        rig.wait();
        rig.ide.write_bus_master(0, Width::Byte, 0x09);
        for word in packet.chunks(2) {
            rig.ide.write(0, Width::Word, u32::from(word[0]) | u32::from(word[1]) << 8);
        }
        let (state, irq) = rig.wait();
        let master = rig.ide.read_bus_master(2, Width::Byte) & 7;
        rig.ide.write_bus_master(0, Width::Byte, 0);
        rig.ide.write_bus_master(2, Width::Byte, 4);
        assert!(irq && rig.registers()[1] == 3, "the interrupt at the end");
        (state, master)
    };
    assert_eq!(dma(&mut rig, [0x28, 0, 0, 0, 0, 16, 0, 0, 40, 0, 0, 0]), (0x50, 5));
    let mut memory = vec![0; 40 * 2048 + 1];
    rig.ram.read(0x1_0000, &mut memory);
    assert!(memory[..40 * 2048] == control.lock().unwrap().bytes[16 * 2048..56 * 2048] && memory[40 * 2048] == 0);
    assert_eq!(dma(&mut rig, [0x28, 0, 0, 0, 0, 99, 0, 0, 2, 0, 0, 0]), (0x51, 5), "out of range");
    assert_eq!(dma(&mut rig, [0; PACKET]), (0x50, 5), "nothing to move");
    assert_eq!(dma(&mut rig, [0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0]), (0x50, 5));
    rig.ram.read(0x1_0000, &mut memory);
    assert_eq!(memory[8..12], *b"HAKO");
}
