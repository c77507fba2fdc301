//! Power cuts at every flash operation of the record store and the slot area, with torn words and half-erased pages.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use hostchat_core::secret::CryptoRng;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::seal::SEAL_OVERHEAD;
use super::*;
use crate::testing::{PAGE, RamFlash, SharedFlash, Tear, now};

/// A chip, which an emulator makes slow, takes one cut in so many of the host's, and no others at erases and syncs.
const SPARSE: u64 = if cfg!(test) { 1 } else { 97 };

type Model = BTreeMap<usize, Vec<u8>>;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

fn mount(flash: RamFlash) -> Store<RamFlash> {
    let mut store = now(Store::mount(flash)).unwrap();
    assert!(!store.is_damaged());
    assert_only_live_slots(&mut store);
    store
}

/// Every slot is blank, zeroed, or the key of a version that counts: no half of another key is left.
fn assert_only_live_slots(store: &mut Store<RamFlash>) {
    let live = store
        .directory
        .iter()
        .filter(|entry| entry.live() && entry.slotted)
        .count();
    let slot_pages = store.layout.slots.end as usize / PAGE;
    let dump = store.flash().unwrap().dump();
    let slots = dump
        .chunks(PAGE)
        .take(slot_pages)
        .flat_map(|page| page[16..].chunks_exact(40));
    let used = slots
        .filter(|slot| slot.iter().any(|byte| *byte != 0) && slot.iter().any(|byte| *byte != 0xFF));
    assert_eq!(used.count(), live);
}

fn take_flash(store: Store<RamFlash>) -> RamFlash {
    store.map.unwrap().destroy().0.flash
}

fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    use rand_chacha::rand_core::Rng as _;
    rng(seed).fill_bytes(&mut bytes);
    bytes
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, usize, u64),
    Plain(u8),
    Delete(usize),
    Wipe,
}

fn id(index: usize) -> RecordId {
    RecordId::sessions().nth(index).unwrap()
}

fn apply<R: CryptoRng>(
    store: &mut Store<RamFlash>,
    rng: &mut R,
    op: &Op,
) -> Result<(), StoreError> {
    match op {
        Op::Put(index, length, seed) => {
            let mut buffer = vec![0; SEAL_OVERHEAD];
            buffer.extend(content(*seed, *length));
            let growth = if store.has(id(*index)) {
                Growth::Update
            } else {
                Growth::New
            };
            let result =
                now(store.put_sealed(rng, &master(), id(*index), growth, &mut buffer, *length));
            assert!(
                buffer.iter().all(|byte| *byte == 0),
                "the plaintext is wiped"
            );
            result
        }
        Op::Plain(value) => now(store.put_plain(RecordId::TRIES, &[*value])),
        Op::Delete(index) => now(store.delete(id(*index))),
        Op::Wipe => now(store.wipe()),
    }
}

fn apply_to_model(model: &mut Model, op: &Op) {
    match op {
        Op::Put(index, length, seed) => drop(model.insert(*index + 1, content(*seed, *length))),
        Op::Plain(value) => drop(model.insert(0, vec![*value])),
        Op::Delete(index) => drop(model.remove(&(*index + 1))),
        Op::Wipe => model.clear(),
    }
}

fn read_all(store: &mut Store<RamFlash>) -> Model {
    let mut model = Model::new();
    let mut buffer = vec![0; MAX_STORED];
    if let Some(length) = now(store.read(RecordId::TRIES, &mut buffer)).unwrap() {
        model.insert(0, buffer[..length].to_vec());
    }
    for (index, id) in RecordId::sessions().enumerate() {
        assert!(!store.lost(id), "record {index} lost its slot");
        if let Some(length) = now(store.read_sealed(&master(), id, &mut buffer)).unwrap() {
            model.insert(
                index + 1,
                buffer[SEAL_OVERHEAD..SEAL_OVERHEAD + length].to_vec(),
            );
        }
    }
    model
}

fn tears(salt: u64) -> [Tear; 4] {
    [
        Tear::Pulse,
        Tear::Complete,
        Tear::Bits(salt),
        Tear::Bits(!salt),
    ]
}

