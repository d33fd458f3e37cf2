//! The expressions of an `nf_tables` rule (`linux/netfilter/nf_tables.h`). Pure.

use std::io;

use super::attributes::Attributes;
use super::ruleset::{Effect, Rule, Verdict};
use super::{DevicePattern, DeviceSet, malformed, xtables};

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// The register that holds the verdict.
const REGISTER_VERDICT: u32 = 0;

/// A rule, and what has to be looked up elsewhere to complete it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) rule: Rule,
    /// Sets that map to verdicts of this rule.
    pub(super) verdict_maps: Vec<String>,
    /// The number of the device that packets leave by.
    pub(super) leaves_by_index: Option<u32>,
    /// The set with the names of the devices that packets leave by.
    pub(super) leaves_by_set: Option<String>,
}

/// What the expression before this one has loaded of the device that the
/// packet leaves by. Compilers of rules compare it at once; anything between
/// would have to be understood.
#[derive(Clone, Copy)]
struct Loaded {
    register: u32,
    by_name: bool,
}

/// The rule of a list of expressions.
pub(super) fn rule(list: Attributes) -> io::Result<Parsed> {
    let mut parsed = Parsed::default();
    let mut loaded = None;
    for expression in list.each(LIST_ELEM) {
        let expression = expression?;
        let name = expression.name(EXPR_NAME)?;
        let data = expression.nested(EXPR_DATA)?;
        loaded = parsed.note(&name, data, loaded)?;
    }
    Ok(parsed)
}

/// The verdict in the data of an expression or a set element.
pub(super) fn verdict(data: Attributes) -> io::Result<Option<Verdict>> {
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    let Some(verdict) = data.bytes(DATA_VERDICT)?.map(Attributes::new) else {
        return Ok(None);
    };
    let code = verdict.number(CODE)?.ok_or_else(malformed)?;
    Ok(Some(match code.cast_signed() {
        libc::NFT_JUMP | libc::NFT_GOTO => Verdict::Chain(verdict.name(CHAIN)?),
        libc::NF_ACCEPT | libc::NFT_RETURN | libc::NFT_CONTINUE | libc::NFT_BREAK => {
            Verdict::Continue
        }
        _ => Verdict::Drop,
    }))
}

/// The plain value in the data of an expression or a set element.
pub(super) fn value(data: Attributes<'_>) -> io::Result<Option<&[u8]>> {
    data.bytes(DATA_VALUE)
}

impl Parsed {
    /// Notes what one expression does, and returns what it has loaded.
    fn note(
        &mut self,
        name: &str,
        data: Attributes,
        loaded: Option<Loaded>,
    ) -> io::Result<Option<Loaded>> {
        match name {
            "meta" => return self.note_meta(data),
            "cmp" => self.note_comparison(data, loaded)?,
            "lookup" => self.note_lookup(data, loaded)?,
            "immediate" => self.note_immediate(data)?,
            "ct" | "connlimit" | "flow_offload" | "synproxy" => {
                self.rule.effects.insert(Effect::Stateful);
            }
            "objref" => self.note_object(data)?,
            "nat" => self.note_nat(data)?,
            "masq" => {
                self.rule.effects.insert(Effect::SourceNat);
            }
            "redir" => {
                self.rule.effects.insert(Effect::DestinationNat);
            }
            "tproxy" => {
                self.rule.effects.insert(Effect::TransparentProxy);
            }
            "exthdr" => self.note_header_option(data)?,
            "payload" => {
                const SREG: u16 = 5;
                self.rule.acts |= data.bytes(SREG)?.is_some();
            }
            "match" => xtables::note_match(&data.name(1)?, &mut self.rule),
            "target" => xtables::note_target(&data.name(1)?, &mut self.rule),
            // They look, count or compute.
            "bitwise" | "byteorder" | "counter" | "fib" | "hash" | "inner" | "last" | "limit"
            | "log" | "numgen" | "osf" | "quota" | "range" | "rt" | "socket" | "tunnel"
            | "xfrm" => {}
            _ => self.rule.acts = true,
        }
        Ok(None)
    }

    fn note_meta(&mut self, data: Attributes) -> io::Result<Option<Loaded>> {
        const DREG: u16 = 1;
        const KEY: u16 = 2;
        const OIF: u32 = 5;
        const OIFNAME: u32 = 7;
        let Some(register) = data.number(DREG)? else {
            // It sets a mark, a priority, …
            self.rule.acts = true;
            return Ok(None);
        };
        Ok(match data.number(KEY)? {
            Some(key @ (OIF | OIFNAME)) => Some(Loaded {
                register,
                by_name: key == OIFNAME,
            }),
            _ => None,
        })
    }

