// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

/// Columns of the tile of bytes.
let integerColumns = 16

/// 6 rows x 2 ymm, and narrower or flatter where the panel is.
func multiply_u8s8(_ call: IntegerTileCall) {
  switch (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes {
  case 1: byRows_u8s8(TileShape<0, 1>.self, call)
  default: byRows_u8s8(TileShape<0, 2>.self, call)
  }
}
