//! The deepest stack so far: cortex-m-rt paints the stack before the program runs, and use takes the paint off.

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    /// Lowest word of the stack, from the memory map.
    static _stack_end: u32;
    /// One above the highest word.
    static _stack_start: u32;
}

/// Bytes of the stack, and how many of them were ever in use.
#[must_use]
pub fn high_water() -> (usize, usize) {
    let low = &raw const _stack_end;
    let size = (&raw const _stack_start).addr() - low.addr();
    let words = size / size_of::<u32>();
    let untouched = (0..words).take_while(|&word| {
        let word = low.wrapping_add(word);
        // SAFETY: the word lies in the stack, which is always mapped; the read is volatile, and what lies below the stack
        // pointer belongs to nobody.
        unsafe { word.read_volatile() == STACK_PAINT_VALUE }
    });
    (size, size - untouched.count() * size_of::<u32>())
}
