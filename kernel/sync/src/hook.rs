//! Function pointers that are set at one place and called at another, in any context.

use crate::atomic::{AtomicPtr, Ordering};
use core::{fmt, marker::PhantomData, mem, ptr};

/// A place for a function pointer, or for none. Callable from any context: no call waits.
///
/// `F` is a function pointer's type; [`hook!`](crate::hook!) makes a place for a type that is
/// written out. What was written before a function was set is visible to code that got the function
/// from here.
pub struct Hook<F> {
    /// Null, or an `F`.
    place: AtomicPtr<()>,
    /// Makes the type invariant in `F`: the place both takes an `F` in and hands it out.
    function: PhantomData<fn(F) -> F>,
}

/// Makes an empty [`Hook`] for a function pointer's type, which has to be written out:
/// `hook!(fn(u8))`.
#[macro_export]
macro_rules! hook {
    (fn($($argument:ty),* $(,)?) $(-> $result:ty)?) => {{
        // SAFETY: `F` is a function pointer; the pattern matches nothing else.
        unsafe { $crate::Hook::<fn($($argument),*) $(-> $result)?>::empty() }
    }};
}

impl<F: Copy> Hook<F> {
    /// Returns a place without a function. [`hook!`](crate::hook!) does this without unsafe code.
    ///
    /// # Safety
    ///
    /// `F` is the type of a function pointer: as large as a pointer to data, without padding, never
    /// null.
    #[cfg(not(loom))]
    pub const unsafe fn empty() -> Self {
        const { assert!(size_of::<F>() == size_of::<*mut ()>()) };
        Self {
            place: AtomicPtr::new(ptr::null_mut()),
            function: PhantomData,
        }
    }

    /// Returns a place without a function, for the model checker.
    ///
    /// # Safety
    ///
    /// `F` is the type of a function pointer: as large as a pointer to data, without padding, never
    /// null.
    #[cfg(loom)]
    pub unsafe fn empty() -> Self {
        const { assert!(size_of::<F>() == size_of::<*mut ()>()) };
        Self {
            place: AtomicPtr::new(ptr::null_mut()),
            function: PhantomData,
        }
    }

    /// Returns the function, if one is set.
    #[inline]
    pub fn get(&self) -> Option<F> {
        // Acquire pairs with the releases in `set` and `claim`: what the function reads is visible.
        let place = self.place.load(Ordering::Acquire);
        if place.is_null() {
            return None;
        }
        // SAFETY: only `set` and `claim` store anything but null, and what they store came from an
        // `F`. `F` has the size of a pointer, and any pointer made from an `F` is an `F` again
        // (`empty`).
        Some(unsafe { mem::transmute_copy::<*mut (), F>(&place) })
    }

    /// Returns whether a function is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        // Relaxed suffices: code that calls the function gets it from `get`.
        !self.place.load(Ordering::Relaxed).is_null()
    }

    /// Sets the function, replacing what was there.
    pub fn set(&self, function: F) {
        // Release pairs with the acquire in `get`.
        self.place.store(Self::pointer(function), Ordering::Release);
    }

    /// Sets the function, unless one is set.
    ///
    /// # Errors
    ///
    /// Returns `function` if another one is set already.
    pub fn claim(&self, function: F) -> Result<(), F> {
        let new = Self::pointer(function);
        // Release pairs with the acquire in `get`. Relaxed: a failure reads nothing behind it.
        self.place
            .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed)
            .map(drop)
            .map_err(|_| function)
    }

    /// Removes the function. Code that got it before may be running it, or may still call it.
    pub fn clear(&self) {
        // Relaxed suffices: code that finds no function reads nothing on account of that.
        self.place.store(ptr::null_mut(), Ordering::Relaxed);
    }

    fn pointer(function: F) -> *mut () {
        // SAFETY: `F` has the size of a pointer and no padding (`empty`), and any such bytes are a
        // pointer.
        unsafe { mem::transmute_copy::<F, *mut ()>(&function) }
    }
}

/// A fixed number of places, filled from the first one on; no place is ever emptied.
pub struct Hooks<F, const N: usize>(pub [Hook<F>; N]);

impl<F: Copy, const N: usize> Hooks<F, N> {
    /// Adds a function and returns the index of its place, or nothing if every place is taken. Any
    /// context may call it.
    pub fn add(&self, function: F) -> Option<usize> {
        self.0.iter().position(|hook| hook.claim(function).is_ok())
    }

    /// Returns the functions that were added, in the order of their places. Any context may call
    /// it.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = F> {
        self.0.iter().map_while(Hook::get)
    }
}

