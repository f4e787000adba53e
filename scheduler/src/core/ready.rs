//! The jobs that wait and may be given out now: by band, then by tenant and class, then by number.
//!
//! A class of needs that no calling node can meet is one bucket that is stepped over, however many jobs it holds: that
//! is why a million waiting GPU jobs do not slow a CPU node down.

use std::collections::BTreeMap;

use ffrtmp_api::{Band, Queue};

use super::{ClassId, Seq, TenantId};

/// Where one waiting job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its band.
    pub band: Band,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its class of needs.
    pub class: ClassId,
}

/// Jobs of one tenant and class in one band: number, and the boot time since which it waits.
pub type Bucket = BTreeMap<Seq, u64>;

type Buckets = BTreeMap<(TenantId, ClassId), Bucket>;

/// All waiting jobs.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    bands: [Buckets; Band::COUNT],
    length: usize,
}

impl Ready {
    /// Adds a job that waits since `since_ms` (boot time).
    pub fn insert(&mut self, seq: Seq, place: Place, since_ms: u64) {
        if let Some(band) = self.bands.get_mut(place.band.index()) {
            let bucket = band.entry((place.tenant, place.class)).or_default();
            if bucket.insert(seq, since_ms).is_none() {
                self.length += 1;
            }
        }
    }

    /// Takes a job out; its waiting time's start when it was there.
    pub fn remove(&mut self, seq: Seq, place: Place) -> Option<u64> {
        let band = self.bands.get_mut(place.band.index())?;
        let key = (place.tenant, place.class);
        let bucket = band.get_mut(&key)?;
        let since = bucket.remove(&seq)?;
        if bucket.is_empty() {
            band.remove(&key);
        }
        self.length -= 1;
        Some(since)
    }

    /// True when the job waits there.
    pub fn contains(&self, seq: Seq, place: Place) -> bool {
        self.bands
            .get(place.band.index())
            .and_then(|band| band.get(&(place.tenant, place.class)))
            .is_some_and(|bucket| bucket.contains_key(&seq))
    }

    /// Since when the job waits there.
    pub fn since(&self, seq: Seq, place: Place) -> Option<u64> {
        let band = self.bands.get(place.band.index())?;
        band.get(&(place.tenant, place.class))?.get(&seq).copied()
    }

    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The buckets of a band.
    pub fn buckets(&self, band: Band) -> impl Iterator<Item = (TenantId, ClassId, &Bucket)> {
        self.bands
            .get(band.index())
            .into_iter()
            .flatten()
            .map(|((tenant, class), bucket)| (*tenant, *class, bucket))
    }

    /// The bands of a queue, most urgent first.
    pub fn bands(queue: Queue) -> impl Iterator<Item = Band> {
        (0..Band::COUNT)
            .filter_map(Band::from_index)
            .filter(move |band| band.queue == queue)
    }

    /// How many wait in a band.
    pub fn depth(&self, band: Band) -> usize {
        self.buckets(band).map(|(_, _, bucket)| bucket.len()).sum()
    }

    /// How many would be given out before this job, were every node able to run every job: those of more urgent bands
    /// and those of its own with a smaller number.
    pub fn ahead(&self, seq: Seq, place: Place) -> usize {
        let before: usize = (0..place.band.index())
            .filter_map(Band::from_index)
            .map(|band| self.depth(band))
            .sum();
        let beside: usize = self
            .buckets(place.band)
            .map(|(_, _, bucket)| bucket.range(..seq).count())
            .sum();
        before + beside
    }

    /// Every waiting job with its place, for audits.
    pub fn iter(&self) -> impl Iterator<Item = (Seq, Place)> {
        (0..Band::COUNT)
            .filter_map(Band::from_index)
            .flat_map(move |band| {
                self.buckets(band).flat_map(move |(tenant, class, bucket)| {
                    let place = Place { band, tenant, class };
                    bucket.keys().map(move |seq| (*seq, place))
                })
            })
    }
}
