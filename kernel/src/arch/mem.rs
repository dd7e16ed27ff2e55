//! `memcpy` and similar functions, which the compiler calls by name and no C library provides here.
//!
//! They move words: under `-icount` and TCG each `rep` step costs as much as an instruction.
//! The loader compiles this file, too.

use core::arch::asm;

/// Copies `len` bytes from `src` to `dst`.
///
/// # Safety
///
/// Both ranges are valid for `len` bytes, `dst`'s for writing. `dst` does not start within `src`'s
/// range. It may end within it, because the copy goes upwards. DF is clear.
#[inline]
pub unsafe fn copy_up(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller vouches for both ranges; words and rest together are `len` bytes.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) len & 7,
            inout("rcx") len >> 3 => _,
            inout("rdi") dst => _,
            inout("rsi") src => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies `len` bytes from `src` to `dst`, the last ones first.
///
/// # Safety
///
/// Both ranges are valid for `len` bytes, `dst`'s for writing; `dst` starts at `src` or above it.
#[inline]
pub unsafe fn copy_down(dst: *mut u8, src: *const u8, len: usize) {
    let last = len.wrapping_sub(1);
    // SAFETY: the caller vouches for both ranges. The pointers start at the last byte. After the
    // odd bytes they step back by 7, to the start of the last word. DF is clear again at the end.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "sub rdi, 7",
            "sub rsi, 7",
            "mov rcx, {words}",
            "rep movsq",
            "cld",
            words = in(reg) len >> 3,
            inout("rcx") len & 7 => _,
            inout("rdi") dst.wrapping_add(last) => _,
            inout("rsi") src.wrapping_add(last) => _,
            options(nostack),
        );
    }
}

/// Copies `len` bytes between ranges that may overlap.
///
/// # Safety
///
/// Both ranges are valid for `len` bytes, `dst`'s for writing. DF is clear.
#[inline]
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    if dst.addr().wrapping_sub(src.addr()) < len {
        // SAFETY: the caller vouches for the ranges; `dst` lies within `src`'s, so not below its
        // start.
        unsafe { copy_down(dst, src, len) }
    } else {
        // SAFETY: the caller vouches for the ranges; `dst` does not start within `src`'s.
        unsafe { copy_up(dst, src, len) }
    }
}

/// Fills `len` bytes at `dst` with `byte`.
///
/// # Safety
///
/// The range is valid for writing. DF is clear.
#[inline]
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) {
    let word = u64::from(byte) * 0x0101_0101_0101_0101;
    // SAFETY: the caller vouches for the range; words and rest together are `len` bytes.
    unsafe {
        asm!(
            "rep stosq",
            "mov rcx, {rest}",
            "rep stosb",
            rest = in(reg) len & 7,
            inout("rcx") len >> 3 => _,
            inout("rdi") dst => _,
            in("rax") word,
            options(nostack, preserves_flags),
        );
    }
}

/// Compares `len` bytes. The result is negative, zero or positive, as the first byte that differs
/// is smaller in `a`, does not exist, or is larger.
///
/// # Safety
///
/// Both ranges are valid for reading.
#[inline]
pub unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while len - at >= 8 {
        // SAFETY: eight more bytes lie within the caller's ranges.
        let (x, y) = unsafe {
            (
                a.add(at).cast::<u64>().read_unaligned(),
                b.add(at).cast::<u64>().read_unaligned(),
            )
        };
        if x != y {
            return if x.swap_bytes() < y.swap_bytes() {
                -1
            } else {
                1
            };
        }
        at += 8;
    }
    while at < len {
        // SAFETY: `at` lies within the caller's ranges.
        let (x, y) = unsafe { (*a.add(at), *b.add(at)) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// The functions above under the names that the compiler calls. Only the image has them, because it
/// has no C library.
#[cfg(feature = "freestanding")]
mod symbols {
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
        // SAFETY: the callers of memcpy promise valid ranges that do not overlap.
        unsafe { super::copy_up(dst, src, len) };
        dst
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
        // SAFETY: the callers of memmove promise valid ranges.
        unsafe { super::copy(dst, src, len) };
        dst
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(dst: *mut u8, byte: i32, len: usize) -> *mut u8 {
        // SAFETY: the callers of memset promise a valid range; C defines the cut to a byte.
        unsafe { super::fill(dst, byte as u8, len) };
        dst
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        // SAFETY: the callers of memcmp promise valid ranges.
        unsafe { super::compare(a, b, len) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        // SAFETY: the callers of bcmp promise valid ranges.
        unsafe { super::compare(a, b, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern() -> [u8; 96] {
        core::array::from_fn(|at| (at * 37 + 11) as u8)
    }

    #[test]
    fn copies_agree_with_the_library_at_every_overlap() {
        for from in 0..32 {
            for to in 0..32 {
                for len in 0..40 {
                    let mut ours = pattern();
                    let mut theirs = pattern();
                    let base = ours.as_mut_ptr();
                    // SAFETY: offsets up to 32 and lengths below 40 stay within 96 bytes.
                    unsafe { copy(base.add(to), base.add(from), len) };
                    theirs.copy_within(from..from + len, to);
                    assert_eq!(ours, theirs, "from {from} to {to} len {len}");
                }
            }
        }
    }

    #[test]
    fn fills_exactly_its_range() {
        for at in 0..16 {
            for len in 0..40 {
                let mut ours = pattern();
                let mut theirs = pattern();
                // SAFETY: the fill covers at most 56 of 96 bytes.
                unsafe { fill(ours.as_mut_ptr().add(at), 0xa5, len) };
                theirs[at..at + len].fill(0xa5);
                assert_eq!(ours, theirs, "at {at} len {len}");
            }
        }
    }

    #[test]
    fn compares_as_the_library_does() {
        for len in 0..40 {
            for differs in 0..len {
                let a = pattern();
                let mut b = pattern();
                for byte in [0, 0x7f, 0x80, 0xff] {
                    b[differs] = byte;
                    // SAFETY: both arrays are longer than `len`.
                    let ours = unsafe { compare(a.as_ptr(), b.as_ptr(), len) };
                    assert_eq!(
                        ours.cmp(&0),
                        a[..len].cmp(&b[..len]),
                        "len {len} at {differs}"
                    );
                }
            }
        }
    }
}
