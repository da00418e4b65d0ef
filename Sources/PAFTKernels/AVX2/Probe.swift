// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

/// Without instructions for pairs and quads (a link in AVX512).
func install(_ probe: inout ProbeKernels) {
  probe.sums = Chains.rows &* Chains.vectors
  probe.peak_f32 = { peak_f32(Lanes.self, Chains.self, $0, $1, $2, $3) }
  probe.peak_bf16 = { peak_bf16(Lanes.self, Chains.self, $0, $1, $2, $3) }
  probe.peak_u8s8 = { peak_u8s8(Lanes.self, Chains.self, $0, $1, $2, $3) }
  probe.read_f32 = { read_f32(Lanes.self, $0, $1) }
}
