//! `hostchat token`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hostchat_core::icd::{Act, Hello, Lifecycle, LogEntry, Status};
use hostchat_core::wire::Address;
use serde_json::json;

use super::context::Context;
use super::prompt;
use super::secret::Secret;
use crate::agent::Bare;
use crate::error::{Error, Result};
use crate::escape::escape;

/// `token`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat token --token auto
  hostchat token info --token /dev/ttyACM0 --json
  hostchat token init --token /dev/ttyACM0
  hostchat token sessions --token /dev/ttyACM0
  hostchat token sessions --token /dev/ttyACM0 --delete bob@relay.example:7443
  hostchat token log --token /dev/ttyACM0
  hostchat token wipe --token /dev/ttyACM0 --yes

`info` needs no PIN. `sessions` says of each contact whether the token has its keys from a pairing by code; whom you have \
verified, `hostchat contacts` says: that stays when the token begins anew after damage. `auto` finds the token that is plugged in. If the port may not be opened, install the udev rule \
that comes with hostchat (70-hostchat-token.rules).")]
pub struct TokenArgs {
    /// What to do; nothing is `info`
    #[command(subcommand)]
    pub action: Option<TokenAction>,
}

/// What `token` can do.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Shows firmware, chip, how the keys are protected there, and the tries of the PIN that are left
    Info,
    /// Sets the PIN of a blank hardware token and makes its keys; `hostchat init` does this too
    Init,
    /// Sets a new PIN
    ChangePin(ChangePinArgs),
    /// Lists the contacts that the token has keys for, how many more fit, and the wear of its flash
    Sessions {
        /// Deletes the keys for this contact, NAME@HOST:PORT
        #[arg(long, value_name = "ADDRESS")]
        delete: Option<String>,
    },
    /// Shows what the token was asked lately, since it was plugged in: kinds and times
    Log,
    /// Erases a hardware token without its PIN; it has to be touched
    Wipe {
        /// Does it without asking
        #[arg(long)]
        yes: bool,
    },
}

/// `change-pin`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat change-pin
  hostchat change-pin --pin-file old.txt --new-pin-file new.txt")]
pub struct ChangePinArgs {
    /// Reads the new PIN or passphrase from the first line of FILE; - is standard input, after the old one
    #[arg(long, value_name = "FILE")]
    pub new_pin_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: TokenArgs) -> Result<()> {
    match args.action.unwrap_or(TokenAction::Info) {
        TokenAction::Info => info(context).await,
        TokenAction::Init => init(context).await,
        TokenAction::ChangePin(args) => change_pin(context, args).await,
        TokenAction::Sessions { delete } => sessions(context, delete.as_deref()).await,
        TokenAction::Log => log(context).await,
        TokenAction::Wipe { yes } => wipe(context, yes).await,
    }
}

/// Opens the token; `needs_port` for what a software token cannot do without its account.
async fn open(context: &Context, needs_port: bool) -> Result<Bare> {
    let options = context.options()?;
    if needs_port && options.token.is_none() {
        return Err(Error::Usage(
            "name the token with --token PORT, or --token auto; a software token comes and goes with `hostchat init` and \
             `hostchat wipe`"
                .into(),
        ));
    }
    Bare::open(&options, context.on_notice()).await
}

async fn info(context: &Context) -> Result<()> {
    let hello = open(context, false).await?.token().hello().await?;
    let counted = |n: u8| (n != u8::MAX).then_some(n);
    let (board, firmware) = (escape(&hello.board), escape(&hello.firmware));
    let (chip, protection) = protection(&hello.board);
    let state = state(&hello);
    let value = json!({
        "event": "token",
        "board": board,
        "chip": chip,
        "protection": protection,
        "firmware": firmware,
        "protocol": hello.version,
        "lifecycle": state,
        "tries": counted(hello.tries),
        "tries_now": counted(hello.tries_now),
    });
    let tries = match (counted(hello.tries), counted(hello.tries_now)) {
        (Some(all), Some(now)) => {
            format!("{all} in all, {now} before it has to be plugged in again")
        }
        _ => "not counted".to_owned(),
    };
    let text = format!(
        "board      {board}\nchip       {chip}\nprotection {protection}\nfirmware   {firmware}\nprotocol   {}\n\
         state      {state}\nPIN tries  {tries}",
        hello.version
    );
    context.output.data(&value, &text)
}