/// Cuts the power at each `stride`-th flash operation of `op`; checks old or new, and that the store works on.
fn cut_everywhere(before: &RamFlash, model: &Model, op: &Op, stride: u64) -> u64 {
    let mut after = model.clone();
    apply_to_model(&mut after, op);
    let mut whole = mount(before.clone());
    let start = whole.flash().unwrap().operations();
    apply(&mut whole, &mut rng(9), op).unwrap();
    let operations = whole.flash().unwrap().operations() - start;
    assert_eq!(read_all(&mut whole), after);
    let mut cuts = 0;
    let erases = whole.flash().unwrap().erases_since(start);
    let is_cut =
        |at: &u64| at.is_multiple_of(stride * SPARSE) || (SPARSE == 1 && erases.contains(at));
    for at in (0..operations).filter(is_cut) {
        for tear in tears(at.wrapping_mul(0x1234_5678_9ABC_DEF1)) {
            let mut store = mount(before.clone());
            store.flash().unwrap().cut_after(at, tear);
            assert_eq!(
                apply(&mut store, &mut rng(9), op),
                Err(StoreError::Flash),
                "{op:?} cut at {at}"
            );
            assert_eq!(
                now(store.read(RecordId::TRIES, &mut [0; 64])),
                Err(StoreError::Flash)
            );
            let mut flash = take_flash(store);
            flash.restart();
            let mut store = mount(flash);
            let found = read_all(&mut store);
            let old_or_new = found == *model || found == after;
            assert!(
                old_or_new,
                "{op:?} cut at {at} with {tear:?}: {:?}",
                found.keys()
            );
            // It works on, and what it does next is there after another boot.
            let mut expected = found;
            for next in [Op::Put(3, 100, at), Op::Plain(at as u8), op.clone()] {
                apply(&mut store, &mut rng(10 + at), &next).unwrap();
                apply_to_model(&mut expected, &next);
            }
            // Long enough for slot pages to move again: there is a spare one.
            for round in 0..if erases.contains(&at) { 250 } else { 0 } {
                let next = Op::Put(3, 20, round);
                apply(&mut store, &mut rng(round), &next).unwrap();
                apply_to_model(&mut expected, &next);
            }
            let mut store = mount(take_flash(store));
            assert_eq!(read_all(&mut store), expected);
            cuts += 1;
        }
    }
    cuts
}

/// A small flash that has seen many pages turn over.
fn busy_flash(rounds: u64) -> (RamFlash, Model) {
    let mut store = mount(RamFlash::new(15));
    let (mut model, mut rng) = (Model::new(), rng(1));
    for round in 0..rounds {
        let op = match round % 7 {
            0 => Op::Put(0, 2500, round),
            1 => Op::Put(1, 300, round),
            2 => Op::Plain(round as u8),
            3 => Op::Put((round % 5) as usize, 700, round),
            4 => Op::Delete((round % 3) as usize + 5),
            5 => Op::Put((round % 3) as usize + 5, 40, round),
            _ => Op::Put(2, 1000, round),
        };
        apply(&mut store, &mut rng, &op).unwrap();
        apply_to_model(&mut model, &op);
    }
    assert_eq!(read_all(&mut store), model);
    (take_flash(store), model)
}

#[cfg_attr(test, test)]
pub fn a_cut_during_any_flash_operation_leaves_the_old_or_the_new_version() {
    let mut cuts = 0;
    for rounds in [0, 3, 40] {
        let (flash, model) = busy_flash(rounds);
        for op in [
            Op::Put(1, 60, 77),
            Op::Put(0, 1500, 78),
            Op::Plain(5),
            Op::Delete(1),
            Op::Delete(0),
        ] {
            cuts += cut_everywhere(
                &flash,
                &model,
                &op,
                if matches!(op, Op::Put(0, ..)) { 7 } else { 1 },
            );
        }
    }
    assert!(cuts > 500 / SPARSE, "{cuts}");
}

#[cfg_attr(test, test)]
pub fn a_cut_while_pages_move_loses_nothing() {
    let (mut flash, mut model) = busy_flash(60);
    let mut moved = 0;
    for round in 0..200 {
        let op = Op::Put(1, 500, 1000 + round);
        let mut store = mount(flash.clone());
        let start = store.flash().unwrap().operations();
        apply(&mut store, &mut rng(9), &op).unwrap();
        let operations = store.flash().unwrap().operations() - start;
        // An operation that takes many more words than the record has moves a page.
        if operations > 400 && moved < 3 {
            moved += 1;
            cut_everywhere(&flash, &model, &op, if moved == 1 { 3 } else { 17 });
        }
        apply_to_model(&mut model, &op);
        flash = take_flash(store);
    }
    assert_eq!(moved, 3);
}

#[cfg_attr(test, test)]
pub fn a_cut_while_slot_pages_move_loses_nothing() {
    let (mut flash, mut model) = busy_flash(60);
    let mut moved = 0;
    for round in 0..400 {
        let op = Op::Put(6, 10, 2000 + round);
        let mut store = mount(flash.clone());
        let opened = store.wear();
        apply(&mut store, &mut rng(9), &op).unwrap();
        if store.wear() > opened && moved < 4 {
            moved += 1;
            cut_everywhere(&flash, &model, &op, 1);
        }
        apply_to_model(&mut model, &op);
        flash = take_flash(store);
    }
    assert_eq!(moved, 4);
}

