//! The PIN record, the tries, the master key and what it opens.
//!
//! ```text
//! PIN record = | 1 | token id | salt | PRS | box = SIV(HKDF(salt = E_pin, W, "hostchat/1 pin box"); master key) |
//! E_pin = the record's slot key, so that a new PIN and a wipe destroy it
//! ```

use heapless::Vec;
use hostchat_core::crypto::kdf::hkdf;
use hostchat_core::crypto::label;
use hostchat_core::crypto::siv::{SivKey, TAG_LEN};
use hostchat_core::handshake::IdentityKeys;
use hostchat_core::icd::MAX_TRIES;
use hostchat_core::secret;
use hostchat_core::wire::Bytes;
use rand_core::{CryptoRng, Rng as _};
use zeroize::Zeroize as _;

use super::fields::Fields;
use super::generation::GenerationRecord;
use super::messages::Uncommitted;
use super::pairing::HeldCode;
use super::prekeys::Prekeys;
use crate::env::Env;
use crate::flash::Flash;
use crate::records::RecordId;
use crate::slots::SlotKey;
use crate::store::{Growth, MasterKey, SEAL_OVERHEAD, Store, StoreError};

const VERSION: u8 = 1;
const PIN_RECORD: usize = 1 + 16 + 16 + 32 + TAG_LEN + MasterKey::LEN;

secret! {
    /// The CPace password behind the PIN, as the token keeps it.
    pub(super) struct PinPassword(32);
    /// The wrapping key behind the PIN; the token never keeps it.
    pub(super) struct PinWrap(32);
    /// Key that seals the host's own store.
    pub(super) struct StorageKey(32);
}

/// What the token knows of its PIN while it is locked.
pub(super) struct PublicPin {
    pub(super) token_id: Bytes<16>,
    pub(super) salt: Bytes<16>,
    /// `None` on a blank token.
    pub(super) password: Option<PinPassword>,
    state: PinState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PinState {
    Set,
    /// Blank; id and salt are drawn for the PIN to come.
    Drawn,
    /// Blank, and there was no randomness to draw from.
    Undrawn,
    /// There is a PIN record that cannot be read.
    Lost,
}

impl PublicPin {
    /// Reads the PIN record, or draws id and salt for the one to come.
    pub(super) async fn load<E: Env>(
        store: &mut Store<E::Flash>,
        env: &mut E,
    ) -> Result<Self, StoreError> {
        let (token_id, salt) = (Bytes([0; 16]), Bytes([0; 16]));
        let mut pin = Self {
            token_id,
            salt,
            password: None,
            state: PinState::Undrawn,
        };
        if !store.has(RecordId::PIN) {
            pin.draw(env);
            return Ok(pin);
        }
        let mut record = [0; PIN_RECORD];
        let read = if store.lost(RecordId::PIN) {
            Err(StoreError::Damaged)
        } else {
            store.read(RecordId::PIN, &mut record).await
        };
        match read {
            Ok(_) => {}
            Err(StoreError::Flash) => return Err(StoreError::Flash),
            Err(_) => {
                pin.state = PinState::Lost;
                return Ok(pin);
            }
        }
        let mut fields = Fields::new(&record);
        if fields.version(VERSION).is_err() {
            pin.state = PinState::Lost;
            return Ok(pin);
        }
        pin.token_id = Bytes(fields.array()?);
        pin.salt = Bytes(fields.array()?);
        pin.password = Some(PinPassword::from_bytes(fields.array()?));
        pin.state = PinState::Set;
        record.zeroize();
        Ok(pin)
    }