fn state(hello: &Hello) -> &'static str {
    match hello.lifecycle {
        Lifecycle::Blank => "blank",
        Lifecycle::Ready => "ready",
        Lifecycle::Damaged => "damaged",
    }
}

/// The chip of a board, and what keeps its keys from somebody who holds it.
fn protection(board: &str) -> (&'static str, &'static str) {
    match board {
        "pico" => (
            "RP2040",
            "its flash can be read out: only the PIN, at the price of Argon2id for each guess, protects the keys at rest",
        ),
        "pico2" => (
            "RP2350",
            "its flash can be read out, because nothing burns the chip's secure boot in: only the PIN, at the price of \
             Argon2id for each guess, protects the keys at rest",
        ),
        "nrf52840" => (
            "nRF52840",
            "its debug port is closed, but its boot loader starts anybody's firmware, which can read the flash out: only \
             the PIN, at the price of Argon2id for each guess, protects the keys at rest",
        ),
        "qemu" => (
            "Cortex-M4, emulated",
            "none: whoever reads this computer's files and memory has the keys",
        ),
        "sim" | "software" => (
            "none, this computer",
            "the file is sealed under the passphrase; malware on this computer can take the keys while they are in use",
        ),
        _ => ("unknown", "unknown to this version of hostchat"),
    }
}

async fn init(context: &Context) -> Result<()> {
    let bare = open(context, true).await?;
    match bare.token().hello().await?.lifecycle {
        Lifecycle::Blank => {}
        Lifecycle::Ready => return Err(Error::TokenNotBlank),
        Lifecycle::Damaged => return Err(Error::TokenDamaged),
    }
    let file = context.global.pin_file.clone();
    let ask = move || Secret::Pin.choose(file.as_deref(), "--pin-file");
    let pin = context.ask(ask).await?;
    bare.token().initialise(pin).await?;
    context.output.data(
        &json!({"event": "done", "what": "initialised"}),
        "the token has its PIN and keys; `hostchat init` makes an account with it",
    )
}

pub(super) async fn change_pin(context: &Context, args: ChangePinArgs) -> Result<()> {
    let bare = open(context, false).await?;
    let secret = Secret::from(bare.kind());
    let old = context.pin(secret).await?;
    let file = args.new_pin_file;
    let ask = move || secret.choose(file.as_deref(), "--new-pin-file");
    let new = context.ask(ask).await?;
    bare.token().change_pin(old, new).await?;
    context.output.data(
        &json!({"event": "done", "what": "changed PIN"}),
        "the PIN is changed",
    )
}

async fn sessions(context: &Context, delete: Option<&str>) -> Result<()> {
    let delete = delete
        .map(|text| {
            Address::parse(text).map_err(|_| {
                let shown = escape(text).into_owned();
                Error::Usage(format!("{shown} is not an address NAME@HOST:PORT"))
            })
        })
        .transpose()?;
    let bare = open(context, false).await?;
    let token = bare.token();
    token.unlock(context.pin(bare.kind().into()).await?).await?;
    if let Some(peer) = delete {
        if token.contact(peer.clone()).await?.is_none() {
            return Err(Error::UnknownContact(peer.to_string()));
        }
        token.forget(peer.clone()).await?;
        let value = json!({"event": "done", "what": "deleted", "peer": peer.as_str()});
        return context.output.data(
            &value,
            &format!("the token has no keys for {peer} any more"),
        );
    }
    for contact in token.contacts().await? {
        let value = json!({
            "event": "session",
            "peer": contact.address.as_str(),
            "by_code": contact.verified,
            "sessions": contact.sessions,
        });
        // Whom the user has verified is known to the vault, and a token may have lost its records since then.
        let keys = if contact.verified {
            "its keys came with a code"
        } else {
            "its keys came without a code"
        };
        let text = format!(
            "{}  {keys}  sessions: {}",
            contact.address, contact.sessions
        );
        context.output.data(&value, &text)?;
    }
    totals(context, &token.status().await?)
}

