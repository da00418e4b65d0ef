// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

/// By 16-bit products.
@inline(__always)
func multiplyTile_u8s8<let R: Int, let C: Int>(
  _ shape: TileShape<R, C>.Type, _ call: IntegerTileCall
) {
  multiplyTile_u8s8(widening: Lanes.self, shape, call)
}
