#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| highwater::internals::hostile::check("device", input));
