//! References that are set once and read from any context.

use crate::atomic::{AtomicPtr, Ordering};
use core::{fmt, marker::PhantomData, ptr};

/// A place for a shared reference: empty, then filled once and for good.
///
/// It does in one word what [`spin::Once`](https://docs.rs/spin) does for a value. Reading is one
/// load and one test, with no state beside the pointer. Any context may use it.
pub struct OnceRef<'a, T> {
    place: AtomicPtr<T>,
    /// Makes the type `Sync` only where `&'a T` is, because it hands that out to any thread.
    given: PhantomData<&'a T>,
    /// Makes the type invariant in `'a`, so that the lifetime cannot be shortened by `set`.
    taken: PhantomData<fn(&'a T)>,
}

impl<'a, T> OnceRef<'a, T> {
    /// Returns an empty place.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            place: AtomicPtr::new(ptr::null_mut()),
            given: PhantomData,
            taken: PhantomData,
        }
    }

    /// Returns an empty place.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            place: AtomicPtr::new(ptr::null_mut()),
            given: PhantomData,
            taken: PhantomData,
        }
    }

    /// Returns the reference, or nothing while the place is empty.
    #[inline]
    pub fn get(&self) -> Option<&'a T> {
        // Acquire pairs with the release in `set`: what is referred to is seen complete.
        let place = self.place.load(Ordering::Acquire);
        // SAFETY: the pointer is null, or `set`, the only writer, made it from a `&'a T`. Only
        // shared references to the target are handed out.
        unsafe { place.as_ref() }
    }

    /// Fills the place, unless it is filled already.
    ///
    /// # Errors
    ///
    /// Returns `reference` if the place is filled already.
    pub fn set(&self, reference: &'a T) -> Result<(), &'a T> {
        let new = ptr::from_ref(reference).cast_mut();
        // Release pairs with the acquire in `get`.
        self.place
            .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed)
            .map(drop)
            .map_err(|_| reference)
    }
}

impl<T> Default for OnceRef<'_, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for OnceRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceRef")
            .field(&self.place.load(Ordering::Relaxed))
            .finish()
    }
}

/// A place as [`OnceRef`], but with a stand-in that is read until it is filled. Reading is one
/// load, without a test. Any context may use it.
pub struct OnceOr<'a, T> {
    /// Never null.
    place: AtomicPtr<T>,
    stand_in: PhantomData<&'a T>,
    taken: PhantomData<fn(&'a T)>,
}

impl<'a, T> OnceOr<'a, T> {
    /// Returns a place that refers to `stand_in`.
    #[cfg(not(loom))]
    pub const fn new(stand_in: &'a T) -> Self {
        Self {
            place: AtomicPtr::new(ptr::from_ref(stand_in).cast_mut()),
            stand_in: PhantomData,
            taken: PhantomData,
        }
    }

    /// Returns a place that refers to `stand_in`.
    #[cfg(loom)]
    pub fn new(stand_in: &'a T) -> Self {
        Self {
            place: AtomicPtr::new(ptr::from_ref(stand_in).cast_mut()),
            stand_in: PhantomData,
            taken: PhantomData,
        }
    }

    /// Returns the reference, or the stand-in while none is set.
    #[inline]
    pub fn get(&self) -> &'a T {
        // Acquire pairs with the release in `set`: what is referred to is seen complete.
        let place = self.place.load(Ordering::Acquire);
        // SAFETY: the pointer was made from a `&'a T` by `new` or `set`, the only writers; only
        // shared references to it are handed out.
        unsafe { &*place }
    }

    /// Fills the place, if it still refers to `stand_in`, which is the one given to `new`.
    ///
    /// # Errors
    ///
    /// Returns `reference` if the place does not refer to `stand_in`.
    pub fn set(&self, stand_in: &'a T, reference: &'a T) -> Result<(), &'a T> {
        let old = ptr::from_ref(stand_in).cast_mut();
        let new = ptr::from_ref(reference).cast_mut();
        // Release pairs with the acquire in `get`.
        self.place
            .compare_exchange(old, new, Ordering::Release, Ordering::Relaxed)
            .map(drop)
            .map_err(|_| reference)
    }
}

impl<T> fmt::Debug for OnceOr<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceOr")
            .field(&self.place.load(Ordering::Relaxed))
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_reference_stays() {
        let (one, two) = (1, 2);
        let place = OnceRef::new();
        assert_eq!(place.get(), None);
        assert_eq!(place.set(&one), Ok(()));
        assert_eq!(place.set(&two), Err(&two));
        assert_eq!(place.get(), Some(&one));
    }
    #[test]
    fn a_stand_in_gives_way_to_the_first_reference() {
        let (nothing, one, two) = (0, 1, 2);
        let place = OnceOr::new(&nothing);
        assert_eq!(place.get(), &nothing);
        assert_eq!(place.set(&nothing, &one), Ok(()));
        assert_eq!(place.set(&nothing, &two), Err(&two));
        assert_eq!(place.get(), &one);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::{cell::UnsafeCell, model, sync::Arc, thread};

    /// What is referred to. It is written before it is published; loom reports a race.
    struct Books(UnsafeCell<u32>);

    // SAFETY: loom checks that reads and the one write are ordered.
    unsafe impl Sync for Books {}

    impl Books {
        /// Returns a leaked value for one execution; it outlives the execution, as the kernel's
        /// values do.
        fn leaked() -> &'static Self {
            Box::leak(Box::new(Self(UnsafeCell::new(0))))
        }

        fn write(&self) {
            // SAFETY: no other thread has the reference yet; loom checks it.
            self.0.with_mut(|content| unsafe { *content = 1 });
        }

        fn read(&self) -> u32 {
            // SAFETY: the one write is over, so there is no writer any more; loom checks it.
            self.0.with(|content| unsafe { *content })
        }
    }

    #[test]
    fn what_a_place_refers_to_is_seen_complete() {
        model(|| {
            let place = Arc::new(OnceRef::new());
            let books = Books::leaked();
            let others = Arc::clone(&place);
            let writer = thread::spawn(move || {
                books.write();
                assert!(others.set(books).is_ok());
            });
            if let Some(books) = place.get() {
                assert_eq!(books.read(), 1);
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn what_replaces_a_stand_in_is_seen_complete() {
        model(|| {
            let nothing = Books::leaked();
            nothing.write();
            let place = Arc::new(OnceOr::new(nothing));
            let books = Books::leaked();
            let others = Arc::clone(&place);
            let writer = thread::spawn(move || {
                books.write();
                assert!(others.set(nothing, books).is_ok());
            });
            assert_eq!(place.get().read(), 1);
            writer.join().unwrap();
        });
    }

    #[test]
    fn of_two_references_one_is_taken_and_the_other_one_comes_back() {
        model(|| {
            let place = Arc::new(OnceRef::<u32>::new());
            let others = Arc::clone(&place);
            let other = thread::spawn(move || others.set(&1).is_ok());
            let first = place.set(&0).is_ok();
            let other = other.join().unwrap();
            assert_ne!(first, other, "both, or neither");
            assert_eq!(place.get(), Some(&u32::from(other)));
        });
    }
}
