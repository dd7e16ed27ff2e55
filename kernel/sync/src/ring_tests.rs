//! Tests the same-CPU protocol: an interrupt, and an NMI within it, at every step of a push, and
//! two mutants that must be caught. With `--cfg loom` it tests the cross-CPU protocol: a writer and
//! the reader, with slots reused.

use super::*;

#[cfg(not(loom))]
const WORDS: usize = 3;

#[cfg(not(loom))]
mod interrupted {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    type Small = Ring<2, WORDS>;
    type Push = fn(&Small, &[u64; WORDS], &mut dyn Steps) -> Result<(), Full>;

    fn real(ring: &Small, record: &[u64; WORDS], steps: &mut dyn Steps) -> Result<(), Full> {
        ring.push_in_steps(record, steps)
    }

    /// Reserves by a load and a store: a writer that interrupts between them gets the same slot.
    fn reserve_by_store(
        ring: &Small,
        record: &[u64; WORDS],
        steps: &mut dyn Steps,
    ) -> Result<(), Full> {
        let number = ring.reserved.load(Ordering::Relaxed);
        if number - ring.taken.load(Ordering::Relaxed) >= 2 {
            ring.lost.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        steps.step();
        ring.reserved.store(number + 1, Ordering::Relaxed);
        fill(ring, number, record, steps);
        ring.slots[(number & 1) as usize]
            .committed
            .store(number + 1, Ordering::Release);
        Ok(())
    }

    /// Commits before it copies: a reader that comes between them sees an old record.
    fn commit_first(
        ring: &Small,
        record: &[u64; WORDS],
        steps: &mut dyn Steps,
    ) -> Result<(), Full> {
        let number = ring.reserved.load(Ordering::Relaxed);
        if number - ring.taken.load(Ordering::Relaxed) >= 2 {
            ring.lost.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        ring.reserved.store(number + 1, Ordering::Relaxed);
        ring.slots[(number & 1) as usize]
            .committed
            .store(number + 1, Ordering::Release);
        steps.step();
        fill(ring, number, record, steps);
        Ok(())
    }

    fn fill(ring: &Small, number: u64, record: &[u64; WORDS], steps: &mut dyn Steps) {
        let slot = &ring.slots[(number & 1) as usize];
        for (word, &value) in slot.words.iter().zip(record) {
            steps.step();
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What a schedule did to one ring.
    struct World<'r> {
        ring: &'r Small,
        push: Push,
        stored: Vec<u64>,
        refused: u64,
        read: Vec<[u64; WORDS]>,
    }

    impl World<'_> {
        fn push(&mut self, tag: u64, steps_at: &[Action]) {
            let (ring, push) = (self.ring, self.push);
            let mut at = At {
                world: self,
                actions: steps_at,
                step: 0,
                tag,
            };
            match push(ring, &[tag; WORDS], &mut at) {
                Ok(()) => self.stored.push(tag),
                Err(Full) => self.refused += 1,
            }
        }

        fn read_all(&mut self) {
            while let Some(record) = self.ring.take() {
                self.read.push(record);
            }
        }
    }

    /// What happens before a given step of a push.
    #[derive(Clone, Copy)]
    enum Action {
        /// An interrupt that pushes, and is itself interrupted before the given step.
        Interrupt { at: usize, nmi_at: Option<usize> },
        /// The reader, on another CPU, takes the records that there are.
        Read { at: usize },
    }

    struct At<'a, 'r> {
        world: &'a mut World<'r>,
        actions: &'a [Action],
        step: usize,
        tag: u64,
    }

    impl Steps for At<'_, '_> {
        fn step(&mut self) {
            let now = self.step;
            self.step += 1;
            for action in self.actions {
                match *action {
                    Action::Interrupt { at, nmi_at } if at == now => {
                        let nmi = nmi_at.map(|at| Action::Interrupt { at, nmi_at: None });
                        self.world.push(self.tag * 10 + 1, nmi.as_slice());
                    }
                    Action::Read { at } if at == now => self.world.read_all(),
                    _ => {}
                }
            }
        }
    }

    const STEPS: usize = 12;

    /// Runs every schedule of one interrupt, an NMI within it and a reader; returns whether all
    /// held.
    fn survives(push: Push) -> bool {
        for at in 0..STEPS {
            for nmi_at in (0..STEPS).map(Some).chain([None]) {
                for read_at in 0..STEPS {
                    let ring = Small::new();
                    let mut world = World {
                        ring: &ring,
                        push,
                        stored: Vec::new(),
                        refused: 0,
                        read: Vec::new(),
                    };
                    // Fills the ring once round, so that its slots hold old records.
                    for tag in [7, 8] {
                        world.push(tag, &[]);
                    }
                    world.read_all();
                    world.push(
                        1,
                        &[
                            Action::Interrupt { at, nmi_at },
                            Action::Read { at: read_at },
                        ],
                    );
                    world.read_all();
                    world.stored.sort_unstable();
                    let mut read: Vec<u64> = world.read.iter().map(|record| record[0]).collect();
                    read.sort_unstable();
                    let whole = world
                        .read
                        .iter()
                        .all(|r| r.iter().all(|&word| word == r[0]));
                    if !whole || read != world.stored || ring.lost() != world.refused {
                        return false;
                    }
                }
            }
        }
        true
    }

    #[test]
    fn a_push_survives_an_interrupt_and_an_nmi_at_every_step() {
        assert!(survives(real));
    }

    /// Pushes a record and lets the reader take it, before one step of a push.
    struct Overtake<'r> {
        ring: &'r Small,
        at: usize,
        step: usize,
    }

    impl Steps for Overtake<'_> {
        fn step(&mut self) {
            if self.step == self.at {
                self.ring.push(&[5; WORDS]).unwrap();
                while self.ring.take().is_some() {}
            }
            self.step += 1;
        }
    }

