//! Maps of the layouts in `steer_common::abi`, read and written as plain bytes.
//!
//! aya wants its own marker trait on every type; bytes with a checked
//! conversion spare both that and any `unsafe`.

use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap, Map, MapData, MapError, PerCpuArray},
};
use bytemuck::{AnyBitPattern, CheckedBitPattern, NoUninit, checked};

use super::{batch, error::DatapathError};

type Result<T> = std::result::Result<T, DatapathError>;

/// The error of an operation on `map`.
pub(super) fn on(map: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map { map, source }
}

/// The bytes of a record.
pub(super) fn encode<const N: usize>(record: &impl NoUninit) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(bytemuck::bytes_of(record));
    bytes
}

/// The record in some bytes.
pub(super) fn decode<T: CheckedBitPattern>(map: &'static str, bytes: &[u8]) -> Result<T> {
    checked::try_pod_read_unaligned(bytes).map_err(|_| DatapathError::BadElement { map })
}

/// An array of records of `N` bytes.
pub(super) struct Records<const N: usize> {
    name: &'static str,
    map: Array<MapData, [u8; N]>,
}

impl<const N: usize> Records<N> {
    pub(super) fn new(name: &'static str, map: Map) -> Result<Self> {
        Ok(Self {
            name,
            map: map.try_into().map_err(on(name))?,
        })
    }

    /// The map itself.
    pub(super) fn data(&self) -> &MapData {
        self.map.map()
    }

    pub(super) fn get<T: CheckedBitPattern>(&self, index: u32) -> Result<T> {
        decode(self.name, &self.map.get(&index, 0).map_err(on(self.name))?)
    }

    pub(super) fn set(&mut self, index: u32, record: &impl NoUninit) -> Result<()> {
        self.map
            .set(index, encode::<N>(record), 0)
            .map_err(on(self.name))
    }

    /// Writes several; of a process that is killed meanwhile, all of them or none.
    pub(super) fn set_all<T: NoUninit>(&mut self, records: &[(u32, T)]) -> Result<()> {
        let encoded = records
            .iter()
            .map(|(index, record)| (*index, encode::<N>(record)));
        let encoded: Vec<_> = encoded.collect();
        batch::set_all(self.data(), &encoded).map_err(|source| DatapathError::Batch {
            map: self.name,
            source,
        })
    }
}

/// A hash of records.
pub(super) struct Table<const K: usize, const N: usize> {
    name: &'static str,
    map: HashMap<MapData, [u8; K], [u8; N]>,
}

impl<const K: usize, const N: usize> Table<K, N> {
    pub(super) fn new(name: &'static str, map: Map) -> Result<Self> {
        Ok(Self {
            name,
            map: map.try_into().map_err(on(name))?,
        })
    }

    /// The map itself.
    pub(super) fn data(&self) -> &MapData {
        self.map.map()
    }

    pub(super) fn get<T: CheckedBitPattern>(&self, key: &impl NoUninit) -> Result<Option<T>> {
        match self.map.get(&encode(key), 0) {
            Ok(bytes) => decode(self.name, &bytes).map(Some),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(on(self.name)(error)),
        }
    }

    pub(super) fn all<Key: CheckedBitPattern, T: CheckedBitPattern>(
        &self,
    ) -> Result<Vec<(Key, T)>> {
        self.map
            .iter()
            .map(|element| {
                let (key, value) = element.map_err(on(self.name))?;
                Ok((decode(self.name, &key)?, decode(self.name, &value)?))
            })
            .collect()
    }

    pub(super) fn set(&mut self, key: &impl NoUninit, record: &impl NoUninit) -> Result<()> {
        self.map
            .insert(encode::<K>(key), encode::<N>(record), 0)
            .map_err(on(self.name))
    }

    /// Brings the table to just these records, whether or not that changes anything. What is new
    /// comes before what is old goes.
    pub(super) fn replace<Key, T>(&mut self, wanted: &[(Key, T)]) -> Result<bool>
    where
        Key: CheckedBitPattern + NoUninit + PartialEq,
        T: CheckedBitPattern + NoUninit + PartialEq,
    {
        let before: Vec<(Key, T)> = self.all()?;
        let mut is_changed = false;
        for (key, record) in wanted {
            if !before
                .iter()
                .any(|found| found.0 == *key && found.1 == *record)
            {
                self.set(key, record)?;
                is_changed = true;
            }
        }
        for (key, _) in &before {
            if wanted.iter().all(|(other, _)| other != key) {
                self.remove(key)?;
                is_changed = true;
            }
        }
        Ok(is_changed)
    }

    /// Whether there was one to remove.
    pub(super) fn remove(&mut self, key: &impl NoUninit) -> Result<bool> {
        match self.map.remove(&encode(key)) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(false)
            }
            Err(error) => Err(on(self.name)(error)),
        }
    }
}

/// An array with a record of `N` bytes on each CPU.
pub(super) struct PerCpu<const N: usize> {
    name: &'static str,
    map: PerCpuArray<MapData, [u8; N]>,
}

impl<const N: usize> PerCpu<N>
where
    [u8; N]: Pod,
{
    pub(super) fn new(name: &'static str, map: Map) -> Result<Self> {
        Ok(Self {
            name,
            map: map.try_into().map_err(on(name))?,
        })
    }

    /// The bytes of each CPU's record.
    pub(super) fn each(&self, index: u32) -> Result<Vec<[u8; N]>> {
        let copies = self.map.get(&index, 0).map_err(on(self.name))?;
        Ok(copies.to_vec())
    }

    /// The sum over all CPUs, as a record of nothing but `u64`.
    pub(super) fn sum<T: AnyBitPattern + NoUninit>(&self, index: u32) -> Result<T> {
        let mut sum = vec![0_u64; N / 8];
        for copy in self.each(index)? {
            for (total, part) in sum.iter_mut().zip(copy.chunks_exact(8)) {
                *total += bytemuck::pod_read_unaligned::<u64>(part);
            }
        }
        Ok(*bytemuck::from_bytes(bytemuck::cast_slice(&sum)))
    }
}
