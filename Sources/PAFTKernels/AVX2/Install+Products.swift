// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

/// Products for this module's `Lanes`: one text in all ISA modules (a link), like `Install.swift`;
/// `multiply_*` and `fewRows_*` are each module's own choice of tiles.
/// - Parameter columns: of the tiles.
func install(_ gemm: inout GEMMKernels, columns: (f32: Int, bf16: Int)) {
  gemm.tile_f32 = Tile(rows: panelRows, columns: columns.f32, lanes: Lanes.lanes, depth: 1)
  gemm.tile_bf16 = Tile(rows: panelRows, columns: columns.bf16, lanes: Lanes.lanes, depth: 2)
  gemm.multiply_f32 = { multiply_f32(TileCall($0, $1, $2, $3, $4, $5, $6, $7, $8)) }
  gemm.multiply_bf16 = { multiply_bf16(TileCall($0, $1, $2, $3, $4, $5, $6, $7, $8)) }
  gemm.strip_f32 = {
    strip_f32(TileCall($0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $13), $1, $12)
  }
  gemm.strip_bf16 = {
    strip_bf16(TileCall($0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $13), $1, $12)
  }
  gemm.fewRows_f32 = {
    fewRows_f32(TileCall($0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $2, 0), $1)
  }
  gemm.fewRows_bf16 = {
    fewRows_bf16(TileCall($0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $2, 0), $1)
  }
}
