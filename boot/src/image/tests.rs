//! Good images are read faithfully, bad ones are refused by name, and none makes the reader panic.

use super::*;
use crate::testing::{Elf, R, RWX, parse};
use elf::abi::{PT_GNU_RELRO, PT_TLS};
use std::vec::Vec;

const BASE: u64 = 0xffff_ffff_8000_0000;
const CONFIG: BootloaderConfig = BootloaderConfig::new_default();
const RELATIVE: u64 = 8;

fn kernel() -> Elf {
    Elf::kernel(BASE, &CONFIG)
}

fn refusal(elf: &Elf) -> Error {
    Image::parse(&elf.build()).expect_err("a broken image")
}

#[test]
fn reads_what_the_file_says() {
    let file = kernel()
        .header(PT_TLS, R, BASE + 0x2ff0, &[0x11; 8], 24)
        .build();
    let image = parse(&file);
    assert_eq!(image.kind, Kind::Fixed);
    assert_eq!(image.entry, BASE + 0x1010);
    assert_eq!(image.span(), BASE..BASE + 0x6000);
    let access: Vec<_> = image.segments.iter().map(|it| it.access).collect();
    assert_eq!(
        access,
        [Access::Read, Access::ReadExecute, Access::ReadWrite]
    );
    assert_eq!(image.segments[2].bytes, [0x11; 0x20]);
    assert_eq!(image.segments[2].len, 0x2020);
    let tls = Tls {
        vaddr: BASE + 0x2ff0,
        file_len: 8,
        len: 24,
    };
    assert_eq!(image.tls, Some(tls));
    assert_eq!(image.config, CONFIG);
}

#[test]
fn refuses_what_is_no_kernel_image() {
    let found = *b"#!/b";
    assert_eq!(
        Image::parse(b"#!/bin/sh\n").unwrap_err(),
        Error::NotElf { found }
    );
    let found = [0x7f, b'E', 0, 0];
    assert_eq!(Image::parse(b"\x7fE").unwrap_err(), Error::NotElf { found });
    let foreign = |at: usize, byte: u8| {
        let mut file = kernel().build();
        file[at] = byte;
        Image::parse(&file).unwrap_err()
    };
    let class = Foreign::Class(1);
    assert_eq!(foreign(4, 1), Error::WrongMachine { what: class });
    let endianness = Foreign::Endianness(2);
    assert_eq!(foreign(5, 2), Error::WrongMachine { what: endianness });
    let machine = Foreign::Machine(0xb7);
    assert_eq!(foreign(18, 0xb7), Error::WrongMachine { what: machine });
    assert_eq!(foreign(16, 1), Error::WrongType { e_type: 1 });
}

#[test]
fn refuses_every_truncation() {
    let file = kernel().build();
    for len in 0..file.len() {
        let error = Image::parse(&file[..len]).unwrap_err();
        if len >= 4 {
            assert!(
                matches!(error, Error::Truncated { .. }),
                "{len} of {} bytes: {error:?}",
                file.len()
            );
        }
    }
}

#[test]
fn refuses_segments_that_break_the_rules() {
    let at = BASE + 0x1_0000;
    assert_eq!(
        refusal(&kernel().load(RWX, at, &[0], 1)),
        Error::WritableAndExecutable { at }
    );
    // The data segment ends at 0x5010, within the page at 0x5000.
    assert_eq!(
        refusal(&kernel().load(R, BASE + 0x5800, &[0], 1)),
        Error::SegmentsOverlap {
            first: BASE + 0x2ff0,
            second: BASE + 0x5800
        }
    );
    let mut entry = kernel();
    entry.entry = BASE + 0x2ff0;
    assert_eq!(
        refusal(&entry),
        Error::EntryNotExecutable { at: BASE + 0x2ff0 }
    );
    assert!(matches!(
        refusal(&kernel().load(R, at, &[0; 9], 8)),
        Error::Malformed { .. }
    ));
    assert!(matches!(
        refusal(&kernel().load(R, u64::MAX - 8, &[0; 8], 8)),
        Error::NotCanonical { .. }
    ));
    let many = (0..MAX_SEGMENTS as u64).fold(kernel(), |elf, index| {
        elf.load(R, at + index * PAGE, &[0], 1)
    });
    let most = MAX_SEGMENTS;
    assert_eq!(refusal(&many), Error::TooManySegments { most });
    let mut empty = kernel();
    empty.headers.clear();
    assert_eq!(refusal(&empty), Error::NoSegments);
    let tls = kernel().header(PT_TLS, R, at, &[0; 8], 8);
    assert!(matches!(refusal(&tls), Error::Malformed { .. }));
}

