// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

/// The bodies of 8-bit products for this module's `Lanes`: one text in all ISA modules (a link), like
/// `Install.swift`; `multiply_u8s8` is each module's own choice of tiles.
func install(_ integer: inout IntegerKernels) {
  integer.tile = Tile(rows: panelRows, columns: integerColumns, lanes: Lanes.lanes, depth: 4)
  integer.strip_u8s8 = {
    strip_u8s8(
      IntegerTileCall(
        $0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $17), $1, $16)
  }
  integer.quantizeA_u8 = { quantizeA_u8(Lanes.self, $0, $1, $2, $3, $4, $5, $6) }
  integer.quantizeNormA_u8 = {
    quantizeNormA_u8(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8)
  }
  integer.quantizers_f32 = { quantizers_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  integer.packBT_s8 = { packBT_s8(Lanes.self, $0, $1, $2, $3, $4, $5) }
  integer.packB_s8 = { packB_s8(Lanes.self, $0, $1, $2, $3, $4, $5) }
  integer.turnB_s8 = { turnB_s8(Lanes.self, $0, $1, $2, $3, $4) }
  integer.compensation_s8 = { compensation_s8(Lanes.self, $0, $1, $2, $3) }
}
