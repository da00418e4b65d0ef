// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

/// Columns of the tile of bytes.
let integerColumns = 64

/// 6 rows x 4 zmm, by 16-bit products.

func multiply_u8s8(_ call: IntegerTileCall) {
  switch (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes {
  case 1: byRows_u8s8(TileShape<0, 1>.self, call)
  case 2: byRows_u8s8(TileShape<0, 2>.self, call)
  case 3: byRows_u8s8(TileShape<0, 3>.self, call)
  default: byRows_u8s8(TileShape<0, 4>.self, call)
  }
}

@inline(__always)
private func byRows_u8s8<let C: Int>(_: TileShape<0, C>.Type, _ call: IntegerTileCall) {
  switch call.rows {
  case 1: tile_u8s8(TileShape<1, C>.self, call)
  case 2: tile_u8s8(TileShape<2, C>.self, call)
  case 3, 4: tile_u8s8(TileShape<4, C>.self, call)
  default: tile_u8s8(TileShape<6, C>.self, call)
  }
}

@inline(never)
private func tile_u8s8<let R: Int, let C: Int>(
  _ shape: TileShape<R, C>.Type, _ call: IntegerTileCall
) {
  multiplyTile_u8s8(widening: Lanes.self, shape, call)
}
