#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    leadhook_fuzz::checks::frames::input(input);
});