#[test]
fn refuses_a_configuration_that_is_missing_or_of_another_version() {
    let mut elf = kernel();
    elf.section_name = ".other";
    assert_eq!(refusal(&elf), Error::NoConfig);

    let mut elf = kernel();
    elf.config.pop();
    assert!(matches!(refusal(&elf), Error::BadConfig { .. }));
    let mut elf = kernel();
    elf.config[0] ^= 1;
    assert!(matches!(refusal(&elf), Error::BadConfig { .. }));

    // The UUID is followed by major, minor, patch and pre-release.
    let version = |at: usize, add: u8| {
        let mut elf = kernel();
        elf.config[16 + at] = elf.config[16 + at].wrapping_add(add);
        Image::parse(&elf.build()).map(|_| ())
    };
    assert_eq!(version(4, 1), Ok(()), "another patch level suits");
    assert!(matches!(version(0, 1), Err(Error::WrongVersion { .. })));
    assert!(matches!(version(2, 1), Err(Error::WrongVersion { .. })));
    assert!(matches!(version(6, 1), Err(Error::WrongVersion { .. })));

    let mut config = CONFIG;
    config.kernel_stack_size = 4095;
    let small = Error::StackTooSmall { len: 4095 };
    assert_eq!(refusal(&Elf::kernel(BASE, &config)), small);
    let mut config = CONFIG;
    config.mappings.aslr = true;
    let error = refusal(&Elf::kernel(BASE, &config));
    assert!(matches!(error, Error::Unsupported { .. }));
}

#[test]
fn finds_relocations_and_refuses_strange_ones() {
    let pie = |entry| Elf::kernel(0, &CONFIG).relocations(0x8000, &[entry]);
    let file = pie((0x2ff8, RELATIVE, 0x1234)).build();
    let image = parse(&file);
    assert_eq!(image.kind, Kind::Relocatable);
    let found: Vec<_> = image.relocations().collect();
    let relocation = Relocation {
        at: 0x2ff8,
        addend: 0x1234,
    };
    assert_eq!(found, [Ok(relocation)]);

    let kind = 6;
    assert_eq!(
        refusal(&pie((0x2ff8, kind, 0))),
        Error::UnknownRelocation { kind: kind as u32 }
    );
    // The data segment's last byte is at 0x500f.
    for at in [0x5009, 0x7000, u64::MAX] {
        assert_eq!(
            refusal(&pie((at, RELATIVE, 0))),
            Error::StrayRelocation { at }
        );
    }
    let mut fixed = pie((0x2ff8, RELATIVE, 0));
    fixed.e_type = elf::abi::ET_EXEC;
    assert!(matches!(refusal(&fixed), Error::Malformed { .. }));
}

#[test]
fn seals_whole_pages_of_relro() {
    let relro = |len| {
        let file = kernel()
            .header(PT_GNU_RELRO, R, BASE + 0x2ff0, &[], len)
            .build();
        parse(&file).relro
    };
    assert_eq!(relro(0x10), Some(BASE + 0x2000..BASE + 0x3000));
    assert_eq!(relro(0x1000), Some(BASE + 0x2000..BASE + 0x3000));
    assert_eq!(relro(0x1010), Some(BASE + 0x2000..BASE + 0x4000));
}
