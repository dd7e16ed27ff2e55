//! Single instructions on a word of the running CPU's block, whichever CPU that is at that moment.

#[cfg(feature = "freestanding")]
macro_rules! gs {
    ($instruction:literal, $field:ident) => {
        // SAFETY: this is one gs-relative instruction on a field of this CPU's block. It has no
        // memory option, so it is a compiler fence as well.
        unsafe {
            core::arch::asm!(concat!($instruction, " dword ptr gs:[{}]"),
                const core::mem::offset_of!($crate::arch::percpu::PerCpu, $field), options(nostack));
        }
    };
}

#[cfg(feature = "freestanding")]
macro_rules! gs_read {
    ($field:ident) => {{
        let value: u32;
        // SAFETY: this is one gs-relative read of a field of this CPU's block, and a compiler fence
        // as above.
        unsafe {
            core::arch::asm!("mov {:e}, gs:[{}]", out(reg) value,
                const core::mem::offset_of!($crate::arch::percpu::PerCpu, $field),
                options(nostack, preserves_flags));
        }
        value
    }};
}

#[cfg(not(feature = "freestanding"))]
macro_rules! gs {
    ("inc", $field:ident) => {
        $crate::arch::percpu::current()
            .$field
            .fetch_add(1, core::sync::atomic::Ordering::SeqCst)
    };
    ("dec", $field:ident) => {
        $crate::arch::percpu::current()
            .$field
            .fetch_sub(1, core::sync::atomic::Ordering::SeqCst)
    };
}

#[cfg(not(feature = "freestanding"))]
macro_rules! gs_read {
    ($field:ident) => {
        $crate::arch::percpu::current()
            .$field
            .load(core::sync::atomic::Ordering::SeqCst)
    };
}

pub(super) use {gs, gs_read};
