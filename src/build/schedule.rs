//! Runs a graph: each node once all its inputs are done, several at a time, and
//! nothing more once one has failed.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

struct State<E> {
    /// Inputs that each node still waits for.
    waiting: Vec<usize>,
    /// Nodes that may run; the first in the graph comes first.
    ready: BTreeSet<usize>,
    left: usize,
    /// The node that failed, or of several the first in the graph.
    failed: Option<(usize, E)>,
    /// A node panicked: nothing more is run, and all are told.
    broken: bool,
    /// Threads that have nothing to do, and all of them.
    idle: usize,
    threads: usize,
}

struct Schedule<'a, E, N, F, O> {
    state: Mutex<State<E>>,
    changed: Condvar,
    inputs: &'a [Vec<usize>],
    workers: usize,
    node: N,
    on_failure: F,
    only_stopped: O,
}

/// Runs `node` for every index of `inputs`, which names what each one needs.
/// Indices in `inputs` are smaller than the node's own: there are no cycles. Threads are
/// made when nodes are ready that nobody is there for; a chain is run by the caller's own.
///
/// # Errors
/// A failure; nodes under way are waited for, `on_failure` is called for each so that
/// they can be told to stop. Of several failures it is that of the first node in
/// the graph; one that `only_stopped` knows as told to stop gives way to others.
pub(super) fn run<E: Send>(
    inputs: &[Vec<usize>],
    workers: usize,
    node: impl Fn(usize) -> Result<(), E> + Sync,
    on_failure: impl Fn(Option<&E>) + Sync,
    only_stopped: impl Fn(&E) -> bool + Sync,
) -> Result<(), E> {
    let waiting: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let ready = (0..inputs.len()).filter(|&at| waiting[at] == 0).collect();
    let (left, failed) = (inputs.len(), None);
    let state = State { waiting, ready, left, failed, broken: false, idle: 0, threads: 1 };
    let state = Mutex::new(state);
    let changed = Condvar::new();
    let schedule = Schedule { state, changed, inputs, workers, node, on_failure, only_stopped };
    std::thread::scope(|scope| schedule.work(scope));
    match schedule.lock().failed.take() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

impl<E, N, F, O> Schedule<'_, E, N, F, O>
where
    E: Send,
    N: Fn(usize) -> Result<(), E> + Sync,
    F: Fn(Option<&E>) + Sync,
    O: Fn(&E) -> bool + Sync,
{
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        while let Some(at) = self.next(scope) {
            let result = catch_unwind(AssertUnwindSafe(|| (self.node)(at)));
            let mut state = self.lock();
            let result = result.unwrap_or_else(|panic| {
                state.broken = true;
                state.ready.clear();
                (self.on_failure)(None);
                self.changed.notify_all();
                resume_unwind(panic)
            });
            match result {
                Ok(()) => state.finish(self.inputs, at),
                Err(error) => {
                    let order = |at: usize, error: &E| ((self.only_stopped)(error), at);
                    (self.on_failure)(Some(&error));
                    match &state.failed {
                        None => state.failed = Some((at, error)),
                        Some((before, known)) if order(at, &error) < order(*before, known) => {
                            state.failed = Some((at, error));
                        }
                        Some(_) => (),
                    }
                    state.ready.clear();
                }
            }
            if state.is_over() {
                self.changed.notify_all();
            }
        }
    }

    /// Waits for a node that may run; `None` when there will be none any more. If there
    /// are more, somebody else is called for the next one.
    fn next<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.is_over() {
                return None;
            }
            if let Some(at) = state.ready.pop_first() {
                if !state.ready.is_empty() {
                    if state.idle > 0 {
                        self.changed.notify_one();
                    } else if state.threads < self.workers {
                        state.threads += 1;
                        scope.spawn(|| self.work(scope));
                    }
                }
                return Some(at);
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> State<E> {
    fn is_over(&self) -> bool {
        self.broken || self.failed.is_some() || self.left == 0
    }

    fn finish(&mut self, inputs: &[Vec<usize>], done: usize) {
        self.left -= 1;
        for (at, needs) in inputs.iter().enumerate() {
            let hits = needs.iter().filter(|&&need| need == done).count();
            if hits > 0 {
                self.waiting[at] -= hits;
                if self.waiting[at] == 0 && self.failed.is_none() {
                    self.ready.insert(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_chain_needs_no_thread() {
        let inputs = [vec![], vec![0], vec![1, 0], vec![2]];
        let own = std::thread::current().id();
        let done: Result<(), ()> = run(
            &inputs,
            4,
            |_| {
                assert_eq!(std::thread::current().id(), own);
                Ok(())
            },
            |_| (),
            |()| false,
        );
        done.unwrap();
    }

    /// As many at once as there are workers, and no more.
    #[test]
    fn a_wide_graph_takes_all_workers() {
        let inputs = vec![vec![]; 12];
        let meeting = std::sync::Barrier::new(3);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let done: Result<(), ()> = run(
            &inputs,
            3,
            |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                meeting.wait();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            },
            |_| (),
            |()| false,
        );
        done.unwrap();
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn order_and_overlap() {
        // 0 and 1 are independent, 2 needs both (1 twice), 3 needs 2.
        let inputs = [vec![], vec![], vec![0, 1, 1], vec![2]];
        let order = Mutex::new(Vec::new());
        let meeting = std::sync::Barrier::new(2);
        run(
            &inputs,
            4,
            |at| {
                if at < 2 {
                    // Both must be under way at once to get past here.
                    meeting.wait();
                }
                order.lock().unwrap().push(at);
                Ok::<(), ()>(())
            },
            |_| (),
            |()| false,
        )
        .unwrap();
        let order = order.into_inner().unwrap();
        assert_eq!(order[2..], [2, 3]);
    }

    #[test]
    fn a_failure_stops_the_rest() {
        let inputs = [vec![], vec![0], vec![1]];
        let ran = AtomicUsize::new(0);
        let told = AtomicUsize::new(0);
        let result = run(
            &inputs,
            2,
            |at| {
                ran.fetch_add(1, Ordering::SeqCst);
                if at == 1 { Err("broken") } else { Ok(()) }
            },
            |_| {
                told.fetch_add(1, Ordering::SeqCst);
            },
            |_| false,
        );
        assert_eq!((result, ran.into_inner(), told.into_inner()), (Err("broken"), 2, 1));
        assert_eq!(run(&[], 2, |_| Ok::<(), ()>(()), |_| (), |()| false), Ok(()));
    }

    /// A panic is passed on, and nobody waits for what will never be.
    #[test]
    fn a_panic_ends_all() {
        let inputs = [vec![], vec![], vec![0, 1]];
        let told = AtomicUsize::new(0);
        let meeting = std::sync::Barrier::new(2);
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            run(
                &inputs,
                2,
                |at| {
                    meeting.wait();
                    assert_eq!(at, 0, "the other one panics");
                    Ok::<(), ()>(())
                },
                |error| {
                    assert!(error.is_none());
                    told.fetch_add(1, Ordering::SeqCst);
                },
                |()| false,
            )
        }));
        assert!(ended.is_err());
        assert_eq!(told.into_inner(), 1);
    }

    #[test]
    fn of_failures_the_first_node_is_named() {
        let inputs = [vec![], vec![], vec![]];
        for (errors, named) in
            [(["a", "b", "c"], "a"), (["stopped", "b", "c"], "b"), (["stopped"; 3], "stopped")]
        {
            let meeting = std::sync::Barrier::new(3);
            let fail = |at: usize| {
                meeting.wait();
                Err(errors[at])
            };
            assert_eq!(run(&inputs, 3, fail, |_| (), |error| *error == "stopped"), Err(named));
        }
    }
}