#[cfg_attr(test, test)]
pub fn a_wipe_cut_anywhere_is_not_begun_or_ends_at_the_next_boot() {
    let (flash, model) = busy_flash(40);
    assert!(model.len() > 5);
    cut_everywhere(&flash, &model, &Op::Wipe, 1);
}

#[cfg_attr(test, test)]
pub fn a_second_cut_during_the_boot_after_the_first_changes_nothing_either() {
    let (flash, model) = busy_flash(45);
    let op = Op::Put(1, 1200, 5);
    let mut after = model.clone();
    apply_to_model(&mut after, &op);
    for first in (0..900).step_by(5 * SPARSE as usize) {
        for tear in tears(first) {
            let mut store = mount(flash.clone());
            store.flash().unwrap().cut_after(first, tear);
            if apply(&mut store, &mut rng(9), &op).is_ok() {
                continue;
            }
            let mut cut_once = take_flash(store);
            cut_once.restart();
            for second in 0.. {
                let mut cut_twice = cut_once.clone();
                cut_twice.cut_after(second, tear);
                if let Ok(mut store) = now(Store::mount(cut_twice.clone())) {
                    let found = read_all(&mut store);
                    assert!(
                        found == model || found == after,
                        "cuts at {first}, {second} with {tear:?}"
                    );
                    break;
                }
                // The flash went with the failed mount: play the cut again on one that stays.
                let shared = SharedFlash::new(cut_once.clone());
                shared.lock().cut_after(second, tear);
                assert!(now(Store::mount(shared.clone())).is_err());
                shared.lock().restart();
                let inner = shared.snapshot();
                let mut store = mount(inner);
                let found = read_all(&mut store);
                assert!(
                    found == model || found == after,
                    "cuts at {first}, {second} with {tear:?}"
                );
            }
        }
    }
}

/// Loses unsynced writes at cuts all over `op`; what was done is durable, what was not is old or new.
fn lose_everywhere(before: &RamFlash, model: &Model, op: &Op, stride: u64) -> u64 {
    let mut after = model.clone();
    apply_to_model(&mut after, op);
    let mut losses = 0;
    let mut whole = mount(before.clone());
    let start = whole.flash().unwrap().operations();
    apply(&mut whole, &mut rng(9), op).unwrap();
    let operations = whole.flash().unwrap().operations() - start;
    let syncs = whole.flash().unwrap().syncs_since(start);
    // One past the end: nothing is cut, and nothing may be lost.
    let is_cut = |at: &u64| {
        at.is_multiple_of(stride * SPARSE)
            || *at == operations
            || (SPARSE == 1 && syncs.contains(at))
    };
    for at in (0..=operations).filter(is_cut) {
        for seed in 0..8 {
            let mut store = mount(before.clone());
            store.flash().unwrap().cut_after(at, Tear::Nothing);
            let done = apply(&mut store, &mut rng(9), op);
            assert_eq!(done.is_ok(), at == operations);
            let mut flash = take_flash(store);
            flash.lose_unsynced(at * 8 + seed);
            flash.restart();
            let mut store = mount(flash);
            let found = read_all(&mut store);
            match done {
                Ok(()) => assert_eq!(found, after, "{op:?}: what was done is durable"),
                Err(_) => assert!(
                    found == *model || found == after,
                    "{op:?} cut at {at}, lost by {seed}"
                ),
            }
            losses += u64::from(done.is_err());
        }
    }
    losses
}

#[cfg_attr(test, test)]
pub fn writes_that_a_host_lost_between_syncs_leave_the_old_or_the_new_version() {
    let (mut flash, mut model) = busy_flash(45);
    let mut losses = 0;
    for op in [
        Op::Put(1, 60, 77),
        Op::Put(0, 2500, 78),
        Op::Plain(5),
        Op::Delete(1),
    ] {
        losses += lose_everywhere(&flash, &model, &op, 11);
    }
    // The same while pages move.
    let mut moved = 0;
    for round in 0..200 {
        let op = Op::Put(1, 500, 1000 + round);
        let mut store = mount(flash.clone());
        let start = store.flash().unwrap().operations();
        apply(&mut store, &mut rng(9), &op).unwrap();
        let moves = !store.flash().unwrap().erases_since(start).is_empty();
        if moves && moved < 4 {
            moved += 1;
            losses += lose_everywhere(&flash, &model, &op, 17);
        }
        apply_to_model(&mut model, &op);
        flash = take_flash(store);
    }
    assert_eq!(moved, 4);
    assert!(losses > 1000 / SPARSE, "{losses}");
}

#[cfg_attr(test, test)]
pub fn what_another_firmware_left_makes_a_blank_token() {
    let mut flash = RamFlash::new(15);
    for (at, byte) in flash.dump_mut().iter_mut().enumerate() {
        *byte = (at * 31 % 251) as u8;
    }
    let mut store = mount(flash);
    assert_eq!(read_all(&mut store), Model::new());
    apply(&mut store, &mut rng(1), &Op::Put(0, 500, 1)).unwrap();
    let mut store = mount(take_flash(store));
    assert_eq!(read_all(&mut store).len(), 1);
}

