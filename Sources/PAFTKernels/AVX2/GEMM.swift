// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

/// 6 rows x 2 ymm, and narrower or flatter where the panel is.

func multiply_f32(_ call: TileCall<Float>) {
  switch (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes {
  case 1: byRows_f32(TileShape<0, 1>.self, call)
  default: byRows_f32(TileShape<0, 2>.self, call)
  }
}

func multiply_bf16(_ call: TileCall<UInt16>) {
  switch (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes {
  case 1: byRows_bf16(TileShape<0, 1>.self, call)
  default: byRows_bf16(TileShape<0, 2>.self, call)
  }
}

/// 4 ranks x 2 ymm.
typealias ThinTile = TileShape<4, 2>
