//! Bob's client, made once a thread: the real one over a home in memory, with a software token and two small relays.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hostchat::agent::{Begun, Client, NewAccount, Parts, Stop, Unobserved};
use hostchat::home::Home;
use hostchat::model::address::RelayAddress;
use hostchat::model::{Asked, Pin, Request, TokenKind};
use hostchat::os::{Os, Surroundings};
use hostchat::token::{Place, Token};
use hostchat::vault::Asking;
use hostchat::{Error, Result};
use hostchat_core::handshake::IdentityKeys;
use hostchat_core::wire::{Address, Bytes, IdentityClaim};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rusqlite::{Connection, params};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use crate::small_relay::SmallRelay;
use crate::who_asks::NOW_MS;

const HERE: &str = "here.example:7443";
/// As many offers as a table takes.
const TABLE: usize = 256;
/// The number of the first row of a flood, beyond what a run makes: carol's are older.
const FLOOD: i64 = 1_000;

/// Addresses and identities, which everybody knows.
pub(crate) struct People {
    pub(crate) bob_here: Address,
    pub(crate) carol_here: Address,
    pub(crate) carol_there: Address,
    pub(crate) mallory_here: Address,
    /// Somebody at carol's other relay, who never asks.
    pub(crate) dave: Address,
    /// Nobody's.
    pub(crate) eve: Address,
    pub(crate) bob: IdentityClaim,
    pub(crate) carol: IdentityClaim,
    /// The first is bound to the account.
    pub(crate) mallory: [IdentityClaim; 2],
    /// Carol's keys with a signature that is not hers.
    pub(crate) unsound: IdentityClaim,
}

impl People {
    /// What the relay of an address says.
    pub(crate) fn identity_of(&self, address: &Address) -> Option<IdentityClaim> {
        if *address == self.carol_here || *address == self.carol_there {
            Some(self.carol)
        } else if *address == self.mallory_here {
            Some(self.mallory[0])
        } else {
            None
        }
    }
}

/// A row of the table of requests, as it is sealed for its number.
type Row = (i64, Vec<u8>, Vec<u8>);

pub(crate) struct Bob {
    _folder: TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) client: Option<Client>,
    pub(crate) relay: SmallRelay,
    pub(crate) people: People,
    connection: Connection,
    /// Offers of which four are of one address, and offers of as many addresses; none until they are prepared.
    floods: [Vec<Row>; 2],
}

/// The clock stands, and no number is drawn twice.
struct Still(AtomicU64);

impl Surroundings for Still {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }

    fn fill(&self, bytes: &mut [u8]) {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let mut rng = ChaCha20Rng::seed_from_u64(number);
        rand_core::Rng::fill_bytes(&mut rng, bytes);
    }
}

/// Does something with this thread's bob.
pub(crate) fn with_bob(work: impl FnOnce(&mut Bob)) {
    thread_local! {
        static BOB: RefCell<Result<Bob>> = RefCell::new(Bob::make());
    }
    BOB.with_borrow_mut(|bob| {
        assert!(bob.is_ok(), "no client: {:?}", bob.as_ref().err());
        if let Ok(bob) = bob {
            work(bob);
        }
    });
}

fn address(text: &str) -> Result<Address> {
    Address::parse(text).map_err(|_| Error::Internal("an address"))
}

fn people(bob: IdentityClaim) -> Result<People> {
    let identity = |seed| {
        let keys = IdentityKeys::generate(&mut ChaCha20Rng::seed_from_u64(seed));
        let keys = keys.map_err(|_| Error::Internal("keys"))?;
        Ok::<_, Error>(*keys.public().claim())
    };
    let carol = identity(1)?;
    let mut unsound = carol;
    unsound.signature.0[0] ^= 1;
    Ok(People {
        bob_here: address("bob@here.example:7443")?,
        carol_here: address("carol@here.example:7443")?,
        carol_there: address("carol@there.example:7443")?,
        mallory_here: address("mallory@here.example:7443")?,
        dave: address("dave@there.example:7443")?,
        eve: address("eve@elsewhere.example:1")?,
        bob,
        carol,
        mallory: [identity(2)?, identity(3)?],
        unsound,
    })
}

