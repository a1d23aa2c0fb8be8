//! Box files: what `ac-send -o` seals, `ac-listen --open` opens whole, or says why not.
//! PROTOCOL.md, 4.6.

use crate::testkit::datagram_forge;

use anonchat::crypto::sodium::{SeededRandom, random_into};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::boxfile::{BoxError, BoxReader, BoxWriter, Chunk};
use anonchat::proto::datagram::packet::{LocalKey, MAX_MESSAGE, PACKET_LEN};
use datagram_forge::*;

fn seal(body: &[u8], piece: usize) -> Vec<u8> {
    let mut rng = SeededRandom::new(body.len() as u64);
    let mut writer = BoxWriter::new(&pair("alice"), pair("bob").public(), &ACCESS, &mut rng);
    let mut file = Vec::new();
    for part in body.chunks(piece) {
        writer.push(part, at(0), &mut rng, &mut file);
    }
    writer.finish(at(0), &mut rng, &mut file);
    file
}

fn reader() -> BoxReader {
    BoxReader::new(vec![LocalKey::new(pair("bob"), &ACCESS)])
}

fn open(file: &[u8]) -> Result<Vec<Chunk>, BoxError> {
    let mut reader = reader();
    let mut chunks = Vec::new();
    for packet in file.chunks(PACKET_LEN) {
        chunks.push(reader.open(packet)?);
    }
    reader.finish()?;
    Ok(chunks)
}

fn body(len: usize) -> Vec<u8> {
    let mut body = vec![0; len];
    random_into(&mut body);
    body
}

fn joined(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.body.clone()).collect()
}

#[test]
fn what_is_sealed_opens_to_the_same_however_it_is_cut() {
    for len in [0, 1, 998, 999, MAX_MESSAGE - 1, MAX_MESSAGE, MAX_MESSAGE + 1, 200_000] {
        let plain = body(len);
        for piece in [1000, 65_536, 1 << 20] {
            let file = seal(&plain, piece);
            assert_eq!(file.len(), len.div_ceil(998).max(1) * PACKET_LEN);
            let chunks = open(&file).unwrap();
            assert_eq!(joined(&chunks), plain);
            assert!(chunks[0].first && chunks[chunks.len() - 1].last);
            assert_eq!(chunks.iter().filter(|c| c.first || c.last).count(), chunks.len().min(2));
            assert!(chunks.iter().all(|c| c.sender == *pair("alice").public() && c.local == 0));
        }
    }
}

#[test]
fn files_put_together_open_one_after_the_other() {
    let files = [seal(b"one\n", 9), seal(&body(100_000), 4096), seal(b"", 1)];
    let chunks = open(&files.concat()).unwrap();
    assert_eq!(chunks.iter().filter(|chunk| chunk.last).count(), 3);
    assert_eq!(chunks.iter().filter(|chunk| chunk.first).count(), 3);
}

#[test]
fn every_truncation_is_noticed() {
    let file = seal(&body(MAX_MESSAGE + 3000), 4096);
    for packets in 0..file.len() / PACKET_LEN {
        let end = packets * PACKET_LEN;
        assert_eq!(open(&file[..end]).unwrap_err(), BoxError::Truncated, "{packets}");
        let torn = open(&file[..end + 1 + packets]).unwrap_err();
        assert_eq!(torn, BoxError::Truncated, "{packets}");
    }
}

#[test]
fn packets_that_are_changed_missing_doubled_or_moved_are_noticed() {
    let (a, b) = (seal(&body(MAX_MESSAGE + 3000), 4096), seal(&body(3000), 4096));
    let packet = |file: &[u8], i: usize| file[i * PACKET_LEN..(i + 1) * PACKET_LEN].to_vec();
    let packets: Vec<_> = (0..a.len() / PACKET_LEN).map(|i| packet(&a, i)).collect();
    let mut cases = Vec::new();
    for at in [1, 5, 63, 64] {
        let mut missing = packets.clone();
        missing.remove(at);
        let mut doubled = packets.clone();
        doubled.insert(at, packets[at].clone());
        let mut moved = packets.clone();
        moved.swap(at, at + 1);
        let mut foreign = packets.clone();
        foreign[at] = packet(&b, 1);
        let mut bent = packets.clone();
        bent[at][600] ^= 4;
        cases.extend([missing, doubled, moved, foreign, bent]);
    }
    cases.push(packets[1..].to_vec());
    cases.push([&packets[..], &packets[3..4]].concat());
    for (i, case) in cases.iter().enumerate() {
        assert_eq!(open(&case.concat()).unwrap_err(), BoxError::Corrupted, "case {i}");
    }
}

#[test]
fn a_missing_message_and_a_part_of_another_run_are_noticed() {
    let (a, b) = (seal(&body(3 * MAX_MESSAGE), 4096), seal(&body(3 * MAX_MESSAGE - 1), 4096));
    let message = 64 * PACKET_LEN;
    let missing = [&a[..message], &a[2 * message..]].concat();
    let of_another = [&a[..message], &b[message..]].concat();
    let within = [&a[..PACKET_LEN], &b[PACKET_LEN..]].concat();
    for file in [missing, of_another, within, a[message..].to_vec()] {
        assert_eq!(open(&file).unwrap_err(), BoxError::Corrupted);
    }
    // Even under the same name a run has one sender.
    let first = Forge { flags: 6, ..Forge::default() };
    let next = |from| Forge { from, flags: 4, sequence: 1, ..Forge::default() }.seal();
    assert!(open(&[first.seal(), next("alice")].concat()).is_ok());
    let mixed = open(&[first.seal(), next("carol")].concat());
    assert_eq!(mixed.unwrap_err(), BoxError::Corrupted);
}

#[test]
fn another_ones_file_and_no_box_at_all_are_told_from_a_corrupted_one() {
    let file = seal(b"hi", 9);
    let mut carol = BoxReader::new(vec![LocalKey::new(pair("carol"), &ACCESS)]);
    assert_eq!(carol.open(&file).unwrap_err(), BoxError::NotForUs);
    assert_eq!(open(&body(PACKET_LEN)).unwrap_err(), BoxError::NotForUs);
    assert_eq!(open(b"not a box").unwrap_err(), BoxError::Truncated);
    let second = [file, body(PACKET_LEN)].concat();
    assert_eq!(open(&second).unwrap_err(), BoxError::Corrupted);
}

#[test]
fn a_network_packet_has_no_place_in_a_file_nor_a_file_on_the_network() {
    assert_eq!(open(&Forge::default().seal()).unwrap_err(), BoxError::NotForAFile);
    let probe = Forge { kind: 2, body: vec![0xa0], ..Forge::default() };
    assert_eq!(open(&probe.seal()).unwrap_err(), BoxError::NotForAFile);
    let mut bob = listener();
    assert!(feed(&mut bob, &seal(b"hi", 9), at(0), Admission::Contact).is_empty());
    assert!(bob.take_acks().is_empty());
}

#[test]
fn a_file_opens_however_old_it_is() {
    let old = Forge { flags: 4, time_ms: 1, ..Forge::default() };
    let chunks = open(&old.seal()).unwrap();
    assert_eq!((chunks[0].time_ms, joined(&chunks)), (1, b"hi\n".to_vec()));
}
