//! Bytes for tests, the same each time.

pub(super) fn random(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut step = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| step()).collect()
}

pub(super) fn text(length: usize) -> Vec<u8> {
    random(length).into_iter().map(|byte| b"etaoin shrdlu\n"[usize::from(byte) % 14]).collect()
}
