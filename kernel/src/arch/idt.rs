//! The interrupt descriptor table, one for all CPUs.
