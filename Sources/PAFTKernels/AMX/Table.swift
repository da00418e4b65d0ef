// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

extension KernelTable {
  /// AMX with BF16 and bytes (Sapphire Rapids 2023 and later), over the table of `avx512bf16`:
  /// products of packed operands go to the tile unit, everything else stays.
  ///
  /// Overrides fields in place: copying a table here would leave a copy function compiled for this
  /// instruction set where every other module may pick it up.
  package static func amx(_ table: inout KernelTable) {
    table.name = "amx"
    install(&table.gemm)
    install(&table.integer)
  }
}

private func install(_ gemm: inout GEMMKernels) {
  gemm.tile_bf16 = Tile(rows: matrixTile, columns: matrixTile, lanes: Lanes.lanes, depth: 32)
  gemm.multiply_bf16 = {
    multiplyMatrixTile_bf16(
      Tiles.self, Lanes.self, TileCall($0, $1, $2, $3, $4, $5, $6, $7, $8))
  }
  gemm.strip_bf16 = {
    var call = TileCall($0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $13)
    while call.rows > 0 {
      let rows = call.rows
      call.rows = rows < matrixTile ? rows : matrixTile
      multiplyMatrixTile_bf16(Tiles.self, Lanes.self, call)
      call.rows = rows
      call.advance(matrixTile, $1, $12)
    }
  }
  gemm.fewRows_bf16 = {
    var call = TileCall($0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $2, 0)
    while call.rows > 0 {
      let rows = call.rows
      call.rows = rows < matrixTile ? rows : matrixTile
      multiplyMatrixTile_bf16(Tiles.self, Lanes.self, call)
      call.rows = rows
      call.advance(matrixTile, $1, 0)
    }
  }
  gemm.packA_bf16 = { packMatrixA_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packAT_bf16 = {
    let panel = ($3 &+ 31) / 32 &* 32 &* matrixTile
    var (to, from, rows) = ($0, $1, $2)
    while rows > 0 {
      packMatrixAT_bf16(Lanes.self, to, from, rows < matrixTile ? rows : matrixTile, $3, $4)
      to += panel
      from += matrixTile
      rows &-= matrixTile
    }
  }
  gemm.packB_bf16 = {
    packB_bf16(Lanes.self, $0, $1, $2, $3, $4)
    padMatrixB_bf16(Lanes.self, $0, $2, $3)
  }
  gemm.packBT_bf16 = {
    packBT_bf16(Lanes.self, $0, $1, $2, $3, $4)
    padMatrixB_bf16(Lanes.self, $0, $2, $3)
  }
  gemm.turnB_bf16 = {
    turnB_bf16(Lanes.self, $0, $1, $2, $3, $4)
    padMatrixB_bf16(Lanes.self, $0, $2, $3)
  }
}

private func install(_ integer: inout IntegerKernels) {
  integer.tile = Tile(rows: matrixTile, columns: matrixTile, lanes: Lanes.lanes, depth: 64)
  integer.strip_u8s8 = {
    var call = IntegerTileCall(
      $0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $17)
    let width = (call.columns &+ Lanes.lanes &- 1) / Lanes.lanes &* Lanes.lanes
    while call.rows > 0 {
      let rows = call.rows
      call.rows = rows < matrixTile ? rows : matrixTile
      multiplyMatrixTile_u8s8(Tiles.self, Lanes.self, call)
      call.rows = rows
      call.advance(matrixTile, $1, width, $16)
    }
  }
  integer.quantizeA_u8 = { quantizeMatrixA_u8(Lanes.self, $0, $1, $2, $3, $4, $5, $6) }
  integer.quantizeNormA_u8 = {
    quantizeMatrixNormA_u8(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8)
  }
  integer.packBT_s8 = {
    packBT_s8(Lanes.self, $0, $1, $2, $3, $4, $5)
    padMatrixB_s8(Lanes.self, $0, $3, $4)
  }
  integer.packB_s8 = {
    packB_s8(Lanes.self, $0, $1, $2, $3, $4, $5)
    padMatrixB_s8(Lanes.self, $0, $3, $4)
  }
}
