// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

/// 6 rows x 4 zmm, and narrower or flatter where the panel is.

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
  case 3: byRows_bf16(TileShape<0, 3>.self, call)
  default: byRows_bf16(TileShape<0, 4>.self, call)
  }
}

/// 8 ranks x 2 zmm.
typealias ThinTile = TileShape<8, 2>