impl Bob {
    fn make() -> Result<Self> {
        let io = |why| Error::io("no folder", why);
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() {
            TempDir::new_in(memory).map_err(io)?
        } else {
            TempDir::new().map_err(io)?
        };
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().build().map_err(io)?;
        let home_relay = RelayAddress::parse(HERE)?;
        let relay = SmallRelay::new(home_relay.name.clone());
        let os = Os::new(Still(AtomicU64::new(0)));
        let (client, vault_file) = runtime.block_on(async {
            let home = Home::create(folder.path())?;
            let vault_file = home.vault_file();
            let place = Place::NewSoftware(home.token_file());
            let parts = Parts {
                token: Token::open(place, os.clone(), Box::new(|_| {})).await?,
                home,
                dial: Arc::new(relay.clone()),
                os,
                no_history: true,
            };
            let account = NewAccount {
                name: address("bob@here.example:7443")?.name(),
                relay: home_relay,
                invitation: Vec::new(),
                visible: false,
            };
            let begun = Begun::of(parts, TokenKind::Software).await?;
            let pin = Pin::new(Zeroizing::new(b"a passphrase".to_vec()))?;
            let mut client = begun.finish(account, pin, &mut Unobserved).await?;
            client.collect(&mut Unobserved).await?;
            Ok::<_, Error>((client, vault_file))
        })?;
        let people = people(*client.identity().claim())?;
        let connection = Connection::open(vault_file)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        Ok(Self {
            _folder: folder,
            runtime,
            client: Some(client),
            relay,
            people,
            connection,
            floods: [Vec::new(), Vec::new()],
        })
    }

    pub(crate) fn client(&mut self) -> &mut Client {
        let client = self.client.as_mut();
        client.unwrap_or_else(|| unreachable!("it is put back"))
    }

    /// As if nothing had come.
    pub(crate) fn clear(&mut self) {
        let cleared = clear(&self.connection, 0);
        assert!(cleared.is_ok(), "{cleared:?}");
        self.client().ask_relays_anew();
        let mut relay = self.relay.lock();
        relay.clear();
        let people = &self.people;
        for address in [
            &people.carol_here,
            &people.carol_there,
            &people.mallory_here,
        ] {
            if let Some(identity) = people.identity_of(address) {
                relay.bind(address.clone(), identity);
            }
        }
    }

    /// Makes what floods are made of, unless it is there.
    pub(crate) fn prepare_floods(&mut self) -> Result<()> {
        let Some(client) = self.client.as_mut().filter(|_| self.floods[0].is_empty()) else {
            return Ok(());
        };
        self.floods = [
            make_flood(client, &self.connection, 4)?,
            make_flood(client, &self.connection, 1)?,
        ];
        Ok(())
    }

    /// Fills the table of offers, in which there are so many; what is there is older. `false` if no flood was prepared.
    pub(crate) fn flood(&mut self, many_addresses: bool, rows: usize) -> bool {
        let flood = &self.floods[usize::from(many_addresses)];
        let done =
            flood
                .iter()
                .take(TABLE.saturating_sub(rows))
                .try_for_each(|(id, body, envelope)| {
                    let insert = "INSERT INTO requests (id, body, envelope) VALUES (?1, ?2, ?3)";
                    let mut insert = self.connection.prepare_cached(insert)?;
                    insert.execute(params![id, body, envelope]).map(drop)
                });
        assert!(done.is_ok(), "{done:?}");
        !flood.is_empty()
    }

    /// Waits for the next offer as long as there is mail.
    pub(crate) fn await_offer(&mut self, answered: &Request) -> Result<Request> {
        let stop = Stop::default();
        self.relay.lock().stop = stop.clone();
        self.client = self.client.take().map(|client| client.with_stop(stop));
        let Some(client) = &mut self.client else {
            return Err(Error::Internal("no client"));
        };
        self.runtime
            .block_on(client.await_offer(answered, &mut Unobserved))
    }
}

/// Empties what a run writes; the next request gets the number after `last`.
fn clear(connection: &Connection, last: i64) -> rusqlite::Result<()> {
    connection.execute_batch(
        "BEGIN; DELETE FROM requests; DELETE FROM arrived; DELETE FROM contacts; DELETE FROM unopened;
         DELETE FROM sqlite_sequence WHERE name = 'requests';",
    )?;
    let insert = "INSERT INTO sqlite_sequence (name, seq) VALUES ('requests', ?1)";
    connection.prepare_cached(insert)?.execute(params![last])?;
    connection.execute_batch("COMMIT")
}

/// The rows of a full table, of people whom nobody checked and who have `each` offers under an address.
fn make_flood(client: &mut Client, connection: &Connection, each: usize) -> Result<Vec<Row>> {
    clear(connection, FLOOD)?;
    for n in 0..TABLE {
        let sender = address(&format!("x{}@flood.example:1", n / each))?;
        let number = n as u8;
        client.vault().add_request(&Asking {
            from: &sender,
            identity: &IdentityClaim {
                sign: Bytes([number; 32]),
                dh: Bytes([number; 32]),
                signature: Bytes([number; 64]),
            },
            asked: Asked::Code {
                sid: Bytes([number; 16]),
            },
            sender: &sender,
            checked: false,
            stored_at: NOW_MS,
            envelope: &[number; 1600],
        })?;
    }
    let mut select = connection.prepare("SELECT id, body, envelope FROM requests ORDER BY id")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
