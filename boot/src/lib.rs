//! (see below)
#![no_std]
