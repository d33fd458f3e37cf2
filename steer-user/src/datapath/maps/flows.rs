//! The flow table.

use steer_common::abi::{FlowEntry, FlowKey, maps};

use super::{DatapathError, ENTRY_BYTES, KEY_BYTES, Maps, Result};
use crate::datapath::{batch, records::decode};

impl Maps {
    /// Calls `visit` with every flow entry, expired ones too.
    pub fn for_each_flow(&self, mut visit: impl FnMut(&FlowKey, &FlowEntry)) -> Result<()> {
        let mut bad = false;
        batch::for_each::<KEY_BYTES, ENTRY_BYTES>(self.flows.data(), |key, entry| {
            match (
                bytemuck::checked::try_pod_read_unaligned(key),
                bytemuck::checked::try_pod_read_unaligned(entry),
            ) {
                (Ok(key), Ok(entry)) => visit(&key, &entry),
                _ => bad = true,
            }
        })
        .map_err(|source| DatapathError::Batch {
            map: maps::FLOWS,
            source,
        })?;
        if bad {
            Err(DatapathError::BadElement { map: maps::FLOWS })
        } else {
            Ok(())
        }
    }

    /// Removes the flow entries that are over, as `is_over` says, until `is_enough`; how many they were.
    ///
    /// Goes through the table in portions, so that neither memory nor the time until it heeds `is_enough` grows
    /// with it. One that carries a packet meanwhile stays.
    pub fn remove_flows(
        &mut self,
        mut is_over: impl FnMut(&FlowKey, &FlowEntry) -> bool,
        mut is_enough: impl FnMut() -> bool,
    ) -> Result<usize> {
        let failed = |source| DatapathError::Batch {
            map: maps::FLOWS,
            source,
        };
        let mut portions = batch::Portions::<KEY_BYTES, ENTRY_BYTES>::default();
        let (mut over, mut removed) = (Vec::new(), 0);
        while !is_enough() {
            let Some(portion) = portions.next(self.flows.data()).map_err(failed)? else {
                break;
            };
            for (key, entry) in portion {
                let (key, entry) = (decode(maps::FLOWS, key)?, decode(maps::FLOWS, entry)?);
                if is_over(&key, &entry) {
                    over.push((key, entry.last_seen_ns));
                }
            }
            for (key, last_seen_ns) in over.drain(..) {
                let is_unchanged = |entry: FlowEntry| entry.last_seen_ns == last_seen_ns;
                if self.flow(&key)?.is_some_and(is_unchanged) && self.remove_flow(&key)? {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// One flow entry.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>> {
        self.flows.get(key)
    }

    /// Removes a flow entry.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<bool> {
        self.flows.remove(key)
    }
}
