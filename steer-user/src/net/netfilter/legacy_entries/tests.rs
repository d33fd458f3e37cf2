use super::super::PacketFamily;
use super::super::ruleset::Table;
use super::super::{Finding, FindingKind};
use super::*;

const NAT_HOOKS: u32 = 0b11011;

/// Entries being put together, and where they begin.
struct Block {
    layout: Layout,
    bytes: Vec<u8>,
}

impl Block {
    fn offset(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("short")
    }

    /// Adds an entry and returns its offset.
    fn add(&mut self, matches: &[&str], target: &str, data: &[u8]) -> u32 {
        let offset = self.offset();
        let mut entry = vec![0; self.layout.entry_bytes];
        for name in matches {
            entry.extend(extension(name, &[0; 8]));
        }
        let target_at = entry.len();
        entry.extend(extension(target, data));
        let length = entry.len();
        put(&mut entry, &self.layout.target_offset, target_at);
        put(&mut entry, &self.layout.next_offset, length);
        self.bytes.extend(entry);
        offset
    }

    fn verdict(&mut self, verdict: i32) -> u32 {
        self.add(&[], "", &[verdict.to_ne_bytes(), [0; 4]].concat())
    }

    /// Makes the entry at `offset` one about packets that leave by a device.
    fn leave_by(&mut self, offset: u32, device: &[u8], inverse: bool) {
        let entry = &mut self.bytes[usize::try_from(offset).expect("short")..];
        entry[self.layout.out_device.clone()][..device.len()].copy_from_slice(device);
        entry[self.layout.out_device_mask.clone()][..device.len()].fill(0xFF);
        entry[self.layout.inverse_flags] = if inverse { 2 } else { 0 };
    }
}

fn extension(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; EXTENSION_DATA];
    put(&mut bytes, &(0..2), EXTENSION_DATA + data.len());
    bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn put(bytes: &mut [u8], at: &Range<usize>, value: usize) {
    let value = u16::try_from(value).expect("short");
    bytes[at.clone()].copy_from_slice(&value.to_ne_bytes());
}

/// A table `nat`: DNAT in PREROUTING, a chain of the user's and what is
/// given in POSTROUTING.
fn table(layout: Layout, post: impl Fn(&mut Block)) -> (Layout, Info, Vec<u8>) {
    let mut block = Block {
        layout,
        bytes: Vec::new(),
    };
    let mut info = Info {
        nat: true,
        valid_hooks: NAT_HOOKS,
        first: [0; 5],
        policy: [0; 5],
        entries_bytes: 0,
    };
    block.add(&["tcp"], "DNAT", &[0; 24]);
    info.policy[0] = block.verdict(ACCEPT);
    info.first[1] = block.verdict(DROP);
    info.policy[1] = info.first[1];
    info.first[3] = block.verdict(ACCEPT);
    info.policy[3] = info.first[3];
    info.first[4] = block.offset();
    post(&mut block);
    info.policy[4] = block.verdict(ACCEPT);
    block.add(&[], "ERROR", b"user\0\0\0\0");
    block.add(&["comment", "conntrack"], "MASQUERADE", &[0; 24]);
    block.verdict(RETURN);
    block.add(&[], "ERROR", b"ERROR\0\0\0");
    (block.layout, info, block.bytes)
}

fn findings((layout, info, bytes): &(Layout, Info, Vec<u8>)) -> Vec<(FindingKind, String)> {
    let table = Table {
        family: PacketFamily::Ipv4,
        place: String::new(),
        chains: chains(layout, info, bytes).expect("sound"),
    };
    let pair = |finding: Finding| (finding.kind, finding.place);
    table.findings().into_iter().map(pair).collect()
}

/// Where the chain `user` of [`table`] begins.
fn user(table: &(Layout, Info, Vec<u8>)) -> i32 {
    let entries = entries(&table.0, &table.2).expect("sound");
    let starts = starts(&table.1, &entries);
    let (offset, _) = starts
        .iter()
        .find(|(_, name)| *name == "user")
        .expect("the chain");
    i32::try_from(*offset).expect("short")
}

#[test]
fn chains_rules_and_policies() {
    for layout in [|| Layout::IPV4, || Layout::IPV6] {
        let dnat = (FindingKind::DestinationNat, "PREROUTING".to_owned());
        let unused = table(layout(), |_| {});
        assert_eq!(findings(&unused), std::slice::from_ref(&dnat));

        let rule = |inverse, verdict| {
            table(layout(), |block| {
                let rule = block.verdict(verdict);
                block.leave_by(rule, b"wg", inverse);
            })
        };
        // The chain begins as far on as with any other verdict.
        let to_user = user(&rule(false, 0));
        let wg = DeviceSet::one(DevicePattern::Prefix("wg".into()));
        for (inverse, may_leave_by) in [(false, wg), (true, DeviceSet::Any)] {
            let nat = FindingKind::SourceNat { may_leave_by };
            assert_eq!(
                findings(&rule(inverse, to_user)),
                [
                    dnat.clone(),
                    (FindingKind::Stateful, "user".into()),
                    (nat, "user".into()),
                ]
            );
        }
        let drop = (FindingKind::Filter, "POSTROUTING".to_owned());
        assert_eq!(findings(&rule(false, DROP)), [drop, dnat]);
    }
}

#[test]
fn a_rule_without_target_goes_on() {
    let next = |block: &mut Block| {
        let length = block.layout.entry_bytes + EXTENSION_DATA + 8;
        let next = block.offset() + u32::try_from(length).expect("short");
        block.verdict(next.cast_signed());
    };
    let (layout, mut info, bytes) = table(Layout::IPV4, next);
    info.nat = false;
    let found = findings(&(layout, info, bytes));
    assert!(found.contains(&(FindingKind::Filter, "POSTROUTING".into())));
}

#[test]
fn nonsense() {
    let nowhere = table(Layout::IPV4, |block| {
        block.verdict(3);
    });
    assert!(chains(&nowhere.0, &nowhere.1, &nowhere.2).is_none());
    let (layout, info, bytes) = table(Layout::IPV4, |_| {});
    let whole = entries(&layout, &bytes).expect("sound");
    for length in 1..bytes.len() {
        let cut = chains(&layout, &info, &bytes[..length]);
        let at_an_entry = whole.iter().any(|entry| entry.offset as usize == length);
        assert_eq!(cut.is_some(), at_an_entry, "cut off at {length}");
    }
    for position in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[position] ^= 0xFF;
        // Whatever comes of it, it must not panic.
        let _ = chains(&layout, &info, &wrong);
    }
}

#[test]
fn information() {
    let mut bytes = vec![0; Info::BYTES];
    bytes[..4].copy_from_slice(b"nat\0");
    for index in 0..13u8 {
        bytes[32 + 4 * usize::from(index)..][..4]
            .copy_from_slice(&u32::from(index + 1).to_ne_bytes());
    }
    let info = Info::parse(&bytes).expect("sound");
    assert!(info.nat);
    assert_eq!(info.valid_hooks, 1);
    assert_eq!(info.first, [2, 3, 4, 5, 6]);
    assert_eq!(info.policy, [7, 8, 9, 10, 11]);
    assert_eq!(info.entries_bytes, 13);
    assert!(Info::parse(&bytes[..80]).is_none());
}
