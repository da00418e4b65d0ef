// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

/// By the instructions for pairs and quads.
func install(_ probe: inout ProbeKernels) {
  probe.sums = Chains.rows &* Chains.vectors
  probe.peak_f32 = { peak_f32(Lanes.self, Chains.self, $0, $1, $2, $3) }
  probe.peak_bf16 = { peak_bf16(dot: Lanes.self, Chains.self, $0, $1, $2, $3) }
  probe.peak_u8s8 = { peak_u8s8(dot: Lanes.self, Chains.self, $0, $1, $2, $3) }
  probe.read_f32 = { read_f32(Lanes.self, $0, $1) }
}
