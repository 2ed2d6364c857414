//! What threads are asked, in order. Of those that have nothing to do the one that worked last goes on: where little is asked few
//! connections are used, whose statements are prepared and whose caches are warm.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

struct State<T> {
    waiting: VecDeque<T>,
    /// Threads that have nothing to do, the one that worked last at the end.
    idle: Vec<Thread>,
    is_closed: bool,
}

struct Queue<T>(Mutex<State<T>>);

impl<T> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where it is asked. When this is gone and nothing is left to do, the threads are told so.
pub(crate) struct Sender<T>(Arc<Queue<T>>);

/// A thread's end.
pub(crate) struct Receiver<T>(Arc<Queue<T>>);

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { waiting: VecDeque::new(), idle: Vec::new(), is_closed: false };
    let queue = Arc::new(Queue(Mutex::new(state)));
    (Sender(queue.clone()), Receiver(queue))
}

impl<T> Sender<T> {
    pub fn send(&self, job: T) {
        let mut state = self.0.state();
        state.waiting.push_back(job);
        let idle = state.idle.pop();
        drop(state);
        // Where all have something to do, whoever has done that takes it.
        if let Some(thread) = idle {
            thread.unpark();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        state.idle.drain(..).for_each(|thread| thread.unpark());
    }
}

impl<T> Receiver<T> {
    /// The next; `None` when nobody asks any more.
    pub fn receive(&self) -> Option<T> {
        self.receive_group(1, |_, _| false)?.pop()
    }

    /// The next with those right behind it that may join it, at most `limit` in all.
    pub fn receive_group(&self, limit: usize, may_join: impl Fn(&T, &T) -> bool) -> Option<Vec<T>> {
        let mut state = self.0.state();
        loop {
            if let Some(first) = state.waiting.pop_front() {
                let mut group = vec![first];
                while group.len() < limit && state.waiting.front().is_some_and(|next| may_join(&group[0], next)) {
                    group.extend(state.waiting.pop_front());
                }
                return Some(group);
            }
            if state.is_closed {
                return None;
            }
            let own = std::thread::current();
            state.idle.push(own.clone());
            drop(state);
            std::thread::park();
            state = self.0.state();
            // Nobody may have woken it.
            state.idle.retain(|thread| thread.id() != own.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_join_is_left_in_its_place() {
        let (sender, receiver) = channel();
        [1, 1, 2, 1].into_iter().for_each(|job| sender.send(job));
        assert_eq!(receiver.receive_group(64, |first, next| first == next), Some(vec![1, 1]));
        assert_eq!(receiver.receive_group(64, |first, next| first <= next), Some(vec![2]));
        drop(sender);
        assert_eq!(receiver.receive(), Some(1), "what was asked before is done");
        assert_eq!(receiver.receive(), None);
    }

    #[test]
    fn all_that_is_asked_is_done_once_and_threads_end() {
        let (sender, receiver) = channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let receiver = receiver.clone();
                std::thread::spawn(move || std::iter::from_fn(|| receiver.receive()).collect::<Vec<u32>>())
            })
            .collect();
        (0..10_000).for_each(|job| sender.send(job));
        drop(sender);
        let mut done: Vec<u32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..10_000).collect::<Vec<u32>>());
    }

    #[test]
    fn who_worked_last_goes_on() {
        let (sender, receiver) = channel::<std::sync::mpsc::Sender<std::thread::ThreadId>>();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let receiver = receiver.clone();
                std::thread::spawn(move || {
                    while let Some(job) = receiver.receive() {
                        job.send(std::thread::current().id()).unwrap();
                    }
                })
            })
            .collect();
        let all_idle = || {
            while receiver.0.state().idle.len() < 3 {
                std::thread::yield_now();
            }
        };
        let (by, who) = std::sync::mpsc::channel();
        let ask = || {
            all_idle();
            sender.send(by.clone());
            who.recv().unwrap()
        };
        let first = ask();
        assert!((0..20).all(|_| ask() == first));
        drop(sender);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
