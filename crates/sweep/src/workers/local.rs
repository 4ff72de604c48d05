//! Worker processes on this machine.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use vxf_run::store::Directory;
use vxf_run::{Control, Pending, Prepared, Progress};

use crate::error::io;
use crate::{Error, Result};

/// How often a run is begun again after its worker was killed or stopped.
const TRIES: usize = 3;
/// Interval between looks at the workers.
const PATIENCE: Duration = Duration::from_millis(20);
/// Exit code of a worker that saved its state and stopped.
const INTERRUPTED: i32 = 75;
/// The directory of the workers' messages.
const LOGS: &str = "logs";
/// Size limit of a worker's last message in bytes.
const LONGEST_MESSAGE: usize = 4 << 10;

/// The place of a worker among those that run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub usize);

/// Worker processes on this machine.
pub struct Local<'a> {
    /// How many run at once.
    pub workers: usize,
    /// The command that does one run. It has to save and stop when its standard input closes.
    pub command: &'a dyn Fn(&Pending, Slot) -> Command,
}

/// A running process.
struct Worker {
    pending: Pending,
    slot: Slot,
    child: Child,
    /// Closing it stops the worker.
    input: Option<ChildStdin>,
    log: PathBuf,
    /// Where its own words begin in the log.
    begins: u64,
}

/// What became of a worker's run.
enum End {
    /// It is done, or trained with a metric that failed.
    Done,
    /// The worker was killed or stopped.
    Again(String),
    Failed(String),
}

/// The work of one call: an experiment, its directory, and how its workers run.
struct Work<'a> {
    prepared: &'a Prepared,
    directory: &'a Directory,
    local: &'a Local<'a>,
    /// Where the workers' messages go.
    logs: &'a Path,
}

/// The runs that are left, and how far they are.
#[derive(Default)]
struct Queue {
    waiting: Vec<Pending>,
    running: Vec<Worker>,
    /// How often each run was begun.
    tries: BTreeMap<usize, usize>,
    /// The first error; no further run begins after it.
    failed: Option<Error>,
}

impl Local<'_> {
    /// Executes all missing runs of the experiment that has begun in `root` by worker processes. A run whose
    /// worker is killed is begun again from its last checkpoint, three times at most.
    ///
    /// # Errors
    /// When a run cannot be trained; the other workers then save and stop. [`vxf_run::Error::Interrupted`]
    /// when `control` asked to stop. A failed metric is not an error here: the run stays pending.
    pub fn execute(
        &self,
        prepared: &Prepared,
        root: &Path,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let directory = prepared.directory(root, control, progress)?;
        let logs = root.join(LOGS);
        fs::create_dir_all(&logs).map_err(io("create", &logs))?;
        let work = Work { prepared, directory: &directory, local: self, logs: &logs };
        let waiting = prepared.lacking(&directory);
        progress.begin(waiting.iter().map(|pending| work.steps_of(pending)).sum());
        let done = work.distribute(waiting, control, progress);
        progress.end();
        // Logs of failed runs stay.
        let _ = fs::remove_dir(&logs);
        done
    }
}

