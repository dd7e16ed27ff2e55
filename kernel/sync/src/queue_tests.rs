use super::*;

#[cfg(not(loom))]
mod hosted {
    use super::*;
    use std::{thread, vec::Vec};

    #[test]
    fn values_leave_in_order_and_a_full_queue_says_so() {
        let queue = Queue::<u32, 4>::new();
        for lap in 0..10 {
            for value in 0..4 {
                assert_eq!(queue.push(lap * 4 + value), Ok(()));
            }
            assert_eq!(queue.push(99), Err(Rejected(99)));
            assert_eq!(queue.len(), 4);
            assert!(!queue.is_empty());
            for value in 0..4 {
                assert_eq!(queue.pop(), Some(lap * 4 + value));
            }
            assert_eq!(queue.pop(), None);
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn nothing_is_lost_doubled_or_reordered_between_many() {
        const PRODUCERS: usize = 3;
        const EACH: usize = 20_000;
        let queue = Queue::<(usize, usize), 8>::new();
        let taken = thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let queue = &queue;
                scope.spawn(move || {
                    for number in 0..EACH {
                        while queue.push((producer, number)).is_err() {
                            thread::yield_now();
                        }
                    }
                });
            }
            let consumers: Vec<_> = (0..2)
                .map(|_| {
                    let queue = &queue;
                    scope.spawn(move || {
                        let mut taken = Vec::new();
                        while taken.last() != Some(&(usize::MAX, 0)) {
                            match queue.pop() {
                                Some(value) => taken.push(value),
                                None => thread::yield_now(),
                            }
                        }
                        taken.pop();
                        taken
                    })
                })
                .collect();
            scope.spawn(|| {
                // Each consumer ends once every value was handed out.
                while queue.head.load(Relaxed) < PRODUCERS * EACH {
                    thread::yield_now();
                }
                for _ in 0..2 {
                    while queue.push((usize::MAX, 0)).is_err() {}
                }
            });
            consumers
                .into_iter()
                .map(|consumer| consumer.join().unwrap())
                .collect::<Vec<_>>()
        });
        for one in &taken {
            for producer in 0..PRODUCERS {
                let numbers: Vec<_> = one.iter().filter(|value| value.0 == producer).collect();
                assert!(numbers.is_sorted(), "one consumer saw them out of order");
            }
        }
        let mut all: Vec<_> = taken.concat();
        all.sort_unstable();
        let expected: Vec<_> = (0..PRODUCERS)
            .flat_map(|producer| (0..EACH).map(move |number| (producer, number)))
            .collect();
        assert_eq!(all, expected);
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;
    use loom::{sync::Arc, thread};

    /// Lets two producers push through a queue of two places while a consumer takes, so that laps
    /// are reused.
    fn producers_and_consumer(publish: Ordering, relieve: Ordering) {
        let queue = Arc::new(Queue::<u32, 2>::new());
        let producers = [1, 2].map(|tag| {
            let queue = queue.clone();
            thread::spawn(move || {
                (0..2)
                    .filter(|number| {
                        let value = tag * 10 + number;
                        let pushed = match publish {
                            Release => queue.push(value),
                            weakened => queue.push_with(value, weakened),
                        };
                        pushed.is_ok()
                    })
                    .count()
            })
        });
        let mut last = [0; 3];
        let mut read = 0;
        let mut take = || {
            let value = match relieve {
                Release => queue.pop(),
                weakened => queue.pop_with(weakened),
            }?;
            let producer = (value / 10) as usize;
            assert!(value % 10 + 1 > last[producer], "out of order, or twice");
            last[producer] = value % 10 + 1;
            read += 1;
            Some(())
        };
        take();
        take();
        let pushed: usize = producers
            .map(|producer| producer.join().unwrap())
            .iter()
            .sum();
        while take().is_some() {}
        assert_eq!(read, pushed, "lost");
    }

    fn explore(f: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(f);
    }

    #[test]
    fn values_cross_cpus_whole_once_and_in_order() {
        explore(|| producers_and_consumer(Release, Release));
    }

    #[test]
    fn a_push_into_a_queue_with_room_succeeds_whoever_else_pushes() {
        explore(|| {
            let queue = Arc::new(Queue::<u32, 2>::new());
            let others = queue.clone();
            let other = thread::spawn(move || others.push(1));
            assert_eq!(queue.push(2), Ok(()));
            assert_eq!(other.join().unwrap(), Ok(()));
            assert_eq!(queue.len(), 2);
        });
    }

    #[test]
    fn two_consumers_never_take_one_value_and_each_gets_one_of_two() {
        explore(|| {
            let queue = Arc::new(Queue::<u32, 2>::new());
            queue.push(1).unwrap();
            queue.push(2).unwrap();
            let others = queue.clone();
            let other = thread::spawn(move || others.pop().unwrap());
            let value = queue.pop().unwrap();
            assert_eq!(value + other.join().unwrap(), 3);
        });
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn loom_catches_a_value_that_is_not_published() {
        explore(|| producers_and_consumer(Relaxed, Release));
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn loom_catches_a_place_that_is_relieved_too_early() {
        explore(|| producers_and_consumer(Release, Relaxed));
    }
}
