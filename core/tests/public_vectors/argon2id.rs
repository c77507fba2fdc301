//! Argon2id: RFC 9106 through the crate.

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use hostchat_core::crypto::stretch::Block;

use super::{Counts, array, hex, json};

#[cfg_attr(test, test)]
pub(crate) fn rfc9106_example() {
    let test = json("rfc/rfc9106_argon2id.json");
    let number = |name: &str| u32::try_from(test[name].as_u64().expect("number")).expect("number");
    let params = ParamsBuilder::new()
        .m_cost(number("m"))
        .t_cost(number("t"))
        .p_cost(number("p"))
        .data(AssociatedData::new(&hex(&test["ad"])).expect("short"))
        .build()
        .expect("parameters of the RFC");
    let secret = hex(&test["secret"]);
    let argon2 = Argon2::new_with_secret(&secret, Algorithm::Argon2id, Version::V0x13, params)
        .expect("short secret");
    let mut tag = [0; 32];
    let mut memory = [Block::new(); 32];
    argon2
        .hash_password_into_with_memory(
            &hex(&test["password"]),
            &hex(&test["salt"]),
            &mut tag,
            &mut memory[..],
        )
        .expect("hashes");
    let mut counts = Counts::default();
    counts.record(&test, true, tag == array(&test["tag"]));
    counts.finish("RFC 9106 Argon2id", "", 1, 0, 0);
}
