//! Runs a graph: each node once all its inputs are done, several at a time, and
//! nothing more once one has failed.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<E> {
    /// Inputs that each node still waits for.
    waiting: Vec<usize>,
    /// Nodes that may run; the first in the graph comes first.
    ready: BTreeSet<usize>,
    left: usize,
    /// The node that failed, or of several the first in the graph.
    failed: Option<(usize, E)>,
}

/// Runs `node` for every index of `inputs`, which names what each one needs.
/// Indices in `inputs` are smaller than the node's own: there are no cycles.
///
/// # Errors
/// A failure; nodes under way are waited for, `on_failure` is called once so that
/// they can be told to stop. Of several failures it is that of the first node in
/// the graph; one that `only_stopped` knows as told to stop gives way to others.
pub(super) fn run<E: Send>(
    inputs: &[Vec<usize>],
    workers: usize,
    node: impl Fn(usize) -> Result<(), E> + Sync,
    on_failure: impl Fn() + Sync,
    only_stopped: impl Fn(&E) -> bool + Sync,
) -> Result<(), E> {
    let waiting: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let ready = (0..inputs.len()).filter(|&at| waiting[at] == 0).collect();
    let state = Mutex::new(State { waiting, ready, left: inputs.len(), failed: None });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, inputs.len().max(1)) {
            scope.spawn(|| {
                while let Some(at) = next(&state, &changed) {
                    let result = node(at);
                    let mut state = lock(&state);
                    match result {
                        Ok(()) => finish(&mut state, inputs, at),
                        Err(error) => {
                            let order = |at: usize, error: &E| (only_stopped(error), at);
                            match &state.failed {
                                None => {
                                    on_failure();
                                    state.failed = Some((at, error));
                                }
                                Some((before, known))
                                    if order(at, &error) < order(*before, known) =>
                                {
                                    state.failed = Some((at, error));
                                }
                                Some(_) => (),
                            }
                            state.ready.clear();
                        }
                    }
                    changed.notify_all();
                }
            });
        }
    });
    match lock(&state).failed.take() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn lock<E>(state: &Mutex<State<E>>) -> MutexGuard<'_, State<E>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a node that may run; `None` when there will be none any more.
fn next<E>(state: &Mutex<State<E>>, changed: &Condvar) -> Option<usize> {
    let mut state = lock(state);
    loop {
        if state.failed.is_some() || state.left == 0 {
            return None;
        }
        if let Some(at) = state.ready.pop_first() {
            return Some(at);
        }
        state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn finish<E>(state: &mut State<E>, inputs: &[Vec<usize>], done: usize) {
    state.left -= 1;
    for (at, needs) in inputs.iter().enumerate() {
        let hits = needs.iter().filter(|&&need| need == done).count();
        if hits > 0 {
            state.waiting[at] -= hits;
            if state.waiting[at] == 0 && state.failed.is_none() {
                state.ready.insert(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
            || (),
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
            || {
                told.fetch_add(1, Ordering::SeqCst);
            },
            |_| false,
        );
        assert_eq!((result, ran.into_inner(), told.into_inner()), (Err("broken"), 2, 1));
        assert_eq!(run(&[], 2, |_| Ok::<(), ()>(()), || (), |()| false), Ok(()));
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
            assert_eq!(run(&inputs, 3, fail, || (), |error| *error == "stopped"), Err(named));
        }
    }
}
