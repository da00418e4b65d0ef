// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

// Strips of panels, and the instance for the rows of a tile of bytes, on every instruction set: here
// once, linked into the modules.

/// Panel after panel.
func strip_u8s8(_ first: IntegerTileCall, _ stride: Int, _ step: Int) {
  var call = first
  let width = (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes &* Lanes.lanes
  while call.rows > 0 {
    multiply_u8s8(call)
    call.advance(panelRows, stride, width, step)
  }
}

@inline(__always)
func byRows_u8s8<let C: Int>(_: TileShape<0, C>.Type, _ call: IntegerTileCall) {
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
  multiplyTile_u8s8(shape, call)
}
