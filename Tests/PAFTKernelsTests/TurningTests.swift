// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

@Suite(.pooled) struct TurningTests {
  static let shapes = [
    (1, 1), (2, 1), (1, 2), (3, 9), (7, 64), (8, 8), (9, 16), (16, 5), (17, 33), (24, 23), (32, 64),
    (40, 63), (63, 40), (64, 64),
  ]

  @Test(
    "A turned part of a panel is the part that packing the weight itself gives",
    arguments: KernelTable.available)
  func turned(table: KernelTable) {
    for shape in Self.shapes {
      floats(table, shape)
      pairs(table, shape)
      quads(table, shape)
      Pool.current.drain()
    }
  }

  private func floats(_ table: KernelTable, _ shape: (Int, Int)) {
    let tile = table.gemm.tile_f32
    let (out, inputs) = (min(shape.0, tile.columns), min(shape.1, tile.columns))
    let w = Draw("w").matrix(out, inputs, stride: inputs)
    let source = Guarded<Float>(inputs * tile.width(out), filledWith: .nan)
    table.gemm.packBT_f32(source.pointer, w.pointer, out, inputs, inputs)
    let expected = Guarded<Float>(out * tile.width(inputs), filledWith: .nan)
    table.gemm.packB_f32(expected.pointer, w.pointer, inputs, out, inputs)
    let found = Guarded<Float>(expected.count, filledWith: .nan)
    table.gemm.turnB_f32(found.pointer, source.pointer, inputs, out, source.pointer)
    #expect(found.isIntact && source.isIntact)
    #expect(
      (0..<found.count).allSatisfy { found.pointer[$0] == expected.pointer[$0] },
      "\(table.name) f32 \(out)x\(inputs)")
  }

  private func pairs(_ table: KernelTable, _ shape: (Int, Int)) {
    let tile = table.gemm.tile_bf16
    let (out, inputs) = (min(shape.0, tile.columns), min(shape.1, tile.columns))
    let w = Draw("w").matrix(out, inputs, stride: inputs)
    let source = Guarded<UInt16>(tile.padded(inputs) * tile.width(out), filledWith: 0x7FFF)
    table.gemm.packBT_bf16(source.pointer, w.pointer, out, inputs, inputs)
    let expected = Guarded<UInt16>(tile.padded(out) * tile.width(inputs), filledWith: 0x7FFF)
    table.gemm.packB_bf16(expected.pointer, w.pointer, inputs, out, inputs)
    let found = Guarded<UInt16>(expected.count, filledWith: 0x7FFF)
    table.gemm.turnB_bf16(found.pointer, source.pointer, inputs, out, source.pointer)
    #expect(found.isIntact && source.isIntact)
    #expect(
      (0..<found.count).allSatisfy { found.pointer[$0] == expected.pointer[$0] },
      "\(table.name) bf16 \(out)x\(inputs)")
  }

  private func quads(_ table: KernelTable, _ shape: (Int, Int)) {
    let tile = table.integer.tile
    let (out, inputs) = (min(shape.0, tile.columns), min(shape.1, tile.columns))
    let w = Draw("w").matrix(out, inputs, stride: inputs)
    let (scale, inverse) = (
      Guarded<Float>(out, filledWith: .nan), Guarded<Float>(out, filledWith: .nan)
    )
    table.integer.quantizers_f32(scale.pointer, inverse.pointer, w.pointer, out, inputs, inputs)
    let source = Guarded<Int8>(tile.padded(inputs) * tile.width(out), filledWith: 0x55)
    table.integer.packBT_s8(
      source.pointer, w.pointer, inverse.pointer, out, inputs, inputs)
    let expected = Guarded<Int8>(tile.padded(out) * tile.width(inputs), filledWith: 0x55)
    table.integer.packB_s8(
      expected.pointer, w.pointer, inverse.pointer, inputs, out, inputs)
    // Padding beyond whole quads, as a tile unit has it, is the caller's.
    let found = Guarded<Int8>((out + 3) / 4 * 4 * tile.width(inputs), filledWith: 0x55)
    table.integer.turnB_s8(found.pointer, source.pointer, inputs, out, source.pointer)
    #expect(found.isIntact && source.isIntact)
    #expect(
      (0..<found.count).allSatisfy { found.pointer[$0] == expected.pointer[$0] },
      "\(table.name) int8 \(out)x\(inputs)")
  }
}
