//! Runs a graph: each node once all its inputs are done, several at a time, and
//! nothing more once one has failed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<E> {
    /// Inputs that each node still waits for.
    waiting: Vec<usize>,
    /// Nodes that may run, the next one last.
    ready: Vec<usize>,
    left: usize,
    failed: Option<E>,
}

/// Runs `node` for every index of `inputs`, which names what each one needs.
/// Indices in `inputs` are smaller than the node's own: there are no cycles.
///
/// # Errors
/// The first failure; nodes under way are waited for, `on_failure` is called
/// once so that they can be told to stop.
pub(super) fn run<E: Send>(
    inputs: &[Vec<usize>],
    workers: usize,
    node: impl Fn(usize) -> Result<(), E> + Sync,
    on_failure: impl Fn() + Sync,
) -> Result<(), E> {
    let waiting: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let ready = (0..inputs.len()).rev().filter(|&at| waiting[at] == 0).collect();
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
                            if state.failed.is_none() {
                                on_failure();
                                state.failed = Some(error);
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
        Some(error) => Err(error),
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
        if let Some(at) = state.ready.pop() {
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
                state.ready.push(at);
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
        );
        assert_eq!((result, ran.into_inner(), told.into_inner()), (Err("broken"), 2, 1));
        assert_eq!(run(&[], 2, |_| Ok::<(), ()>(()), || ()), Ok(()));
    }
}
