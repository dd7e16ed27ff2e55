//! Every option is read, and what is wrong is named.

use super::*;
extern crate std;
use std::string::ToString;

#[test]
fn nothing_means_the_defaults() {
    assert_eq!(parse(""), Ok(Options::DEFAULT));
    assert_eq!(parse(" \n\t "), Ok(Options::DEFAULT));
}

#[test]
fn every_option_sets_its_own_field() {
    let cmdline = "mode=test pattern=zone/ cycles=50 seed=7 zonelist=gfp-seqlock pressure=uneven plant=irq-on no_nmi_requests verbose dump=meminfo,dimms timer_hz=250 hazard=H7 mistake=no-grace storm=9000";
    let expected = Options {
        mode: Mode::Test,
        pattern: Pattern::new("zone/").unwrap(),
        cycles: 50,
        seed: 7,
        zonelist: Variant::GfpSeqlock,
        pressure: Pressure::Uneven,
        plant: Some(Plant::IrqOn),
        nmi_requests: false,
        verbose: true,
        dump: Topics::parse("dimms,meminfo").unwrap(),
        timer_hz: 250,
        hazard: Hazard::H7,
        mistake: Some(Mistake::NoGrace),
        storm: 9000,
    };
    assert_eq!(parse(cmdline), Ok(expected));
    assert_eq!(parse(cmdline).unwrap().pattern.as_str(), "zone/");
}

#[test]
fn every_documented_value_is_taken() {
    for known in KNOWN {
        for value in known.values.to_string().split('|') {
            let word = match known.values {
                Values::Nothing => known.name.to_string(),
                _ => std::format!("{}={value}", known.name),
            };
            let range = value.split_once("..");
            let words = range.map_or_else(
                || std::vec![word.replace("NUMBER", "5")],
                |(low, high)| {
                    [low, high]
                        .map(|end| std::format!("{}={end}", known.name))
                        .to_vec()
                },
            );
            for word in words {
                assert!(parse(&word).is_ok(), "{word}");
            }
        }
    }
}

#[test]
fn every_name_means_what_bears_it() {
    fn values<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> std::vec::Vec<(T, Options)> {
        let options = |one| {
            let bears =
                |known: &&Known| matches!(known.values, Names(names) if names.contains(&name(one)));
            let known = KNOWN.iter().find(bears).unwrap();
            let word = std::format!("{}={}", known.name, name(one));
            parse(&word).unwrap()
        };
        all.iter().map(|one| (*one, options(*one))).collect()
    }
    for (variant, options) in values(&Variant::ALL, Variant::name) {
        assert_eq!(options.zonelist, variant);
    }
    for (pressure, options) in values(&Pressure::ALL, Pressure::name) {
        assert_eq!(options.pressure, pressure);
    }
    for (plant, options) in values(&Plant::ALL, Plant::name) {
        assert_eq!(options.plant, Some(plant));
    }
    for (hazard, options) in values(&Hazard::ALL, Hazard::name) {
        assert_eq!(options.hazard, hazard);
    }
    for (mistake, options) in values(&Mistake::ALL, Mistake::name) {
        assert_eq!(options.mistake, Some(mistake));
    }
}

#[test]
fn the_last_word_wins() {
    assert_eq!(parse("cycles=1 cycles=2").unwrap().cycles, 2);
}

#[test]
fn an_unknown_option_is_named() {
    for word in ["cycle=5", "Mode=demo", "verbose2", "=", "=5", "mode-demo"] {
        assert_eq!(parse(word), Err(Refusal::Unknown(word)), "{word}");
    }
    assert_eq!(
        parse("cycles=5 nonsense verbose").unwrap_err().to_string(),
        "unknown option \"nonsense\""
    );
}

#[test]
fn a_bad_value_is_named_with_what_it_could_be() {
    for word in [
        "mode",
        "mode=",
        "mode=Demo",
        "cycles=0",
        "cycles=10001",
        "cycles=-1",
        "cycles=1x",
        "seed=18446744073709551616",
        "seed=",
        "zonelist=seq",
        "plant=",
        "plant=fire",
        "verbose=1",
        "verbose=",
        "timer_hz=9",
        "timer_hz=10001",
    ] {
        let known = KNOWN.iter().find(|known| word.starts_with(known.name));
        let values = known.unwrap().values;
        assert_eq!(
            parse(word),
            Err(Refusal::BadValue { word, values }),
            "{word}"
        );
    }
    let long = std::format!("pattern={}", "x".repeat(49));
    assert!(parse(&long).is_err());
    assert!(parse(&long[..long.len() - 1]).is_ok());
    assert_eq!(
        parse("cycles=0").unwrap_err().to_string(),
        "bad option \"cycles=0\": the value is one of 1..10000"
    );
    assert_eq!(
        parse("verbose=1").unwrap_err().to_string(),
        "bad option \"verbose=1\": it takes no value"
    );
}

#[test]
fn the_list_names_every_option() {
    let list = KnownOptions.to_string();
    assert!(list.starts_with(
        "known options: mode=demo|test|shell|bench|lab|price pattern=TEXT cycles=1..10000"
    ));
    assert!(KNOWN.iter().all(|known| list.contains(known.name)));
    // A line of one option is as long as that option.
    let fits = |line: &str| {
        let options = line.trim().trim_start_matches("known options: ");
        line.len() <= LIST_LINE_BYTES + 20 || options.split(' ').count() == 1
    };
    assert!(list.lines().all(fits));
}