impl<F> fmt::Debug for Hook<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook")
            .field(&self.place.load(Ordering::Relaxed))
            .finish()
    }
}

impl<F, const N: usize> fmt::Debug for Hooks<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn one(number: &u32) -> u32 {
        number + 1
    }

    fn two(number: &u32) -> u32 {
        number + 2
    }

    #[test]
    fn a_hook_calls_what_was_set_last() {
        static HOOK: Hook<fn(&u32) -> u32> = hook!(fn(&u32) -> u32);
        let call = || HOOK.get().map(|function| function(&40));
        assert_eq!((call(), HOOK.is_set()), (None, false));
        HOOK.set(one);
        assert_eq!((call(), HOOK.is_set()), (Some(41), true));
        HOOK.set(two);
        assert_eq!(call(), Some(42));
        HOOK.clear();
        assert_eq!((call(), HOOK.is_set()), (None, false));
    }

    #[test]
    fn a_hook_that_is_claimed_stays_with_its_owner_until_it_is_cleared() {
        let hook = hook!(fn(&u32) -> u32);
        assert!(hook.claim(one).is_ok());
        let late = hook.claim(two);
        assert_eq!(late.map_err(|function| function(&0)), Err(2));
        assert_eq!(hook.get().map(|function| function(&0)), Some(1));
        hook.clear();
        assert!(hook.claim(two).is_ok());
        assert_eq!(hook.get().map(|function| function(&0)), Some(2));
    }

    #[test]
    fn every_form_of_a_function_has_a_hook() {
        fn ends(code: u8) -> ! {
            panic!("{code}")
        }
        let never = hook!(fn(u8) -> !);
        never.set(ends);
        assert!(never.is_set());
        let nothing = hook!(fn());
        nothing.set(|| {});
        nothing.get().unwrap()();
        let several = hook!(fn(&str, usize) -> usize);
        several.set(|text, number| text.len() + number);
        assert_eq!(several.get().unwrap()("abc", 4), 7);
    }

    #[test]
    fn places_fill_up_in_order_and_refuse_more() {
        let hooks = Hooks([const { hook!(fn(&u32) -> u32) }; 2]);
        assert_eq!(hooks.iter().count(), 0);
        assert_eq!(hooks.add(two), Some(0));
        assert_eq!(hooks.iter().count(), 1);
        assert_eq!(hooks.add(one), Some(1));
        assert_eq!(hooks.add(one), None);
        let mut results = hooks.iter().map(|function| function(&0));
        assert_eq!((results.next(), results.next()), (Some(2), Some(1)));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::{cell::UnsafeCell, model, sync::Arc, thread};

    /// What a function reads. It is written before the function is set; loom reports a race.
    struct Books(UnsafeCell<u32>);

    // SAFETY: loom checks that reads and the one write are ordered.
    unsafe impl Sync for Books {}
    // SAFETY: a number belongs to no thread.
    unsafe impl Send for Books {}

    fn read(books: &Books) -> u32 {
        // SAFETY: the one write is over, so there is no writer any more; loom checks it.
        books.0.with(|content| unsafe { *content })
    }

    fn what_it_reads_is_there(put: fn(&Hook<fn(&Books) -> u32>)) {
        model(move || {
            let shared = Arc::new((hook!(fn(&Books) -> u32), Books(UnsafeCell::new(0))));
            let others = Arc::clone(&shared);
            let setter = thread::spawn(move || {
                // SAFETY: no other thread has the function yet; loom checks it.
                others.1.0.with_mut(|content| unsafe { *content = 1 });
                put(&others.0);
            });
            if let Some(function) = shared.0.get() {
                assert_eq!(function(&shared.1), 1);
            }
            setter.join().unwrap();
        });
    }

    #[test]
    fn what_a_set_function_reads_is_there() {
        what_it_reads_is_there(|hook| hook.set(read));
    }

    #[test]
    fn what_a_claimed_function_reads_is_there() {
        what_it_reads_is_there(|hook| assert!(hook.claim(read).is_ok()));
    }

    #[test]
    fn of_two_claims_one_succeeds() {
        model(|| {
            let hook = Arc::new(hook!(fn() -> u32));
            let others = Arc::clone(&hook);
            let other = thread::spawn(move || others.claim(|| 1).is_ok());
            let first = hook.claim(|| 0).is_ok();
            let other = other.join().unwrap();
            assert_ne!(first, other, "both, or neither");
            assert_eq!(
                hook.get().map(|function| function()),
                Some(u32::from(other))
            );
        });
    }
}
