use std::time::UNIX_EPOCH;

use prometheus::{
    Counter, Gauge, IntGauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::net::process::{self, Usage};

/// The `process_` metrics that every exporter has, read from the kernel whenever somebody asks.
pub(super) struct Process {
    cpu: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    virtual_memory: IntGauge,
    resident_memory: IntGauge,
    threads: IntGauge,
    start_time: Gauge,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        let start_time = Gauge::new(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
        )?;
        // Once: a clock that is set later makes no new process.
        if let Some(started) = process::started()
            .ok()
            .and_then(|started| started.duration_since(UNIX_EPOCH).ok())
        {
            start_time.set(started.as_secs_f64());
        }
        Ok(Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "Processor time of the process, the kernel's for it included",
            )?,
            open_fds: IntGauge::new("process_open_fds", "Open files and sockets")?,
            max_fds: IntGauge::new("process_max_fds", "How many may be open")?,
            virtual_memory: IntGauge::new("process_virtual_memory_bytes", "Address space")?,
            resident_memory: IntGauge::new("process_resident_memory_bytes", "Memory")?,
            threads: IntGauge::new("process_threads", "Threads")?,
            start_time,
        })
    }

    fn all(&self) -> [&dyn Collector; 7] {
        [
            &self.cpu,
            &self.open_fds,
            &self.max_fds,
            &self.virtual_memory,
            &self.resident_memory,
            &self.threads,
            &self.start_time,
        ]
    }

    fn take(&self, usage: &Usage) {
        // Of two who ask at once, one may come with the older sum.
        let news = usage.processor.as_secs_f64() - self.cpu.get();
        self.cpu.inc_by(news.max(0.0));
        for (gauge, value) in [
            (&self.open_fds, usage.descriptors),
            (&self.max_fds, usage.max_descriptors),
            (&self.virtual_memory, usage.virtual_memory),
            (&self.resident_memory, usage.resident_memory),
            (&self.threads, usage.threads),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match process::usage() {
            Ok(usage) => self.take(&usage),
            Err(error) => {
                tracing::debug!(%error, "what the process takes is unknown");
                return Vec::new();
            }
        }
        self.all()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn processor_time_only_grows() {
        let process = Process::new().expect("literals");
        let mut usage = process::usage().expect("/proc");
        for (seconds, told) in [(3.25, 3.25), (3.0, 3.25), (4.5, 4.5)] {
            usage.processor = Duration::from_secs_f64(seconds);
            process.take(&usage);
            assert_eq!(process.cpu.get(), told);
        }
    }
}
