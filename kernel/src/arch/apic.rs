//! The local APIC (xAPIC, memory-mapped). Intel SDM volume 3, chapter 11.