    fn note_comparison(&mut self, data: Attributes, loaded: Option<Loaded>) -> io::Result<()> {
        const SREG: u16 = 1;
        const OP: u16 = 2;
        const DATA: u16 = 3;
        const EQUAL: u32 = 0;
        let Some(loaded) = in_register(loaded, data.number(SREG)?) else {
            return Ok(());
        };
        if data.number(OP)? != Some(EQUAL) {
            return Ok(());
        }
        let compared = value(data.nested(DATA)?)?.ok_or_else(malformed)?;
        if loaded.by_name {
            self.rule
                .leave_by(&DeviceSet::one(DevicePattern::compared(compared)));
        } else {
            let index = compared.try_into().map_err(|_| malformed())?;
            self.leaves_by_index = Some(u32::from_ne_bytes(index));
        }
        Ok(())
    }

    fn note_lookup(&mut self, data: Attributes, loaded: Option<Loaded>) -> io::Result<()> {
        const SET: u16 = 1;
        const SREG: u16 = 2;
        const DREG: u16 = 3;
        const FLAGS: u16 = 5;
        const INVERTED: u32 = 1;
        let set = data.name(SET)?;
        let inverted = data.number(FLAGS)?.unwrap_or(0) & INVERTED != 0;
        let loaded = in_register(loaded, data.number(SREG)?);
        match data.number(DREG)? {
            Some(REGISTER_VERDICT) => self.verdict_maps.push(set),
            None if !inverted && loaded.is_some_and(|loaded| loaded.by_name) => {
                self.leaves_by_set = Some(set);
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn note_immediate(&mut self, data: Attributes) -> io::Result<()> {
        const DATA: u16 = 2;
        let verdict = verdict(data.nested(DATA)?)?;
        self.rule.verdicts.extend(verdict);
        Ok(())
    }

    fn note_nat(&mut self, data: Attributes) -> io::Result<()> {
        const TYPE: u16 = 1;
        const SOURCE: u32 = 0;
        let effect = match data.number(TYPE)?.ok_or_else(malformed)? {
            SOURCE => Effect::SourceNat,
            _ => Effect::DestinationNat,
        };
        self.rule.effects.insert(effect);
        Ok(())
    }

    fn note_object(&mut self, data: Attributes) -> io::Result<()> {
        const TYPE: u16 = 1;
        const COUNTER: u32 = 1;
        const QUOTA: u32 = 2;
        const CT_HELPER: u32 = 3;
        const LIMIT: u32 = 4;
        const CONNLIMIT: u32 = 5;
        const CT_TIMEOUT: u32 = 7;
        const CT_EXPECT: u32 = 9;
        const SYNPROXY: u32 = 10;
        match data.number(TYPE)? {
            Some(CT_HELPER | CONNLIMIT | CT_TIMEOUT | CT_EXPECT | SYNPROXY) => {
                self.rule.effects.insert(Effect::Stateful);
            }
            Some(COUNTER | QUOTA | LIMIT) => {}
            // Also one that a map chooses: its kind is not said here.
            _ => self.rule.acts = true,
        }
        Ok(())
    }

    /// Reads or writes an IPv6 extension header, a TCP option, …
    fn note_header_option(&mut self, data: Attributes) -> io::Result<()> {
        const DREG: u16 = 1;
        const TYPE: u16 = 2;
        const OP: u16 = 6;
        const SREG: u16 = 7;
        const TCP_OPTION: u32 = 1;
        const MAXIMUM_SEGMENT_SIZE: [u8; 1] = [2];
        if data.bytes(SREG)?.is_some()
            && data.number(OP)? == Some(TCP_OPTION)
            && data.bytes(TYPE)? == Some(&MAXIMUM_SEGMENT_SIZE)
        {
            self.rule.effects.insert(Effect::MssClamp);
        } else {
            self.rule.acts |= data.bytes(DREG)?.is_none();
        }
        Ok(())
    }
}

/// What was loaded, if this is the register that it was loaded into.
fn in_register(loaded: Option<Loaded>, register: Option<u32>) -> Option<Loaded> {
    loaded.filter(|loaded| Some(loaded.register) == register)
}

#[cfg(test)]
mod tests;