    #[test]
    fn a_push_that_is_overtaken_is_not_refused_while_there_is_room() {
        for at in 0..STEPS {
            let ring = Small::new();
            let mut overtake = Overtake {
                ring: &ring,
                at,
                step: 0,
            };
            let pushed = ring.push_in_steps(&[1; WORDS], &mut overtake);
            assert_eq!((pushed, ring.lost()), (Ok(()), 0), "at step {at}");
        }
    }

    #[test]
    fn the_enumeration_catches_a_reservation_without_cas() {
        assert!(!survives(reserve_by_store));
    }

    #[test]
    fn the_enumeration_catches_a_commit_before_the_copy() {
        assert!(!survives(commit_first));
    }

    #[test]
    fn a_full_ring_refuses_the_newest_and_counts_it() {
        let ring = Small::new();
        assert_eq!(ring.head(), Head::Empty);
        assert_eq!(ring.push(&[1; WORDS]), Ok(()));
        assert_eq!(ring.push(&[2; WORDS]), Ok(()));
        assert_eq!(ring.room(), 0);
        assert_eq!(ring.push(&[3; WORDS]), Err(Full));
        assert_eq!(ring.lost(), 1);
        assert_eq!(ring.take(), Some([1; WORDS]));
        assert_eq!(ring.room(), 1);
        assert_eq!(ring.push(&[4; WORDS]), Ok(()));
        assert_eq!(ring.take(), Some([2; WORDS]));
        assert_eq!(ring.take(), Some([4; WORDS]));
        assert_eq!(ring.take(), None);
    }

    #[test]
    fn a_peek_shows_the_record_that_is_taken_next() {
        let ring = Small::new();
        for tag in 1..=3 {
            ring.push(&[tag, tag + 10, tag + 20]).unwrap();
            let shown = [0, 1, 2].map(|word| ring.peek(word));
            assert_eq!(ring.take(), Some(shown));
        }
    }

    #[test]
    fn a_record_whose_writer_stopped_can_be_passed_over() {
        let ring = Small::new();
        ring.reserved.store(1, Ordering::Relaxed);
        assert_eq!(ring.head(), Head::InFlight);
        ring.push(&[2; WORDS]).unwrap();
        assert_eq!(ring.head(), Head::InFlight);
        assert_eq!(ring.take(), None);
        ring.skip();
        assert_eq!(ring.take(), Some([2; WORDS]));
        ring.skip();
        assert_eq!(ring.head(), Head::Empty);
        // The last record's writer was stopped as well; a reader passes over nothing in an empty
        // ring.
        ring.reserved.store(3, Ordering::Relaxed);
        ring.skip();
        assert_eq!(ring.head(), Head::Empty);
        ring.push(&[4; WORDS]).unwrap();
        assert_eq!(ring.take(), Some([4; WORDS]));
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Lets a writer push three records through a ring of two while the reader takes them.
    fn writer_and_reader(commit: Ordering) {
        let ring = Arc::new(Ring::<2, 2>::new());
        let writer = {
            let ring = ring.clone();
            thread::spawn(move || (1..=3).filter(|&tag| push(&ring, tag, commit)).count())
        };
        let mut last = 0;
        let mut read = 0;
        for _ in 0..2 {
            if let Some([a, b]) = ring.take() {
                assert!(a == b && a > last, "torn, or out of order");
                (last, read) = (a, read + 1);
            }
        }
        let stored = writer.join().unwrap();
        while let Some([a, b]) = ring.take() {
            assert!(a == b && a > last, "torn, or out of order");
            (last, read) = (a, read + 1);
        }
        assert_eq!(read, stored);
    }

    /// A ring of one: the slot is written again as soon as the reader has let it go.
    #[test]
    fn a_slot_is_written_again_only_behind_its_last_read() {
        loom::model(|| {
            let ring = Arc::new(Ring::<1, 2>::new());
            ring.push(&[1; 2]).unwrap();
            let writers = Arc::clone(&ring);
            // The writer is the thread that loom runs second. Of a thread that loads before it
            // stores, loom 0.7 remembers only the store.
            let writer = thread::spawn(move || writers.push(&[2; 2]).is_ok());
            assert_eq!(ring.take(), Some([1; 2]), "overwritten while it was read");
            let again = writer.join().unwrap();
            assert_eq!(ring.take(), again.then_some([2; 2]));
        });
    }

    fn push(ring: &Ring<2, 2>, tag: u64, commit: Ordering) -> bool {
        if commit == Ordering::Release {
            return ring.push(&[tag; 2]).is_ok();
        }
        let number = ring.reserved.load(Ordering::Relaxed);
        if number - ring.taken.load(Ordering::Acquire) >= 2 {
            return false;
        }
        ring.reserved.store(number + 1, Ordering::Relaxed);
        let slot = &ring.slots[(number & 1) as usize];
        for word in &slot.words {
            word.store(tag, Ordering::Relaxed);
        }
        slot.committed.store(number + 1, commit);
        true
    }

    #[test]
    fn the_reader_sees_whole_records_in_order() {
        loom::model(|| writer_and_reader(Ordering::Release));
    }

    #[test]
    #[should_panic(expected = "torn, or out of order")]
    fn loom_catches_a_relaxed_commit() {
        loom::model(|| writer_and_reader(Ordering::Relaxed));
    }
}