impl Work<'_> {
    fn distribute(
        &self,
        waiting: Vec<Pending>,
        control: Control<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut queue = Queue { waiting, ..Queue::default() };
        loop {
            let stops = control.stops() || queue.failed.is_some();
            if !stops {
                self.start(&mut queue, progress);
            }
            let ends = stops || queue.waiting.is_empty() || queue.failed.is_some();
            if queue.running.is_empty() && ends {
                break;
            }
            if stops {
                queue.running.iter_mut().for_each(|worker| drop(worker.input.take()));
            }
            self.collect(&mut queue, stops, progress)?;
            std::thread::sleep(PATIENCE);
        }
        let Self { prepared, directory, .. } = *self;
        match queue.failed {
            Some(error) => Err(error),
            None if control.stops() && !prepared.all_done(directory) => {
                Err(vxf_run::Error::Interrupted { path: directory.root().to_owned() }.into())
            }
            None => Ok(()),
        }
    }

    /// Starts workers while there are free ones, and runs that can begin.
    fn start(&self, queue: &mut Queue, progress: &dyn Progress) {
        while queue.running.len() < self.local.workers {
            let Some(at) = self.next(queue) else { return };
            let pending = queue.waiting.remove(at);
            progress.run(&self.prepared.graph.runs[pending.run].id);
            *queue.tries.entry(pending.run).or_insert(0) += 1;
            match Worker::start(pending, &queue.running, self.logs, self.local) {
                Ok(worker) => queue.running.push(worker),
                Err(error) => {
                    queue.failed = Some(error);
                    return;
                }
            }
        }
    }

    /// Takes the workers that have ended out of the queue.
    fn collect(&self, queue: &mut Queue, stops: bool, progress: &dyn Progress) -> Result<()> {
        let mut index = 0;
        while index < queue.running.len() {
            let log = queue.running[index].log.clone();
            let status = queue.running[index].child.try_wait();
            let Some(status) = status.map_err(io("wait for the worker of", log))? else {
                index += 1;
                continue;
            };
            let worker = queue.running.remove(index);
            let run = worker.pending.run;
            match self.end(&worker, status) {
                End::Done => {
                    for _ in 0..self.prepared.steps(run) {
                        progress.step(None);
                    }
                }
                End::Again(_) if stops => {}
                End::Again(why) if queue.tries.get(&run).is_some_and(|tries| *tries < TRIES) => {
                    let path = &worker.pending.path;
                    progress.note(&format!("{path}: {why}; it is begun again"));
                    queue.waiting.insert(0, worker.pending);
                }
                End::Again(why) | End::Failed(why) => {
                    queue.failed.get_or_insert(Error::Worker {
                        run: worker.pending.path,
                        log: worker.log,
                        problem: why,
                    });
                }
            }
        }
        Ok(())
    }

    /// The first waiting run whose parent is neither waiting nor running.
    fn next(&self, Queue { waiting, running, .. }: &Queue) -> Option<usize> {
        waiting.iter().position(|pending| {
            self.prepared.graph.runs[pending.run].parent.is_none_or(|parent| {
                waiting.iter().all(|other| other.run != parent)
                    && running.iter().all(|worker| worker.pending.run != parent)
            })
        })
    }

    fn steps_of(&self, pending: &Pending) -> u64 {
        match self.holds(pending.run) {
            true => 0,
            false => self.prepared.steps(pending.run),
        }
    }

    /// Whether a run is trained.
    fn holds(&self, run: usize) -> bool {
        self.directory.holds(&self.prepared.graph.runs[run].id)
    }

    /// What became of a run is read from the directory; the exit status only says why.
    fn end(&self, worker: &Worker, status: ExitStatus) -> End {
        let run = worker.pending.run;
        if self.prepared.is_done(self.directory, run) {
            // It only held what the worker had to say on the way.
            let _ = fs::remove_file(&worker.log);
            return End::Done;
        }
        match status.code() {
            None => End::Again(format!("its worker was killed ({status})")),
            Some(INTERRUPTED) => End::Again("its worker was stopped".into()),
            // Trained, and a metric failed: the end of the experiment reports it.
            Some(_) if self.holds(run) => End::Done,
            Some(_) => End::Failed(last_message(worker, status)),
        }
    }
}

impl Worker {
    fn start(pending: Pending, running: &[Self], logs: &Path, local: &Local<'_>) -> Result<Self> {
        let taken = |slot: &usize| running.iter().any(|worker| worker.slot.0 == *slot);
        let slot = Slot((0..).find(|slot| !taken(slot)).unwrap_or_default());
        let log = logs.join(format!("{}.log", &pending.digest));
        let open = || -> std::io::Result<(File, File)> {
            let file = OpenOptions::new().create(true).append(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(io("write", &log))?;
        let begins = fs::metadata(&log).map_or(0, |file| file.len());
        let mut command = (local.command)(&pending, slot);
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        let program = PathBuf::from(command.get_program());
        let mut child = command.spawn().map_err(io("start", program))?;
        let input = child.stdin.take();
        Ok(Self { pending, slot, child, input, log, begins })
    }
}

/// The last error in what a worker has written to its log.
fn last_message(worker: &Worker, status: ExitStatus) -> String {
    const ERROR: &str = "error: ";
    let bytes = fs::read(&worker.log).unwrap_or_default();
    // Before it are the words of earlier tries.
    let own = bytes.get(worker.begins as usize..).unwrap_or_default();
    let text = String::from_utf8_lossy(own);
    match text.rfind(ERROR) {
        Some(at) => {
            let message = text[at + ERROR.len()..].lines().next().unwrap_or_default();
            message.chars().take(LONGEST_MESSAGE).collect()
        }
        None => format!("its worker ended with {status}"),
    }
}