fn totals(context: &Context, status: &Status) -> Result<()> {
    let free = status.sessions_max.saturating_sub(status.sessions);
    let value = json!({
        "event": "status",
        "sessions": status.sessions,
        "sessions_free": free,
        "one_time_prekeys": status.one_time_prekeys,
        "pages_erased": status.slot_erases,
    });
    let text = format!(
        "{} sessions used, {free} free; {} one-time prekeys; {} flash pages erased so far",
        status.sessions, status.one_time_prekeys, status.slot_erases
    );
    context.output.data(&value, &text)
}

async fn log(context: &Context) -> Result<()> {
    let bare = open(context, false).await?;
    let token = bare.token();
    token.unlock(context.pin(bare.kind().into()).await?).await?;
    let log = token.log().await?;
    // What was asked again and again is one line.
    for alike in log
        .entries
        .chunk_by(|a, b| (a.act, a.done) == (b.act, b.done))
    {
        let [first, ..] = alike else { continue };
        let (kind, words) = act(first.act);
        let ago_s = |entry: &LogEntry| log.now_ms.saturating_sub(entry.at_ms) / 1000;
        let (from, to) = alike.iter().fold((0, u64::MAX), |(from, to), entry| {
            (from.max(ago_s(entry)), to.min(ago_s(entry)))
        });
        let value = json!({
            "event": "request",
            "kind": kind,
            "done": first.done,
            "ago_s": to,
            "since_s": from,
            "count": alike.len(),
        });
        let refused = if first.done { "" } else { ": refused" };
        let text = match alike.len() {
            1 => format!("{to:>8} s ago  {words}{refused}"),
            n => format!(
                "{to:>8} s ago  {words}{refused} ({n} times in {} s)",
                from - to
            ),
        };
        context.output.data(&value, &text)?;
    }
    Ok(())
}

/// One word for programs, and more for people.
fn act(act: Act) -> (&'static str, &'static str) {
    match act {
        Act::Unlock => ("unlock", "unlocked with the PIN"),
        Act::Init => ("init", "set up with its first PIN"),
        Act::ChangePin => ("change_pin", "changed the PIN"),
        Act::Wipe => ("wipe", "erased"),
        Act::Login => ("login", "signed a login at a relay"),
        Act::NewPrekey => ("new_prekey", "made a key for first messages"),
        Act::ShowCode => ("show_code", "drew a code for a pairing"),
        Act::AnswerCode => ("answer_code", "answered a code"),
        Act::Confirm => ("confirm", "checked the answer to a code"),
        Act::Start => ("start", "began a session without a code"),
        Act::Seal => ("seal", "sealed a message"),
        Act::Open => ("open", "opened a message"),
        Act::Forget => ("forget", "deleted the keys for a contact"),
        Act::StorageKey => ("storage_key", "gave out the key of the local history"),
        Act::Generation => ("generation", "started a new generation of its keys"),
        Act::Supersede => ("supersede", "retired all sessions"),
        Act::DropPrekeys => ("drop_prekeys", "deleted keys for first messages"),
    }
}

async fn wipe(context: &Context, yes: bool) -> Result<()> {
    let bare = open(context, true).await?;
    if !yes {
        if !prompt::is_interactive() {
            return Err(Error::Usage(
                "without a terminal `token wipe` needs --yes".into(),
            ));
        }
        let question = "Erase the token's keys for good?";
        if !context.ask(move || prompt::confirm(question)).await? {
            return Ok(());
        }
    }
    bare.token().reset().await?;
    context.output.data(
        &json!({"event": "done", "what": "wiped"}),
        "the token is blank",
    )
}

#[cfg(test)]
mod tests {
    use super::protection;

    #[test]
    fn every_board_that_there_is_firmware_for_is_known() {
        for board in ["nrf52840", "pico", "pico2", "qemu", "sim", "software"] {
            assert_ne!(protection(board).0, "unknown", "{board}");
        }
        assert_eq!(protection("toaster").0, "unknown");
    }

    #[test]
    fn no_chip_that_can_be_read_out_is_said_to_protect_without_the_pin() {
        for board in ["nrf52840", "pico", "pico2"] {
            assert!(protection(board).1.contains("only the PIN"), "{board}");
        }
    }
}
