//! The flow table.

use steer_common::abi::{FlowEntry, FlowKey, maps};

use super::{DatapathError, ENTRY_BYTES, KEY_BYTES, Maps, Result};
use crate::datapath::batch;

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

    /// One flow entry.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>> {
        self.flows.get(key)
    }

    /// Removes a flow entry.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<bool> {
        self.flows.remove(key)
    }
}