#[cfg_attr(test, test)]
pub fn no_slot_key_of_an_old_version_is_on_the_flash() {
    let mut store = mount(RamFlash::new(15));
    let mut rng = rng(3);
    let mut keys = Vec::new();
    // The time grows with the square of it.
    let rounds = if SPARSE == 1 { 300 } else { 80 };
    for round in 0..rounds {
        apply(
            &mut store,
            &mut rng,
            &Op::Put(round % 3, 100 + round, round as u64),
        )
        .unwrap();
        let key = *now(store.slot_key(id(round % 3))).unwrap().expose_bytes();
        keys.push(key);
        let dump = store.flash().unwrap().dump();
        let live = &keys[keys.len().saturating_sub(3)..];
        for key in &keys {
            let there = dump.windows(16).any(|window| window == &key[..16]);
            // Only every tenth round looks through everything: the search is slow.
            assert_eq!(there, live.contains(key), "round {round}");
            if round % 10 != 0 {
                break;
            }
        }
    }
}

#[cfg_attr(test, test)]
pub fn a_full_store_says_so_changes_nothing_and_goes_on_with_what_it_has() {
    let mut store = mount(RamFlash::new(15));
    let (mut model, mut rng) = (Model::new(), rng(4));
    let mut refused = false;
    for index in 0..40 {
        let op = Op::Put(index, 900, index as u64);
        match apply(&mut store, &mut rng, &op) {
            Ok(()) => apply_to_model(&mut model, &op),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                refused = true;
            }
        }
    }
    assert!(refused && model.len() > 5, "{}", model.len());
    assert_eq!(read_all(&mut store), model);
    for round in 0..300_u64 {
        let op = Op::Put((round % 5) as usize, 900, 100 + round);
        apply(&mut store, &mut rng, &op).unwrap();
        apply_to_model(&mut model, &op);
    }
    apply(&mut store, &mut rng, &Op::Delete(0)).unwrap();
    apply_to_model(&mut model, &Op::Delete(0));
    let mut store = mount(take_flash(store));
    assert_eq!(read_all(&mut store), model);
}

#[cfg_attr(test, test)]
pub fn the_longest_record_is_stored_again_and_again() {
    let mut store = mount(RamFlash::new(40));
    let (mut model, mut rng) = (Model::new(), rng(5));
    for round in 0..30 {
        let length = if round % 3 == 2 {
            30
        } else {
            MAX_STORED - SEAL_OVERHEAD
        };
        let op = Op::Put((round % 2) as usize, length, round);
        apply(&mut store, &mut rng, &op).unwrap();
        apply_to_model(&mut model, &op);
    }
    let mut store = mount(take_flash(store));
    assert_eq!(read_all(&mut store), model);
}

#[cfg_attr(test, test)]
pub fn damage_is_found_and_a_wipe_heals_it() {
    let (flash, model) = busy_flash(40);
    let mut found_damage = 0;
    for seed in 0..300_usize {
        let mut flash = RamFlash::from_image(flash.dump());
        let at = (seed * 7919) % flash.dump().len();
        flash.dump_mut()[at] ^= 1 << (seed % 8);
        let mut store = now(Store::mount(flash)).unwrap();
        let mut buffer = vec![0; MAX_STORED];
        let mut damaged = store.is_damaged();
        for (index, id) in RecordId::sessions().enumerate() {
            match now(store.read_sealed(&master(), id, &mut buffer)) {
                // A lost item shows as an older sealed version only if that version's slot were alive: it is not.
                Ok(Some(length)) => {
                    assert_eq!(
                        buffer[SEAL_OVERHEAD..SEAL_OVERHEAD + length],
                        model[&(index + 1)]
                    );
                }
                Ok(None) => damaged |= model.contains_key(&(index + 1)),
                Err(error) => {
                    assert_eq!(error, StoreError::Damaged);
                    damaged = true;
                }
            }
        }
        found_damage += u64::from(damaged);
        now(store.wipe()).unwrap();
        assert_eq!(read_all(&mut store), Model::new());
    }
    assert!(found_damage > 10, "{found_damage}");
}

#[cfg_attr(test, test)]
pub fn odd_geometries_are_refused() {
    assert!(matches!(
        now(Store::mount(RamFlash::new(14))),
        Err(StoreError::Geometry)
    ));
    assert!(now(Store::mount(RamFlash::new(15))).is_ok());
    assert_eq!(
        mount(RamFlash::new(600)).layout.store.end,
        (8 + 512) * PAGE as u32
    );
}