    /// Draws id and salt if that has not worked so far; tells whether they are there.
    pub(super) fn draw<E: Env>(&mut self, env: &mut E) -> bool {
        if self.state == PinState::Undrawn
            && let Some(rng) = env.rng()
        {
            rng.fill_bytes(&mut self.token_id.0);
            rng.fill_bytes(&mut self.salt.0);
            self.state = PinState::Drawn;
        }
        self.state != PinState::Undrawn
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state == PinState::Lost
    }
}

/// Stores a PIN record: the commit of an initialisation and of a change of PIN.
pub(super) async fn put_pin<F: Flash, R: CryptoRng>(
    store: &mut Store<F>,
    rng: &mut R,
    (token_id, salt): (&Bytes<16>, &Bytes<16>),
    password: &PinPassword,
    wrap: &PinWrap,
    master: &MasterKey,
) -> Result<(), StoreError> {
    let fresh = store
        .begin(rng, RecordId::PIN, PIN_RECORD, Growth::Update)
        .await?;
    let mut record = Vec::<u8, PIN_RECORD>::new();
    let mut boxed = [0; MasterKey::LEN];
    boxed.copy_from_slice(master.expose_bytes());
    let key = box_key(&fresh.key, wrap);
    let tag = key.seal_in_place(&[&[VERSION], &token_id.0, &salt.0], &mut boxed);
    for field in [
        &[VERSION][..],
        &token_id.0,
        &salt.0,
        password.expose_bytes(),
        &tag,
        &boxed,
    ] {
        record
            .extend_from_slice(field)
            .map_err(|_| StoreError::Full)?;
    }
    store.commit(fresh, &record).await
}

/// Opens the box with the master key; `None` if `wrap` is not the right one.
pub(super) async fn open_box<F: Flash>(
    store: &mut Store<F>,
    wrap: &PinWrap,
) -> Result<Option<MasterKey>, StoreError> {
    let mut record = [0; PIN_RECORD];
    store
        .read(RecordId::PIN, &mut record)
        .await?
        .ok_or(StoreError::Damaged)?;
    let slot = store.slot_key(RecordId::PIN).await?;
    let mut fields = Fields::new(&record);
    fields.version(VERSION)?;
    let (token_id, salt, _) = (
        fields.array::<16>()?,
        fields.array::<16>()?,
        fields.array::<32>()?,
    );
    let tag = fields.array::<TAG_LEN>()?;
    let mut boxed = fields.array::<{ MasterKey::LEN }>()?;
    let opened =
        box_key(&slot, wrap).open_in_place(&[&[VERSION], &token_id, &salt], &mut boxed, &tag);
    let master = opened.ok().map(|()| MasterKey::from_bytes(boxed));
    boxed.zeroize();
    record.zeroize();
    Ok(master)
}

/// The token's id, from the PIN record.
pub(super) async fn token_id<F: Flash>(store: &mut Store<F>) -> Result<Bytes<16>, StoreError> {
    let mut record = [0; PIN_RECORD];
    store
        .read(RecordId::PIN, &mut record)
        .await?
        .ok_or(StoreError::Damaged)?;
    let mut fields = Fields::new(&record);
    fields.version(VERSION)?;
    Ok(Bytes(fields.array()?))
}

fn box_key(slot: &SlotKey, wrap: &PinWrap) -> SivKey {
    hkdf(slot.expose_bytes(), &[wrap.expose_bytes()], label::PIN_BOX)
}

/// The tries of the PIN that are left in all.
pub(super) async fn tries<F: Flash>(store: &mut Store<F>) -> Result<u8, StoreError> {
    let mut tries = [0];
    match store.read(RecordId::TRIES, &mut tries).await? {
        Some(_) => Ok(tries[0].min(MAX_TRIES)),
        None => Ok(MAX_TRIES),
    }
}

/// Sets the tries of the PIN, durably.
pub(super) async fn set_tries<F: Flash>(store: &mut Store<F>, tries: u8) -> Result<(), StoreError> {
    store.put_plain(RecordId::TRIES, &[tries]).await
}

/// What an unlock ends with.
pub(super) struct Keys {
    pub(super) master: MasterKey,
    identity: IdentityKeys,
}

/// What the master key opened, and what commands keep beside it: in RAM from the unlock to the lock.
pub(super) struct Keyring {
    pub(super) master: MasterKey,
    pub(super) identity: IdentityKeys,
    pub(super) prekeys: Prekeys,
    pub(super) generation: GenerationRecord,
    pub(super) uncommitted: Option<Uncommitted>,
    pub(super) code: Option<HeldCode>,
    /// The host's clock when it last said it, seconds since 1970; 0: not yet.
    pub(super) host_time: u64,
    /// Answers to codes that wait for their confirmation.
    pub(super) pending: u8,
}

impl Keys {
    /// Makes a new identity and stores it.
    pub(super) async fn create<F: Flash, R: CryptoRng>(
        store: &mut Store<F>,
        rng: &mut R,
        master: MasterKey,
    ) -> Result<Self, StoreError> {
        let identity = IdentityKeys::generate(rng).map_err(|_| StoreError::Damaged)?;
        let mut buffer = [0; SEAL_OVERHEAD + 1 + IdentityKeys::LEN];
        let content = &mut buffer[SEAL_OVERHEAD..];
        content[0] = VERSION;
        identity
            .store(&mut content[1..])
            .map_err(|_| StoreError::Damaged)?;
        let length = content.len();
        store
            .put_sealed(
                rng,
                &master,
                RecordId::KEYS,
                Growth::New,
                &mut buffer,
                length,
            )
            .await?;
        Ok(Self { master, identity })
    }

    /// Reads the identity.
    pub(super) async fn open<F: Flash>(
        store: &mut Store<F>,
        master: MasterKey,
    ) -> Result<Self, StoreError> {
        let mut buffer = [0; SEAL_OVERHEAD + 1 + IdentityKeys::LEN];
        store
            .read_sealed(&master, RecordId::KEYS, &mut buffer)
            .await?
            .ok_or(StoreError::Damaged)?;
        let mut fields = Fields::new(&buffer[SEAL_OVERHEAD..]);
        fields.version(VERSION)?;
        let identity = IdentityKeys::load(fields.rest()).map_err(|_| StoreError::Damaged);
        buffer.zeroize();
        Ok(Self {
            master,
            identity: identity?,
        })
    }
}

impl Keyring {
    /// A keyring without prekeys.
    pub(super) fn new(Keys { master, identity }: Keys) -> Self {
        Self {
            master,
            identity,
            prekeys: Prekeys::new(),
            generation: GenerationRecord::NONE,
            uncommitted: None,
            code: None,
            host_time: 0,
            pending: 0,
        }
    }

    /// The key that seals the host's own store: the same for each PIN, gone with the master key.
    pub(super) fn storage_key(&self) -> StorageKey {
        hkdf(&[], &[self.master.expose_bytes()], label::STORAGE)
    }
}
