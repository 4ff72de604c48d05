//! What one worker needs and how many fit on this machine.

use vxf_access::device;
use vxf_run::Prepared;

use crate::Result;

/// Share of the free memory that workers may use by default.
const SHARE: f64 = 0.8;

/// Workers on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// How many run at once.
    pub workers: usize,
    /// Threads of each.
    pub threads: usize,
    /// Estimated memory of the largest in bytes: of the GPU, if it computes on one.
    pub bytes: u64,
    /// Free memory in bytes, if known.
    pub free: Option<u64>,
    /// Number of GPUs to share out; 0 leaves the device to the recipe.
    pub gpus: usize,
}

impl Resources {
    /// Workers for `runs` runs of an experiment on this machine; `asked` sets their number.
    ///
    /// # Errors
    /// When the memory of a run cannot be estimated.
    pub fn of(prepared: &Prepared, runs: usize, asked: Option<usize>) -> Result<Self> {
        let device = prepared.base.device();
        let named = prepared.experiment.recipe().settings.device.as_str();
        let shared = !device.is_cpu() && matches!(named, "auto" | "cuda");
        let usable =
            |all: Vec<device::Cuda>| all.iter().filter(|gpu| gpu.problem.is_none()).count();
        let gpus = if shared { device::found().map_or(0, usable) } else { 0 };
        let (bytes, free) = (prepared.bytes()?, device::free(device));
        Ok(Self::share(asked, runs, prepared.threads, bytes, free, gpus, !device.is_cpu()))
    }

    /// Whether the workers may need more memory than is free.
    pub fn exceed_memory(&self) -> bool {
        // Each GPU has a memory of its own.
        let beside = self.workers.div_ceil(self.gpus.max(1)) as u64;
        self.free.is_some_and(|free| beside.saturating_mul(self.bytes) > free)
    }

    /// For `runs` runs: as many workers as there are threads, and as fit into the free memory; one for each
    /// GPU. A number of workers that is `asked` for is used as it is.
    fn share(
        asked: Option<usize>,
        runs: usize,
        threads: usize,
        bytes: u64,
        free: Option<u64>,
        gpus: usize,
        on_gpu: bool,
    ) -> Self {
        let most = match (on_gpu, gpus) {
            (true, gpus) => gpus.max(1),
            (false, _) => {
                let fit = |free: u64| (free as f64 * SHARE / bytes.max(1) as f64) as usize;
                threads.min(free.map_or(usize::MAX, fit))
            }
        };
        let workers = asked.unwrap_or(most.min(runs)).max(1);
        Self { workers, threads: (threads / workers).max(1), bytes, free, gpus }
    }
}

#[cfg(test)]
mod tests {
    use super::Resources;

    const GIB: u64 = 1 << 30;

    #[test]
    fn workers_fit_cores_memory_and_runs() {
        let of = |asked, runs, threads, free| {
            let found = Resources::share(asked, runs, threads, GIB, free, 0, false);
            (found.workers, found.threads, found.exceed_memory())
        };
        assert_eq!(of(None, 100, 8, None), (8, 1, false));
        assert_eq!(of(None, 3, 8, None), (3, 2, false));
        // Four fifths of six GiB hold four.
        assert_eq!(of(None, 100, 8, Some(6 * GIB)), (4, 2, false));
        assert_eq!(of(None, 100, 8, Some(GIB / 2)), (1, 8, true));
        assert_eq!(of(Some(7), 100, 8, Some(6 * GIB)), (7, 1, true));
        assert_eq!(of(Some(12), 100, 8, None), (12, 1, false));
    }

    #[test]
    fn each_gpu_has_one_worker() {
        let of = |asked, gpus| Resources::share(asked, 100, 16, GIB, Some(2 * GIB), gpus, true);
        assert_eq!((of(None, 4).workers, of(None, 4).threads), (4, 4));
        // A recipe that names one GPU has one worker there.
        assert_eq!(of(None, 0).workers, 1);
        assert!(!of(Some(8), 4).exceed_memory() && of(Some(12), 4).exceed_memory());
    }
}
