//! The iterators: usage of live jobs, all processes, and the closure of an adoption.

use std::io::Read;

use ffrtmp_abi::decode::{self, Plain};
use ffrtmp_abi::{LiveRow, ProcessKey, TaskRow, program};

use super::{Kernel, KernelError};

impl Kernel {
    /// Usage so far of each live thread of each job.
    pub fn live_rows(&mut self) -> Result<Vec<LiveRow>, KernelError> {
        self.rows(program::ITER_LIVE)
    }

    /// Every process of the machine.
    pub fn all_tasks(&mut self) -> Result<Vec<TaskRow>, KernelError> {
        self.rows(program::ITER_ALL)
    }

    /// Makes every descendant of a member a member. Repeats until a pass adds none, because a child may come before
    /// its parent in a pass; the number of passes is bounded by the depth of the deepest new branch.
    pub fn close_over_children(&mut self) -> Result<usize, KernelError> {
        const PASSES: usize = 64;
        let mut added = 0;
        for _ in 0..PASSES {
            let new: Vec<ProcessKey> = self.rows(program::ITER_CLOSURE)?;
            if new.is_empty() {
                break;
            }
            added += new.len();
        }
        Ok(added)
    }

    fn rows<T: Plain>(&mut self, name: &'static str) -> Result<Vec<T>, KernelError> {
        let mut file = self.iterators.open(name)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|source| KernelError::Iterator { name, source })?;
        Ok(bytes
            .chunks_exact(size_of::<T>())
            .filter_map(|row| decode::read(row).ok())
            .collect())
    }
}
