//! Runs int8 networks of the MobileNet family on CPUs that have AVX2 and nothing newer.
//!
//! ONNX Runtime gains little or nothing from int8 there: without VNNI instructions it has no fast
//! way to add products of 8-bit integers without saturating. This module multiplies pairs of 16-bit
//! integers instead (`vpmaddwd` of AVX2), twice as many in an instruction as float32 has, and keeps
//! maps in 8 bits, channels last, from layer to layer.
//!
//! [`graph`] reads the layers from ONNX, [`weights`] brings their weights into the kernels' order,
//! [`program`] lays out the buffers and runs the layers, and [`avx2`] has the kernels. Features equal
//! those of ONNX Runtime: integers bit for bit, and the mean over the last map up to its rounding.
//! A network with any other layer stays with ONNX Runtime.

mod avx2;
mod graph;
mod layout;
mod program;
#[cfg(test)]
mod reference;
mod weights;

use std::arch::is_x86_feature_detected;
use std::{fmt, fs};

use prost::Message as _;
use prost::bytes::Bytes;

use self::graph::Graph;
use self::program::Program;
use crate::contract::Contract;
use crate::onnx;

/// An int8 network in memory, used by one thread at a time.
pub(crate) struct Network(Program);

impl Network {
    /// Reads the network if this module runs it, and faster than ONNX Runtime does on this CPU.
    pub(crate) fn read(contract: &Contract) -> Option<Self> {
        if !is_worthwhile() {
            return None;
        }
        // A file that can't be read or is not ONNX is an error of ONNX Runtime, which says why.
        let file = fs::read(&contract.path).ok()?;
        let model = onnx::Model::decode(Bytes::from(file)).ok()?;
        let graph = Graph::read(&model.graph?, contract.size)?;
        let program = Program::new(&graph)?;
        (program.dim() == contract.dim).then_some(Self(program))
    }

    /// Computes the features of `images` (uint8 `[n, height, width, 3]`), `[n, dim]`.
    pub(crate) fn run_into(&mut self, images: &[u8], features: &mut [f32]) {
        self.0.run_into(images, features);
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// Whether the kernels run here and are known to be faster than ONNX Runtime. With AVX-512, its
/// registers are twice as wide as theirs.
fn is_worthwhile() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && !is_x86_feature_detected!("avx512f")
        && !is_x86_feature_detected!("avxvnni")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_program_computes_what_plain_loops_do(
            graph in reference::graphs(),
            seeds in prop::collection::vec(any::<u8>(), 1..4),
        ) {
            prop_assume!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
            let mut program = Program::new(&graph).expect("every layer has a kernel");
            let image = graph.maps[0].height * graph.maps[0].width * graph.maps[0].channels;
            let images: Vec<Vec<u8>> = seeds
                .iter()
                .map(|&seed| (0..image).map(|at| (at * at * 31) as u8 ^ seed).collect())
                .collect();
            let expected: Vec<f32> =
                images.iter().flat_map(|image| reference::features(&graph, image)).collect();
            // Buffers that other images have left behind change nothing.
            for _ in 0..2 {
                let mut features = vec![f32::NAN; expected.len()];
                program.run_into(&images.concat(), &mut features);
                for (feature, expected) in features.iter().zip(&expected) {
                    prop_assert!((feature - expected).abs() <= 1e-5 * expected.abs().max(1.0));
                }
                let mut alone = vec![f32::NAN; program.dim()];
                program.run_into(&images[0], &mut alone);
                prop_assert_eq!(&alone[..], &features[..alone.len()]);
            }
        }
    }
}
