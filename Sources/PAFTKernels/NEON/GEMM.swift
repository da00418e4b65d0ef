// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

/// 6 rows x 4 vectors, 6 x 3 in BF16 (halves and masks need registers too), and narrower or flatter where the panel is.

func multiply_f32(_ call: TileCall<Float>) {
  switch (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes {
  case 1: byRows_f32(TileShape<0, 1>.self, call)
  case 2: byRows_f32(TileShape<0, 2>.self, call)
  case 3: byRows_f32(TileShape<0, 3>.self, call)
  default: byRows_f32(TileShape<0, 4>.self, call)
  }
}

func multiply_bf16(_ call: TileCall<UInt16>) {
  switch (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes {
  case 1: byRows_bf16(TileShape<0, 1>.self, call)
  case 2: byRows_bf16(TileShape<0, 2>.self, call)
  default: byRows_bf16(TileShape<0, 3>.self, call)
  }
}

// Few rows are tiles like others.
func fewRows_f32(_ call: TileCall<Float>, _ stride: Int) { strip_f32(call, stride, 0) }
func fewRows_bf16(_ call: TileCall<UInt16>, _ stride: Int) { strip_bf16(call, stride, 0) }

/// 4 ranks x 4 vectors.
typealias ThinTile = TileShape<4, 4>
