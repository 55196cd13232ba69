// SPDX-License-Identifier: MIT
// Rust: one LSTM over a sequence, by extern "C". Prints the bits of its last h.
use std::ffi::{c_char, c_double, c_int, c_void, CStr};
use std::ptr::null;

#[repr(C)]
struct Desc {
    struct_size: usize,
    cell: *const c_char,
    activation: *const c_char,
    dtype: c_int,
    train: c_int,
    reverse: c_int,
    steps: isize,
    batch: isize,
    input_size: isize,
    hidden_size: isize,
    lengths: *const isize,
    threads: c_int,
    parallel_for: *const c_void,
    parallel_context: *mut c_void,
}

#[repr(C)]
#[derive(Default)]
struct Sizes {
    struct_size: usize,
    packed: usize,
    tape: usize,
    forward_workspace: usize,
    backward_workspace: usize,
    step_workspace: usize,
}

#[repr(C)]
struct Weights {
    w_ih: *const c_double,
    w_hh: *const c_double,
    b_ih: *const c_double,
    b_hh: *const c_double,
    packed: *const c_void,
}

#[repr(C)]
struct Inputs {
    x: *const c_double,
    h0: *const c_double,
    c0: *const c_double,
}

#[repr(C)]
struct Outputs {
    y: *mut c_double,
    h_n: *mut c_double,
    c_n: *mut c_double,
}

extern "C" {
    fn bptt_query(desc: *const Desc, sizes: *mut Sizes) -> c_int;
    fn bptt_forward(
        desc: *const Desc, weights: *const Weights, inputs: *const Inputs, outputs: *const Outputs,
        tape: *mut c_void, workspace: *mut c_void,
    ) -> c_int;
    fn bptt_last_error() -> *const c_char;
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

fn check(status: c_int) {
    if status != 0 {
        panic!("{}", unsafe { CStr::from_ptr(bptt_last_error()) }.to_string_lossy());
    }
}

fn numbers(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i * 7 % 11) as f64 / 11.0 - 0.5).collect()
}

fn main() {
    let (t, b, i, h) = (20, 2, 3, 9);
    let desc = Desc {
        struct_size: std::mem::size_of::<Desc>(), cell: c"lstm".as_ptr(), activation: null(),
        dtype: 1, train: 0, reverse: 0, steps: t as isize, batch: b as isize,
        input_size: i as isize, hidden_size: h as isize, lengths: null(), threads: 1,
        parallel_for: null(), parallel_context: std::ptr::null_mut(),
    };
    let mut sizes = Sizes { struct_size: std::mem::size_of::<Sizes>(), ..Default::default() };
    check(unsafe { bptt_query(&desc, &mut sizes) });
    let mut workspace = vec![Line([0; 64]); sizes.forward_workspace.div_ceil(64)];
    let (x, w_ih, w_hh) = (numbers(t * b * i), numbers(4 * h * i), numbers(4 * h * h));
    let (mut y, mut h_n, mut c_n) = (vec![0.0; t * b * h], vec![0.0; b * h], vec![0.0; b * h]);
    let weights = Weights {
        w_ih: w_ih.as_ptr(), w_hh: w_hh.as_ptr(), b_ih: null(), b_hh: null(), packed: null(),
    };
    let inputs = Inputs { x: x.as_ptr(), h0: null(), c0: null() };
    let outputs = Outputs { y: y.as_mut_ptr(), h_n: h_n.as_mut_ptr(), c_n: c_n.as_mut_ptr() };
    let (tape, work) = (std::ptr::null_mut(), workspace.as_mut_ptr().cast());
    check(unsafe { bptt_forward(&desc, &weights, &inputs, &outputs, tape, work) });
    for value in h_n {
        println!("{:016x}", value.to_bits());
    }
}
